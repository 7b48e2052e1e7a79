"""What ``chattr`` sets and ``lsattr`` shows of files and folders: immutable, append-only, no dump and the like."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
from collections.abc import Callable, Iterator

from distbackupd.model.files import InodeFlag

_LONG = struct.calcsize("l")
_GET = 2 << 30 | _LONG << 16 | ord("f") << 8 | 1
_SET = 1 << 30 | _LONG << 16 | ord("f") << 8 | 2
_KEPT = int(InodeFlag.KEPT)  # operations of flag classes are slow, and this is done for each file that is hashed
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_flags(descriptor: int) -> InodeFlag:
    """Those of an open file or folder that are kept. Raises OSError where its file system has none."""
    found = _read(descriptor) & _KEPT
    return InodeFlag(found) if found else InodeFlag.NONE


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


class FlagNotes:
    """What a scan finds out about flags. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._without: set[int] = set()
        self._noted: dict[int, InodeFlag] = {}

    def of(self, open_it: Callable[[], int], device: int) -> InodeFlag:
        """Those of what ``open_it`` opens on a device; nothing where that cannot be found out, which devices remember."""
        if device in self._without:
            return InodeFlag.NONE
        try:
            descriptor = open_it()
        except OSError:
            return InodeFlag.NONE
        try:
            return read_flags(descriptor)
        except OSError:
            self._without.add(device)
            return InodeFlag.NONE
        finally:
            os.close(descriptor)

    def note(self, descriptor: int, ticket: int) -> None:
        """Note those of an open file under a number, if it has any."""
        with contextlib.suppress(OSError):
            found = read_flags(descriptor)
            if found:
                with self._lock:
                    self._noted[ticket] = found

    def take(self) -> dict[int, InodeFlag]:
        """What was noted since this was asked last."""
        with self._lock:
            noted, self._noted = self._noted, {}
        return noted


@contextlib.contextmanager
def opened(folder: int, name: bytes) -> Iterator[int]:
    """A descriptor of a regular file or a folder for these calls, no link followed. Raises OSError."""
    descriptor = os.open(name, _OPEN, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> int:
    return int(struct.unpack_from("I", fcntl.ioctl(descriptor, _GET, bytes(_LONG)))[0])


def _write(descriptor: int, flags: int) -> None:
    buffer = bytearray(_LONG)
    struct.pack_into("I", buffer, 0, flags)
    fcntl.ioctl(descriptor, _SET, bytes(buffer))
