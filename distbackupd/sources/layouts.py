"""What this program itself keeps in folders: never a source, or each backup would hold the ones before.

Only a folder with a backup disk's identity and objects is one's layout, and only the names that the layout has there are
left out: whatever else lies on that file system is backed up. The catalogue, and the folder of keys, are left out by what
they are, not by their names.
"""

from __future__ import annotations

import bisect
import os
import re
import stat
from collections.abc import Sequence

_IDENTITY = b"distbackup-disk.json"
_OBJECTS = b"distbackup-objects"
_ON_DISKS = re.compile(
    rb"distbackup-(disk\.json|session\.json|restore\.py)(\.new)?|distbackup-(objects|tmp)(\..*)?|bad-objects|"
    rb"distbackup\.sqlite([.-].*)?",
    re.DOTALL,
)
_RESTORE_SCRIPT = b"distbackup-restore.py"
_LEAFLET = b"README.txt"
"""Ours only beside the script."""
_CATALOGUE = b"distbackup.sqlite"
_BESIDE_CATALOGUE = re.compile(rb"distbackup\.sqlite([.-].*)?|(engine|distbackupd)\.lock|rescued", re.DOTALL)

_KEYS = b"keys"
_OF_THE_KEYS = b"/etc/distbackupd"
"""The service, which is not root, is not shown what lies there: to it the folder would be empty, and all keys deleted."""

OF_A_DISK = "belongs to the layout of a backup disk"
OF_THE_CATALOGUE = "belongs to the catalogue"
OF_THE_KEYS = "holds the keys of encrypted backup disks, of which copies belong elsewhere"


def own_names(descriptor: int, names: Sequence[bytes], catalogue: bytes) -> tuple[set[bytes], str]:
    """Which of the sorted names in an open folder are this program's own, and why; mostly none.

    ``catalogue``: the folder in which it lies, empty for nowhere. Asks the file system only where such names are met.
    """
    own: set[bytes] = set()
    why = ""
    if _holds(names, _IDENTITY) and _holds(names, _OBJECTS) and _is_layout(descriptor):
        own, why = {name for name in names if _ON_DISKS.fullmatch(name)}, OF_A_DISK
        if _RESTORE_SCRIPT in own and _holds(names, _LEAFLET):
            own.add(_LEAFLET)
    if catalogue and _holds(names, _CATALOGUE) and _is_same(descriptor, catalogue):
        own |= {name for name in names if _BESIDE_CATALOGUE.fullmatch(name)}
        why = why or OF_THE_CATALOGUE
    if _holds(names, _KEYS) and _is_same(descriptor, _OF_THE_KEYS):
        own.add(_KEYS)
        why = OF_THE_KEYS
    return own, why


def _holds(names: Sequence[bytes], name: bytes) -> bool:
    at = bisect.bisect_left(names, name)
    return at < len(names) and names[at] == name


def _is_layout(descriptor: int) -> bool:
    modes = [_mode(descriptor, name) for name in (_IDENTITY, _OBJECTS)]
    return stat.S_ISREG(modes[0]) and stat.S_ISDIR(modes[1])


def _mode(descriptor: int, name: bytes) -> int:
    try:
        return os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
    except OSError:
        return 0


def _is_same(descriptor: int, folder: bytes) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except OSError:
        return False
