"""Between the catalogue and the planner: what it is told of disks, and what a person should know of its plan."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore
from distbackupd.model.disks import BackupDisk
from distbackupd.model.events import Remark
from distbackupd.model.plans import DiskFacts, Plan, Policy
from distbackupd.model.text import printable, say_count, say_size
from distbackupd.planning.cycle import plan_cycle

_ENOUGH_COPIES = 1000
"""So many copies must have come, and none gone, before what they took beside their blocks is believed."""
_LEAST_OVERHEAD, _MOST_OVERHEAD = 64, 65536


def as_plugged(disk: BackupDisk, store: DiskStore) -> BackupDisk:
    """The disk with what its file system says of itself now."""
    space = store.space()
    return replace(disk, block_size=space.block_size, largest_file=space.largest_file)


def disk_facts(disk: BackupDisk) -> DiskFacts:
    """The disk as the planner sees it."""
    return DiskFacts(
        id=disk.id,
        capacity=disk.room,
        block_size=disk.block_size,
        largest_file=disk.largest_file,
        overhead=disk.overhead,
        place=disk.location,
        most_objects=disk.most_objects,
    )


def plan_session(bench: Bench, disk: BackupDisk, policy: Policy) -> Plan:
    """What a cycle would do now, on the disk as it is known."""
    objects = bench.catalogue.objects
    facts = disk_facts(disk)
    shelf = [facts if other.id == disk.id else disk_facts(other) for other in bench.catalogue.disks.all()]
    # The generation as seed: nothing changed, the same plan; a repeated session does not repeat an unlucky choice.
    rng = Random(bench.catalogue.generation())
    return plan_cycle(objects.facts(), objects.holder_sets(), facts, policy, bench.clock.now(), rng, shelf)


def remark_on(bench: Bench, disk: BackupDisk, plan: Plan) -> None:
    """Tell what the plan could not do, and what would help."""
    remarks = []
    if plan.crowded:
        objects = say_count(plan.unplaced_objects, "object")
        remarks.append(
            f"its file system has no inodes left for {objects} ({say_size(plan.unplaced_bytes)}), whatever room it has: "
            "keep it for large files, or format it with more inodes (mkfs.ext4 without -N and -T), or add another disk"
        )
    elif plan.unplaced_objects and disk.room < disk.capacity:
        remarks.append(
            f"its file system has {say_size(disk.capacity - disk.room)} less room for copies than its size says: remove "
            f"what else lies on it, or lower its size with 'dsb disk set {disk.name} --size'"
        )
    if plan.too_large:
        objects = say_count(plan.too_large, "object")
        remarks.append(f"its file system holds no file of {say_size(disk.largest_file + 1)}, {objects} cannot go there")
    if plan.fit_nowhere:
        path = printable(bench.catalogue.files.path_of_object(plan.fit_nowhere_ids[0]))
        more = f" and {plan.fit_nowhere - 1:,} more" if plan.fit_nowhere > 1 else ""
        remarks.append(f"{path}{more}: larger than any disk there is, so without a copy until a larger one is added")
    for remark in remarks:
        bench.reporter.tell(Remark(f"{disk.name}: {remark}"))


def measured_overhead(disk: BackupDisk, copies: int, footprint: int, room: int) -> int:
    """What an object takes beside its blocks, in bytes, rounded up: as it was believed, unless many copies have come.

    ``footprint``: what ``copies`` copies were expected to take; ``room``: what they took, as the file system told.
    """
    if copies < _ENOUGH_COPIES:
        return disk.overhead
    blocks = footprint - copies * disk.overhead
    each = -(-(room - blocks) // copies)
    return min(max(-(-each // 64) * 64, _LEAST_OVERHEAD), _MOST_OVERHEAD)
