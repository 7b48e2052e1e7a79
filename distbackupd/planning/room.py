"""How much of a disk's room objects may take, of what its file system says that it has.

What must stay free: so much that the catalogue's copy, which grows, can be written anew beside the old one; some blocks
and inodes for the file system's own tables, and for what is written before something else leaves. A default mkfs.ext4
keeps 5% for root, and a process may fill that or not, depending on what it may do; nobody relies on it here.
"""

from __future__ import annotations

from typing import NamedTuple

from distbackupd.model.disks import Space
from distbackupd.planning.inodes import new_folders, objects_within

_MARGIN, _MARGIN_SHARE = 16 << 20, 64
"""Bytes that are left to the file system's own tables: so many, or this part of a small disk."""
_LEAST_BLOCKS = 16
FILES_KEPT = 32
"""Inodes for the catalogue's copy and the leaflets beside their successors, and for what comes before something leaves."""
_CATALOGUE_SHARE = 4
"""Where old and new copy together take more than this part of the disk, there need not be room for both."""


class Reckoned(NamedTuple):
    """What a disk may hold: bytes of footprint, and so many objects (0: as many as there are bytes for)."""

    fillable: int
    most_objects: int


def kept_free(space: Space, catalogue: int) -> int:
    """Bytes that no copy may take, where the catalogue has so many."""
    margin = max(min(_MARGIN, space.total // _MARGIN_SHARE), _LEAST_BLOCKS * space.block_size)
    grown = catalogue + catalogue // 8
    if 2 * grown > space.total // _CATALOGUE_SHARE:
        return margin + max(0, grown - space.catalogue)
    return margin + max(grown, 2 * grown - space.catalogue)


def reckon(space: Space, catalogue: int, held: int, used: int, lacking: int, overhead: int) -> Reckoned:
    """Of a disk that holds ``held`` objects with a footprint of ``used``, and lacks so many that live.

    ``overhead``: what an object is believed to take beside its blocks. What is used already is never less than what it may
    be: if others took its room, nothing leaves for that alone.
    """
    free = space.free - kept_free(space, catalogue)
    coming = min(lacking, max(0, free) // (space.block_size + overhead))
    # The first object of a folder brings that along; where blocks are large, what objects take beside theirs is less.
    free -= new_folders(coming, space.folders) * max(0, space.block_size - overhead)
    most_objects = 0
    if space.free_files is not None:
        most_objects = max(1, held + objects_within(space.free_files - FILES_KEPT, space.folders))
    return Reckoned(used + max(0, free), most_objects)
