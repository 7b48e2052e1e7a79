"""``dsb``: distbackup's commands, for a person at a terminal and for scripts.

``main`` entry, errors to exit codes · ``parser`` the words of the commands · ``session`` what a command works with ·
``sources``, ``disks``, ``backups``, ``restores``, ``recoveries``, ``adoptions``, ``reports``, ``status`` and others the
commands themselves · ``asking`` the daemon to
do them · ``following`` what it does then · ``completion`` of disk names and virtual paths · ``progress`` bars on a terminal,
plain lines in a pipe · ``output`` printing that no name can break.
"""
