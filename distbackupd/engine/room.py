"""Room as a mounted disk has it: what its file system says now, less what must stay free (see planning.room)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore, StagedCopy
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DiskFull
from distbackupd.planning.inodes import FOLDERS
from distbackupd.planning.room import FILES_KEPT, kept_free, reckon


class Room(NamedTuple):
    """What copies may take now: bytes, and for how many of them there surely are inodes (None: for all that fit)."""

    free: int
    objects: int | None


def room_on(bench: Bench, store: DiskStore) -> Room:
    """What copies may take on the disk now."""
    space = store.space()
    # A copy may be the first of its folder, as long as not all of these are there.
    each = 1 if space.folders >= FOLDERS else 2
    objects = None if space.free_files is None else max(0, space.free_files - FILES_KEPT) // each
    return Room(max(0, space.free - kept_free(space, bench.catalogue.size())), objects)


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
    held, used = bench.catalogue.disks.used(disk.id)
    reckoned = reckon(store.space(), bench.catalogue.size(), held, used, _lacking(bench, disk), disk.overhead)
    return replace(disk, fillable=reckoned.fillable, most_objects=reckoned.most_objects)


def shortage_on(bench: Bench, store: DiskStore) -> int:
    """Bytes by which less is free on the disk than must stay free: the catalogue has grown, or others write there."""
    space = store.space()
    return max(0, kept_free(space, bench.catalogue.size()) - space.free)


def bytes_declined(bench: Bench, disk: BackupDisk, protect_copies: int = 2) -> int:
    """Bytes of living objects that have less than ``protect_copies`` and no copy on the disk."""
    objects = bench.catalogue.objects
    sets = objects.holder_sets()
    return sum(
        size - saturated
        for holders, _, size, saturated in objects.by_holders()
        if disk.id not in sets[holders] and len(sets[holders]) < protect_copies
    )


def _lacking(bench: Bench, disk: BackupDisk) -> int:
    """How many living objects the disk does not hold."""
    objects = bench.catalogue.objects
    sets = objects.holder_sets()
    return sum(count for holders, count, _, _ in objects.by_holders() if disk.id not in sets[holders])
