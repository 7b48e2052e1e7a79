"""Room as a mounted disk has it: what its file system says now, less what must stay free.

What must stay free: so much that the catalogue's copy, which grows, can be written anew beside the old one; some blocks
and inodes for the file system's own tables, and for what is written before something else leaves. A default mkfs.ext4
keeps 5% for root, and a process may fill that or not, depending on what it may do; nobody relies on it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore, StagedCopy
from distbackupd.model.disks import BackupDisk, Space
from distbackupd.model.errors import DiskFull
from distbackupd.planning.inodes import FOLDERS, new_folders, objects_within

_MARGIN, _MARGIN_SHARE = 16 << 20, 64
"""Bytes that are left to the file system's own tables: so many, or this part of a small disk."""
_LEAST_BLOCKS = 16
_FILES_KEPT = 32
"""Inodes for the catalogue's copy and the leaflets beside their successors, and for what comes before something leaves."""
_CATALOGUE_SHARE = 4
"""Where old and new copy together take more than this part of the disk, there need not be room for both."""


class Room(NamedTuple):
    """What copies may take now: bytes, and for how many of them there surely are inodes (None: for all that fit)."""

    free: int
    objects: int | None


def room_on(bench: Bench, store: DiskStore) -> Room:
    """What copies may take on the disk now."""
    space = store.space()
    # A copy may be the first of its folder, as long as not all of these are there.
    each = 1 if space.folders >= FOLDERS else 2
    objects = None if space.free_files is None else max(0, space.free_files - _FILES_KEPT) // each
    return Room(max(0, space.free - _kept_free(space, bench.catalogue.size())), objects)


def commit_what_fits(store: DiskStore, staged: Sequence[StagedCopy]) -> tuple[frozenset[bytes], bool]:
    """Make staged copies durable; the digests of those that are not, and whether that is because the disk is full."""
    try:
        return store.commit(staged), False
    except DiskFull as full:
        if full.unplaced is not None:
            return full.unplaced, True
        store.discard(staged)
        return frozenset(copy.digest for copy in staged), True


def with_room(bench: Bench, disk: BackupDisk, store: DiskStore) -> BackupDisk:
    """The disk with the room that its file system has for objects now; what else it says of itself is recorded already."""
    space = store.space()
    held, used = bench.catalogue.disks.used(disk.id)
    free = space.free - _kept_free(space, bench.catalogue.size())
    coming = min(_lacking(bench, disk), max(0, free) // (space.block_size + disk.overhead))
    # The first object of a folder brings that along; where blocks are large, what objects take beside theirs is less.
    free -= new_folders(coming, space.folders) * max(0, space.block_size - disk.overhead)
    most_objects = 0
    if space.free_files is not None:
        most_objects = max(1, held + objects_within(space.free_files - _FILES_KEPT, space.folders))
    return replace(disk, fillable=used + max(0, free), most_objects=most_objects)


def shortage_on(bench: Bench, store: DiskStore) -> int:
    """Bytes by which less is free on the disk than must stay free: the catalogue has grown, or others write there."""
    space = store.space()
    return max(0, _kept_free(space, bench.catalogue.size()) - space.free)


def bytes_declined(bench: Bench, disk: BackupDisk, protect_copies: int = 2) -> int:
    """Bytes of living objects that have less than ``protect_copies`` and no copy on the disk."""
    objects = bench.catalogue.objects
    sets = objects.holder_sets()
    return sum(
        size - saturated
        for holders, _, size, saturated in objects.by_holders()
        if disk.id not in sets[holders] and len(sets[holders]) < protect_copies
    )


def _kept_free(space: Space, catalogue: int) -> int:
    """Bytes that no copy may take."""
    margin = max(min(_MARGIN, space.total // _MARGIN_SHARE), _LEAST_BLOCKS * space.block_size)
    grown = catalogue + catalogue // 8
    if 2 * grown > space.total // _CATALOGUE_SHARE:
        return margin + max(0, grown - space.catalogue)
    return margin + max(grown, 2 * grown - space.catalogue)


def _lacking(bench: Bench, disk: BackupDisk) -> int:
    """How many living objects the disk does not hold."""
    objects = bench.catalogue.objects
    sets = objects.holder_sets()
    return sum(count for holders, count, _, _ in objects.by_holders() if disk.id not in sets[holders])
