"""What ``chattr`` sets and ``lsattr`` shows of files and folders: immutable, append-only, no dump and the like."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator

from distbackupd.model.files import InodeFlag

_LONG = struct.calcsize("l")
_GET = 2 << 30 | _LONG << 16 | ord("f") << 8 | 1
_SET = 1 << 30 | _LONG << 16 | ord("f") << 8 | 2
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_flags(descriptor: int) -> InodeFlag:
    """Those of an open file or folder that are kept. Raises OSError where its file system has none."""
    return InodeFlag(_read(descriptor) & InodeFlag.KEPT)


def write_flags(descriptor: int, wanted: InodeFlag) -> InodeFlag:
    """Make the kept flags of an open file or folder the wanted ones; those that it did not take. Raises nothing."""
    try:
        present = _read(descriptor)
        if present & InodeFlag.KEPT == wanted:
            return InodeFlag.NONE
        base = present & ~InodeFlag.KEPT
        with contextlib.suppress(OSError):
            _write(descriptor, base | wanted)
        missing = wanted & ~_read(descriptor)
        # One flag that is unknown here keeps the others away too.
        for flag in missing:
            with contextlib.suppress(OSError):
                _write(descriptor, _read(descriptor) | flag)
        return InodeFlag(wanted & ~_read(descriptor))
    except OSError:
        return wanted


@contextlib.contextmanager
def opened(folder: int, name: bytes) -> Iterator[int]:
    """A descriptor of a regular file or a folder for these calls, no link followed. Raises OSError."""
    descriptor = os.open(name, _OPEN, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> int:
    buffer = bytearray(_LONG)
    fcntl.ioctl(descriptor, _GET, buffer)
    return int(struct.unpack_from("I", buffer)[0])


def _write(descriptor: int, flags: int) -> None:
    buffer = bytearray(_LONG)
    struct.pack_into("I", buffer, 0, flags)
    fcntl.ioctl(descriptor, _SET, bytes(buffer))
