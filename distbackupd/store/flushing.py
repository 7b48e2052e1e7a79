"""What it takes until written bytes survive a power cut, on each kind of file system.

``syncfs`` flushes a whole file system with one call. Through FUSE it does not reach the disk, so there every file and
folder is flushed by itself.
"""

from __future__ import annotations

import ctypes
import os

from distbackupd.store.folders import Folder
from distbackupd.store.plain_files import open_file

_libc = ctypes.CDLL(None, use_errno=True)


def flush_filesystem(descriptor: int) -> None:
    """Flush the file system of an open file; raises OSError, also for a write that failed since it was opened."""
    if _libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def flush_file(folder: Folder, name: bytes) -> None:
    """Flush one file of a folder; raises OSError."""
    descriptor = open_file(folder, name)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flushes_as_a_whole(filesystem_type: str) -> bool:
    """Whether ``flush_filesystem`` reaches the disk."""
    return not filesystem_type.startswith("fuse")
