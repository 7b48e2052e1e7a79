"""Flushing one file system. umount(2) writes everything out too, but tells nobody when that failed."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


def flush_filesystem(path: bytes) -> None:
    """Wait until all that was written to the file system at ``path`` has reached its device.

    Raises OSError when it cannot be opened, or when a write failed since the flush before.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(descriptor)
