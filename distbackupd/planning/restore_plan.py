"""What a restore needs, as a person is told it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from distbackupd.model.disks import BackupDisk
from distbackupd.planning.disk_choice import ReadableDisk, Share, choose_disks, total


class PlannedDisk(NamedTuple):
    """A disk's turn. ``seconds``: how long that takes at a speed that was measured, None where none was.

    ``replaceable``: what comes from it lies on other disks too.
    """

    disk: BackupDisk
    share: Share
    here: bool
    seconds: float | None
    replaceable: bool


class RestorePlan(NamedTuple):
    """The disks in their order; and what is on no disk that may be asked for, with the first of its names."""

    disks: tuple[PlannedDisk, ...]
    lost: Share
    lost_names: tuple[bytes, ...] = ()

    @property
    def share(self) -> Share:
        """All that comes from disks."""
        return total(planned.share for planned in self.disks)

    @property
    def seconds(self) -> float | None:
        """How long all of it takes; None if that is not known of each disk."""
        known = [planned.seconds for planned in self.disks if planned.seconds is not None]
        return sum(known) if known and len(known) == len(self.disks) else None


def plan_restore(
    wanted: Mapping[frozenset[int], Share],
    disks: Sequence[BackupDisk],
    here: Collection[int],
    freshness: Mapping[int, int],
    speeds: Mapping[int, float],
) -> RestorePlan:
    """The plan for what is still wanted, by who holds it. ``speeds``: measured bytes a second, by disk id."""
    known = {disk.id: disk for disk in disks}
    readable = [ReadableDisk(disk, disk in here, freshness.get(disk, 0)) for disk in known]
    turns, lost = choose_disks(wanted, readable)
    only_holders = {next(iter(able)) for holders in wanted if len(able := holders & set(known)) == 1}
    planned = [
        PlannedDisk(
            disk=known[disk],
            share=share,
            here=disk in here,
            seconds=share.size / speeds[disk] if speeds.get(disk) else None,
            replaceable=disk not in only_holders,
        )
        for disk, share in turns
    ]
    return RestorePlan(tuple(planned), lost)
