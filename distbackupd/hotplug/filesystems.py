"""What each kind of file system needs to be mounted, and mount(8) and umount(8)."""

from __future__ import annotations

import logging
import os

from distbackupd.hotplug.commands import CommandFailed, Commands
from distbackupd.hotplug.mountinfo import MountLine, read_mountinfo
from distbackupd.model.text import printable

_log = logging.getLogger(__name__)

_EVERYWHERE = ("nosuid", "nodev", "noexec", "nosymfollow", "noatime")
"""Of the mount, whatever is on it: nothing there is started, no device opened, no link followed."""

_OPTIONS = {
    "ext2": ("errors=remount-ro",),
    "ext3": ("errors=remount-ro",),
    "ext4": ("errors=remount-ro",),
    "vfat": ("umask=0077",),
    "exfat": ("umask=0077",),
    "ntfs": ("umask=0077",),
}
"""More options by file system: a damaged ext shall not be written on; on what has no owners, root alone reads."""

_TYPES = {"ntfs": "ntfs3,ntfs", "exfat": "exfat,exfat-fuse"}
"""Types to try in this order, where mount's own choice is not the best: the kernel's driver, then that in user space."""


def mount(commands: Commands, device: str, folder: bytes, filesystem_type: str, read_only: bool) -> None:
    """Mount the device. Raises CommandFailed.

    Without ``read_only`` a write-protected device may still end up mounted read-only, without an error.
    """
    options = [*_EVERYWHERE, *_OPTIONS.get(filesystem_type, ()), *(["ro"] if read_only else [])]
    types = ["-t", _TYPES[filesystem_type]] if filesystem_type in _TYPES else []
    commands.run(["mount", *types, "-o", ",".join(options), "--", device, folder])


def harden(commands: Commands, line: MountLine) -> MountLine:
    """Give a fresh mount what its driver forgot, as those in user space do; the mount as it is then.

    Raises nothing: what an old kernel does not know it goes without.
    """
    if line.options.issuperset(os.fsencode(option) for option in _EVERYWHERE):
        return line
    options = [*_EVERYWHERE, *(["ro"] if b"ro" in line.options else [])]
    try:
        commands.run(["mount", "-o", ",".join(["remount", "bind", *options]), "--", line.mount_point])
    except CommandFailed as error:
        _log.info("%s keeps the options that it was mounted with: %s", printable(line.mount_point), printable(str(error)))
        return line
    return next((now for now in read_mountinfo() if now.mount_id == line.mount_id), line)


def unmount(commands: Commands, folder: bytes, lazily: bool = False) -> None:
    """Unmount what is mounted there. Raises CommandFailed: still in use, or not mounted.

    ``lazily`` is for a device that is gone: the mount disappears though files on it are open.
    """
    commands.run(["umount", *(["--lazy"] if lazily else []), "--", folder])


def lacking(filesystem_type: str) -> str:
    """What a person can do when no driver took it. mount(8) says so of an NTFS too that only the kernel's driver refused."""
    packages = {"ntfs": "ntfs-3g, or let Windows check and eject it (chkdsk /f)", "exfat": "exfat-fuse"}
    return f"install {packages.get(filesystem_type, 'what this system lacks to mount it')}"


def remedy(device: str, filesystem_type: str) -> str:
    """What a person can do when the file system is not clean enough to be mounted, or to be written."""
    if filesystem_type == "ntfs":
        return f"let Windows check and eject it (chkdsk /f), or run ntfsfix --clear-dirty {device}"
    checker = {"btrfs": "btrfs check", "xfs": "xfs_repair"}.get(filesystem_type, "fsck")
    return f"check it: {checker} {device}"
