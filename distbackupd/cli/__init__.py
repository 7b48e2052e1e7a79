"""``dsb``: distbackup's commands, for a person at a terminal and for scripts.

``main`` entry, errors to exit codes · ``parser`` the words of the commands · ``session`` what a command works with ·
``sources``, ``disks``, ``backups``, ``restores``, ``reports`` the commands themselves · ``completion`` of disk names and
virtual paths · ``progress`` bars on a terminal, plain lines in a pipe · ``output`` printing that no name can break.
"""
