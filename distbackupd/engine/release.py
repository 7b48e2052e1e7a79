"""Letting a disk go: when it may be unplugged, and what is told then."""

from __future__ import annotations

from collections.abc import Sequence

from distbackupd.engine.bench import Bench
from distbackupd.engine.door import locate, volumes_of
from distbackupd.model.disks import BackupDisk, Mount, Volume
from distbackupd.model.errors import DiskTrouble
from distbackupd.model.events import DriveInUse, DriveStillNeeded, MayUnplug, StillMounted
from distbackupd.model.text import join_words, printable


def say_farewell(
    bench: Bench, volume: Volume, mount: Mount, disks: Sequence[BackupDisk], power_off: bool, waiting: Sequence[Volume]
) -> None:
    """Sessions are over and what was mounted for them is unmounted: switch the drive off, and say what is true now.

    ``disks``: those whose sessions came to their end; for none there is nothing to say. ``waiting``: volumes that wait
    for sessions of their own; a drive that carries one of them stays on.
    """
    if not disks:
        return
    if not mount.ours:
        for disk in disks:
            bench.reporter.tell(StillMounted(disk.name, disk.uuid, printable(mount.root)))
        return
    next_disk = _next_on_drive(bench, volume, waiting)
    if next_disk:
        for disk in disks:
            bench.reporter.tell(DriveStillNeeded(disk.name, disk.uuid, next_disk))
        return
    _let_go(bench, volume, disks, power_off)


def eject(bench: Bench, disk: BackupDisk, power_off: bool = True) -> None:
    """Unmount the disk wherever it is mounted, whoever mounted it, lock it, switch it off, and say that it may go.

    Raises DiskTrouble: it is not here, or somebody holds it.
    """
    volumes = volumes_of(bench, disk)
    if not volumes:
        place = locate(bench, disk)
        where = f"; it lies in a folder of the file system at {printable(place[1].root)}" if place else ""
        raise DiskTrouble(f"'{disk.name}' is not plugged in, so there is nothing to eject{where}")
    for volume in volumes:
        bench.mounter.release(volume, disk.name)
    _let_go(bench, volumes[0], [disk], power_off)


def _let_go(bench: Bench, volume: Volume, disks: Sequence[BackupDisk], power_off: bool) -> None:
    """All is unmounted that is ours: switch the drive off, unless somebody uses something else on it."""
    others = join_words(bench.mounter.also_mounted(volume))
    is_off = not others and power_off and bench.mounter.power_off(volume)
    for disk in disks:
        told = DriveInUse(disk.name, disk.uuid, others) if others else MayUnplug(disk.name, disk.uuid, is_off)
        bench.reporter.tell(told)


def _next_on_drive(bench: Bench, volume: Volume, waiting: Sequence[Volume]) -> str:
    """The name of a disk on the same drive whose session is still to come; empty: there is none."""
    known = bench.catalogue.disks.all()
    for other in waiting:
        names = [disk.name for disk in known if disk.lies_on(other)]
        if names and other.device != volume.device and bench.mounter.share_drive(volume, other):
            return names[0]
    return ""
