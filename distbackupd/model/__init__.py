"""Frozen values, events and errors: the words of the program, without any doing.

``files`` what the virtual tree holds · ``sources`` where it comes from · ``disks`` what is plugged in and enrolled ·
``plans`` what a cycle is going to do and why · ``events`` what happened, in a sentence · ``errors`` what went
wrong, in a sentence, with an exit code · ``text`` sizes, times and paths as people say them.
"""
