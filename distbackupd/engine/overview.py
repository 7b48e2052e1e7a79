"""What is protected how well: the figures of ``dsb info`` and the line that a status shows."""

from __future__ import annotations

from dataclasses import dataclass, field

from distbackupd.engine.bench import Bench
from distbackupd.model.disks import BackupDisk
from distbackupd.model.text import say_count, say_size


@dataclass(frozen=True, slots=True)
class DiskOverview:
    """One disk: what it holds, its room (in bytes of footprint), and the bytes it holds by their number of copies."""

    disk: BackupDisk
    objects: int
    used: int
    free: int
    by_copies: dict[int, int]
    saturated: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Living objects by their number of copies: (objects, bytes, bytes of saturated ones)."""

    entries: int
    size: int
    by_copies: dict[int, tuple[int, int, int]]
    disks: list[DiskOverview] = field(default_factory=list)


def overview(bench: Bench) -> Overview:
    """The present state, from the catalogue alone."""
    sets = bench.catalogue.objects.holder_sets()
    by_copies: dict[int, tuple[int, int, int]] = {}
    by_disk: dict[int, dict[int, int]] = {}
    saturated_by_disk: dict[int, int] = {}
    for holders, objects, size, saturated in bench.catalogue.objects.by_holders():
        members = sets[holders]
        count = len(members)
        before = by_copies.get(count, (0, 0, 0))
        by_copies[count] = (before[0] + objects, before[1] + size, before[2] + saturated)
        for member in members:
            sizes = by_disk.setdefault(member, {})
            sizes[count] = sizes.get(count, 0) + size
            saturated_by_disk[member] = saturated_by_disk.get(member, 0) + saturated
    disks = []
    for disk in bench.catalogue.disks.all():
        held, used = bench.catalogue.disks.used(disk.id)
        disks.append(
            DiskOverview(disk, held, used, disk.capacity - used, by_disk.get(disk.id, {}), saturated_by_disk.get(disk.id, 0))
        )
    entries, size = bench.catalogue.files.count()
    return Overview(entries, size, dict(sorted(by_copies.items())), disks)


def idle_status(bench: Bench) -> str:
    """``idle; 412 GB in 98,765 files: 1.2 GB without a copy, 400 GB with one, 10.8 GB with two or more``."""
    sets = bench.catalogue.objects.holder_sets()
    none = one = more = 0
    for holders, _, size, _ in bench.catalogue.objects.by_holders():
        count = len(sets[holders])
        none, one, more = none + size * (count == 0), one + size * (count == 1), more + size * (count > 1)
    if not none + one + more:
        return "idle; nothing is scanned yet"
    disks = say_count(len(bench.catalogue.disks.all()), "disk")
    parts = [f"{say_size(none)} without a copy"] if none else []
    parts += [f"{say_size(one)} with one copy"] if one else []
    parts += [f"{say_size(more)} with two or more"] if more else []
    return f"idle; {say_size(none + one + more)} on {disks}: {', '.join(parts)}"
