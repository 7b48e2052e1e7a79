"""What becomes of objects whose copies on a disk turned out to be bad.

They are copied again from their sources in the same session. Where no source has them, other disks may: then nothing is
lost, and they stay where they are. A disk that is plugged in later cannot be asked for them now, one disk is here at a
time; but what a rotten source file needs is fetched from the next disk that has it (:mod:`distbackupd.engine.rescuing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from distbackupd.engine.bench import Bench
from distbackupd.engine.execution import Executor
from distbackupd.engine.ports import DiskStore, Stop
from distbackupd.engine.room import with_room
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.disks import BackupDisk
from distbackupd.model.events import ContentLost, CopiesMended
from distbackupd.model.plans import Copy, Plan, Reason


@dataclass(frozen=True, slots=True)
class Mending:
    """Of the objects with bad copies: so many are copied again, only on other disks now, nowhere any more."""

    copied: int = 0
    elsewhere: int = 0
    lost: int = 0


def mend_copies(bench: Bench, disk: BackupDisk, executor: Executor, bad: Sequence[int]) -> Mending:
    """Copy the objects again whose bad copies were struck, and tell what came of it. Raises DiskTrouble, Interrupted.

    ``executor`` works on the same disk.
    """
    if not bad:
        return Mending()
    objects = bench.catalogue.objects
    holders, digests = objects.holders(bad), objects.digests(bad)
    copies = tuple(Copy(item, digests[item][1], len(holders[item]), Reason.BAD_COPY) for item in bad)
    _, used = bench.catalogue.disks.used(disk.id)
    executor.run(Plan(copies=copies, used_before=used))
    holders = objects.holders(bad)
    # What the disk could not take has a source that gave it.
    lost = [item for item in bad if not holders[item] and item not in executor.done.unplaced]
    copied = sum(disk.id in holders[item] for item in bad)
    if copied:
        bench.reporter.tell(CopiesMended(disk.name, disk.uuid, copied))
    if lost:
        path = bench.catalogue.files.path_of_object(lost[0])
        bench.reporter.tell(ContentLost(disk.name, disk.uuid, len(lost), path))
    return Mending(copied, len(bad) - copied - len(lost), len(lost))


def mend_disk(bench: Bench, disk: BackupDisk, store: DiskStore, bad: Sequence[int], stop: Stop) -> Mending:
    """The same on a mounted disk that has no session. Raises DiskTrouble, Interrupted; the next session clears up then."""
    if not bad:
        return Mending()
    store.prepare()
    bench.catalogue.disks.update(replace(disk, clean=False))
    tree = VirtualTree(bench.catalogue.sources.all(), bench.catalogue.sources.settings())
    disk = with_room(bench, disk, store)
    executor = Executor(bench, disk, store, tree, stop)
    mending = mend_copies(bench, disk, executor, bad)
    bench.catalogue.disks.update(disk)
    return mending
