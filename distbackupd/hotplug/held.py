"""A device that is held open, so that what is done to its node is done to the disk that was meant."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.commands import Commands
from distbackupd.hotplug.devices import probe_properties
from distbackupd.model.disks import Volume
from distbackupd.model.errors import DiskGone, DiskTrouble
from distbackupd.model.text import printable


@contextmanager
def held(volume: Volume, name: str) -> Iterator[int]:
    """The number of the volume's device, which no other disk gets while the context lasts, whatever is plugged.

    The kernel gives a node and a number away again when nobody has the device open any more: so it is opened, and only
    then looked at. It is a block device, the one that sysfs lists under that node, and its UUID is read from itself once
    more: udev's word may be older than the disk. This process must be allowed to read the device.

    Raises:
        DiskGone: it was pulled out, or another device has its node.
        DiskTrouble: it cannot be read, or carries another file system than was told.
    """
    told = f"{printable(name)} ({volume.device})"
    try:
        # Never waits (O_NONBLOCK), and does not keep checkers out, which ask for the device alone (O_EXCL).
        descriptor = os.open(volume.device, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if sysfs.is_gone(sysfs.number_of(volume.device)):
            raise DiskGone(f"{told} was pulled out before it was looked at; plug it in again") from error
        raise DiskTrouble(f"{told} cannot be read: {error.strerror}; nothing was touched") from error
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISBLK(state.st_mode) or state.st_rdev != sysfs.number_of(volume.device):
            raise DiskGone(f"{told} is another device now; nothing was touched: plug it in again")
        if probe_properties(volume.device, Commands()).get("ID_FS_UUID") != volume.filesystem_uuid:
            if sysfs.is_gone(state.st_rdev):
                raise DiskGone(f"{told} was pulled out before it was looked at; plug it in again")
            raise DiskTrouble(
                f"{told} does not carry the file system that udev told of ({printable(volume.filesystem_uuid)}); "
                "nothing was touched: plug it in again, and if it stays so, check it"
            )
        yield state.st_rdev
    finally:
        os.close(descriptor)
