"""Flushing one file system. umount(2) writes everything out too, but tells nobody when that failed.

A driver in user space writes to its device as any program does, and syncfs on what it mounted does not reach that: so at
last, when it has written all it had, the device itself is flushed.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def device_of(node: str) -> Iterator[int | None]:
    """A descriptor of a device while the context lasts; None where it cannot be opened, for it was pulled out or is none."""
    try:
        descriptor = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def flush_device(descriptor: int | None) -> None:
    """Wait until all that was written to an open device, and its own cache, is on its medium; nothing to do for None.

    Raises OSError.
    """
    if descriptor is not None:
        os.fsync(descriptor)
