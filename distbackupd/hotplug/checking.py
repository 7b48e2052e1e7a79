"""Whether a disk is fit for use. What was not left clean is mended before it is mounted, where nobody must be asked.

xfs and btrfs replay their logs when they are mounted; the drivers of NTFS refuse, or mount read-only, what Windows has
to check first.
"""

from __future__ import annotations

import logging

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.commands import CommandFailed, Commands, condense, is_installed
from distbackupd.hotplug.filesystems import remedy
from distbackupd.hotplug.mountinfo import MountLine
from distbackupd.model.disks import Mount, Volume
from distbackupd.model.errors import DiskGone, DiskReadOnly, DiskTrouble
from distbackupd.model.text import printable

_log = logging.getLogger(__name__)

_CHECKERS = {
    "ext2": ("e2fsck", "-p"),
    "ext3": ("e2fsck", "-p"),
    "ext4": ("e2fsck", "-p"),
    "vfat": ("fsck.vfat", "-a"),
    "exfat": ("fsck.exfat", "-p"),
}
"""Each in the form that mends what is safe to mend, without asking."""

_JOURNALLED = ("ext3", "ext4", "xfs", "btrfs")

_MENDED = 1
_NOT_MENDED = 4


def check(commands: Commands, volume: Volume, name: str) -> str:
    """Mend the unmounted volume if it was not left clean; what was done, as the end of a sentence; empty: nothing.

    A clean one takes one short read. Where nothing can be written, or the checker is not installed or does not know the
    file system, nothing is done: whether it can be mounted, the driver says.

    Raises:
        DiskGone: it was pulled out.
        DiskTrouble: it is damaged in a way that needs a person.
    """
    checker = _CHECKERS.get(volume.filesystem_type)
    if checker is None or not is_installed(checker[0]) or sysfs.is_write_protected(volume.device):
        return ""
    try:
        if not _may_be_dirty(commands, volume):
            return ""
        done = commands.attempt([*checker, volume.device])
    except CommandFailed as error:
        _log.info("%s is mounted unchecked: %s", printable(name), printable(str(error)))
        return ""
    if done.status == _MENDED:
        return f"its file system was not left clean, {checker[0]} mended it"
    if done.status and sysfs.is_gone(sysfs.number_of(volume.device)):
        raise DiskGone(f"{printable(name)} was pulled out while it was checked; plug it in again")
    if done.status & _NOT_MENDED and b"unsupported feature" not in done.complaints + done.output:
        raise DiskTrouble(
            f"{printable(name)} ({volume.device}) has a damaged file system that {checker[0]} does not mend without asking; "
            f"it was not mounted: run {checker[0]} {volume.device} and answer it, then plug it in again"
        )
    if done.status:
        # What an old checker does not know, the driver may know well.
        said = printable(condense(done.complaints or done.output))
        _log.info("%s is mounted unchecked: %s", printable(name), said)
    return ""


def refuse_read_only(mount: Mount, line: MountLine, name: str) -> None:
    """Raises DiskReadOnly, if it is, with the reason as far as it can be known."""
    if not line.read_only:
        return
    place = printable(mount.root)
    if sysfs.is_write_protected(mount.device):
        raise DiskReadOnly(
            f"{printable(name)} can only be read, nothing was changed on it: it has a write-protection switch that is on; "
            "turn it off and plug it in again"
        )
    if mount.ours:
        # A checker has mended it, or the driver may have replayed its journal.
        changed = mount.remark or mount.filesystem_type in _JOURNALLED
        kept = "nothing was backed up to it" if changed else "nothing was changed on it"
        raise DiskReadOnly(
            f"{printable(name)} can only be read, {kept}: its file system was not left clean; "
            f"{remedy(mount.device, mount.filesystem_type)}, then plug it in again"
        )
    if line.filesystem_is_read_only:
        raise DiskReadOnly(
            f"{printable(name)} is mounted read-only at {place}, nothing was changed on it; unmount it and plug it in again"
        )
    raise DiskReadOnly(
        f"{printable(name)} is mounted at {place}, where this program may not write, nothing was changed on it; unmount it "
        f"and plug it in again, or let the service write there: 'systemctl edit distbackupd', ReadWritePaths={place}"
    )


def _may_be_dirty(commands: Commands, volume: Volume) -> bool:
    """Whether the driver's own mark that it has not finished is set. The checkers of FAT and exFAT always read it all."""
    if volume.filesystem_type not in {"vfat", "exfat"}:
        return True
    boot = commands.run(["head", "--bytes=512", "--", volume.device]).ljust(512, b"\xff")
    if volume.filesystem_type == "exfat":
        return bool(boot[0x6A] & 2)
    is_fat32 = boot[0x16:0x18] == b"\0\0"
    return bool(boot[0x41 if is_fat32 else 0x25] & 1)
