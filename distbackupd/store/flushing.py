"""What it takes until written bytes survive a power cut, on each kind of file system.

``syncfs`` flushes a whole file system with one call. Through FUSE it does not reach the disk, so there every file and
folder is flushed by itself, and then the device. Whether a driver in user space is at work only the mounted file system
knows: udev tells what lies on the device, which for NTFS and exFAT says nothing of that.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from distbackupd.store.folders import Folder
from distbackupd.store.plain_files import open_file

_libc = ctypes.CDLL(None, use_errno=True)
_FUSE = 0x65735546
_STATFS_BYTES = 256
"""More than ``struct statfs`` has on any architecture; it begins with the type."""
_FLUSH_THEIR_DEVICE = frozenset({"ext3", "ext4", "xfs", "btrfs", "bcachefs", "f2fs"})
"""``syncfs`` makes these empty the disk's own cache; others (FAT, exFAT, NTFS in the kernel) do that for fsync alone."""


def is_in_user_space(descriptor: int) -> bool:
    """Whether a driver in user space is behind the open file. Raises OSError."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(descriptor, buffer) != 0:
        raise _error()
    return int(ctypes.c_long.from_buffer(buffer).value) == _FUSE


def flush_filesystem(descriptor: int, filesystem_type: str) -> None:
    """Flush the kernel's file system of an open folder; raises OSError, also for a write that failed since it was opened."""
    if _libc.syncfs(descriptor) != 0:
        raise _error()
    if filesystem_type not in _FLUSH_THEIR_DEVICE:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # where a folder cannot be flushed by itself, that was all there is
                raise


def flush_file(folder: Folder, name: bytes) -> None:
    """Flush one file of a folder; raises OSError."""
    descriptor = open_file(folder, name)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_device(device: str) -> None:
    """Flush what drivers in user space wrote to their device, if this user may; raises OSError for a write that failed."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # the daemon's sandbox keeps it from devices; there it is all that the driver flushed each file
    try:
        if stat.S_ISBLK(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
