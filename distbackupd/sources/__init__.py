"""The real folders and files: walking, reading, hashing and watching sources; writing a restored tree.

``tree`` lists folders with the whole metadata of their entries and reads files · ``sidecar`` what ``.meta-inf`` side
files say · ``paths`` paths of any length · ``watcher`` what changes while the daemon runs · ``target`` a restored tree.

Names and paths are bytes. Trouble with one file or folder is a ``SourceTrouble`` that says what to do.
"""
