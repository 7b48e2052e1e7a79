"""The kernel's list of mounts, ``/proc/self/mountinfo``, parsed."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import NamedTuple

from distbackupd.hotplug import sysfs

_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")

_READ_ONLY_OPTIONS = frozenset({b"ro", b"emergency_ro", b"shutdown"})
"""Of the file system. The last two show on ext4 that has met errors, beside an ``rw``."""

_NEVER_DISKS = frozenset({b"squashfs", b"erofs", b"iso9660", b"cramfs", b"romfs"})
"""Read-only images on block devices: snaps, live systems, CDs."""

_SEVERAL_DEVICES = frozenset({b"btrfs", b"bcachefs"})
"""Their device number is anonymous, and the source names one of their devices: the kernel looked at it. A user's own FUSE
mount may call itself anything, such as ``/dev/sdb1``."""

_WITHOUT_DEVICE_NUMBER = frozenset({b"btrfs", b"zfs", b"bcachefs", b"overlay", b"tmpfs"})
"""Local file systems whose device number is anonymous, like those of network and pseudo file systems."""


_ON_ANONYMOUS_NUMBERS = frozenset({b"btrfs", b"bcachefs"})
"""Those of these that lie on block devices, which they name as their source."""


class MountLine(NamedTuple):
    """One mount. ``root`` is what of the file system is mounted: ``/``, or a folder of it (bind mounts, subvolumes).

    ``device_number`` is anonymous (its major is 0) for btrfs, overlay, network and pseudo file systems. ``options`` are
    those of the mount, ``filesystem_options`` those of the file system, wherever it is mounted.
    """

    mount_id: int
    device_number: int
    root: bytes
    mount_point: bytes
    options: frozenset[bytes]
    filesystem_type: bytes
    source: bytes
    filesystem_options: frozenset[bytes]

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written through this mount."""
        return b"ro" in self.options or self.filesystem_is_read_only

    @property
    def filesystem_is_read_only(self) -> bool:
        """Whether nothing can be written through any mount. If not, another one, or one outside a sandbox, may do."""
        return not self.filesystem_options.isdisjoint(_READ_ONLY_OPTIONS)

    @property
    def could_hold_a_disk(self) -> bool:
        """Whether this is a local file system that keeps files: asking it for its room never waits for a network."""
        if self.filesystem_type in _NEVER_DISKS:
            return False
        return os.major(self.device_number) != 0 or self.filesystem_type in _WITHOUT_DEVICE_NUMBER

    @property
    def is_on_device(self) -> bool:
        """Whether the kernel says so, and not a text that who mounted it has chosen, as for FUSE."""
        return bool(os.major(self.device_number)) or (
            self.filesystem_type in _ON_ANONYMOUS_NUMBERS and self.block_number != 0
        )

    @property
    def mounted_by(self) -> int:
        """The user who mounted it, where that can be another than root: FUSE."""
        told = next((option for option in self.filesystem_options if option.startswith(b"user_id=")), b"user_id=0")
        return int(told[8:]) if told[8:].isdigit() else 0

    @property
    def block_number(self) -> int:
        """The number of the block device behind it, 0 where there is none: btrfs has an anonymous one of its own."""
        if os.major(self.device_number):
            return self.device_number
        return sysfs.number_of(os.fsdecode(self.source)) if self._has_device else 0

    @property
    def device(self) -> str:
        """The device's node as udev names it (``/dev/dm-0``, not ``/dev/mapper/music``).

        Else the kernel's word for it; the type of a file system that names a device which it has not.
        """
        if self.source.startswith(b"/dev/") and not self._has_device:
            return os.fsdecode(self.filesystem_type)
        return sysfs.device_of(self.block_number) or os.fsdecode(self.source)

    @property
    def is_dead(self) -> bool:
        """Whether the device behind it was pulled out."""
        return self._has_device and sysfs.is_gone(self.block_number)

    @property
    def _has_device(self) -> bool:
        if os.major(self.device_number):
            return True
        return self.filesystem_type in _SEVERAL_DEVICES and self.source.startswith(b"/dev/")

    @property
    def is_visible(self) -> bool:
        """Whether the mount point leads there, and not to something mounted over it."""
        try:
            return mount_id_of(self.mount_point) == self.mount_id
        except FileNotFoundError:
            return False
        except OSError:
            return True  # a failing disk is still mounted there


def read_mountinfo() -> list[MountLine]:
    """The mounts that this process sees, in the order they were made: of equal mount points the last is in force."""
    with open("/proc/self/mountinfo", "rb") as mountinfo:
        return parse_mountinfo(mountinfo.read())


def parse_mountinfo(text: bytes) -> list[MountLine]:
    """The lines of a mountinfo file; what is no such line is left out."""
    return [line for raw in text.split(b"\n") if (line := _parse_line(raw))]


def unescape(field: bytes) -> bytes:
    """A field with the kernel's octal escapes (``\\040`` for a space) turned back into bytes."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field)


def mount_id_of(path: bytes) -> int:
    """The id of the mount that an existing path lies on, exact also for btrfs, bind and stacked mounts.

    Raises OSError if the path cannot be reached.
    """
    try:
        # Opened for reading, so that an automount point is mounted first.
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (NotADirectoryError, PermissionError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as fdinfo:
            return next(int(line.split()[1]) for line in fdinfo if line.startswith(b"mnt_id:"))
    finally:
        os.close(descriptor)


def unlisted_root(mount_id: int) -> MountLine | None:
    """The mount of ``/`` where that is no mount point, as in a chroot, and so is not listed; None: it is another mount.

    What only the list tells, its type and source, is taken from the list of PID 1 if that may be read and knows it.
    """
    if mount_id_of(b"/") != mount_id:
        return None
    root = os.stat(b"/")
    read_only = os.statvfs(b"/").f_flag & os.ST_RDONLY
    elsewhere = None
    with suppress(OSError), open("/proc/1/mountinfo", "rb") as mountinfo:
        elsewhere = next((line for line in parse_mountinfo(mountinfo.read()) if line.mount_id == mount_id), None)
    return MountLine(
        mount_id=mount_id,
        device_number=root.st_dev,
        root=b"/",
        mount_point=b"/",
        options=frozenset({b"ro" if read_only else b"rw"}),
        filesystem_type=elsewhere.filesystem_type if elsewhere else b"",
        source=elsewhere.source if elsewhere else b"",
        filesystem_options=elsewhere.filesystem_options if elsewhere else frozenset(),
    )


def _parse_line(raw: bytes) -> MountLine | None:
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    mount, separator, filesystem = raw.partition(b" - ")
    fields, about = mount.split(b" "), filesystem.split(b" ")
    if not separator or len(fields) < 6 or len(about) < 2:
        return None
    try:
        mount_id, (major, minor) = int(fields[0]), map(int, fields[2].split(b":"))
        device_number = os.makedev(major, minor)
        os.major(device_number)  # what makedev makes of negative numbers is none
    except (ValueError, OverflowError):
        return None
    return MountLine(
        mount_id=mount_id,
        device_number=device_number,
        root=unescape(fields[3]),
        mount_point=unescape(fields[4]),
        options=frozenset(fields[5].split(b",")),
        filesystem_type=unescape(about[0]),
        source=unescape(about[1]),
        filesystem_options=frozenset(about[2].split(b",") if len(about) > 2 else []),
    )
