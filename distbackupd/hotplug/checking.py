"""File systems that were not left clean are mended before they are mounted, where that needs nobody's answer.

xfs and btrfs replay their logs when they are mounted; the drivers of NTFS refuse, or mount read-only, what Windows has
to check first.
"""

from __future__ import annotations

import logging

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.commands import CommandFailed, Commands, condense, is_installed
from distbackupd.model.disks import Volume
from distbackupd.model.errors import DiskGone, DiskTrouble
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

_DIRTY_FLAGS = {"vfat": ((0x41, 0x01), (0x25, 0x01)), "exfat": ((0x6A, 0x02),)}
"""Offset and bit of the flag that the driver sets while it writes. Their checkers know no short cut, they read it all."""

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
    if done.status & _NOT_MENDED:
        raise DiskTrouble(
            f"{printable(name)} ({volume.device}) has a damaged file system that {checker[0]} does not mend without asking; "
            f"it was not mounted: run {checker[0]} {volume.device} and answer it, then plug it in again"
        )
    if done.status:
        # Features that an old checker does not know, the driver may know well.
        said = printable(condense(done.complaints or done.output))
        _log.info("%s is mounted unchecked: %s", printable(name), said)
    return ""


def _may_be_dirty(commands: Commands, volume: Volume) -> bool:
    flags = _DIRTY_FLAGS.get(volume.filesystem_type)
    if flags is None:
        return True
    first = commands.run(["head", "--bytes=512", "--", volume.device])
    return len(first) < 512 or any(first[offset] & bit for offset, bit in flags)
