"""Which files of a folder somebody opens: what a program really read, not what it says."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OPENED, _IS_FOLDER = 0x20, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class OpenedFiles:
    """Names of the files that were opened so far."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._names: set[str] = set()

    def names(self) -> set[str]:
        """Each name once."""
        while True:
            try:
                events = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return self._names
            while events:
                _, mask, _, length = struct.unpack_from("iIII", events)
                if not mask & _IS_FOLDER:
                    self._names.add(os.fsdecode(events[16 : 16 + length].rstrip(b"\0")))
                events = events[16 + length :]


@contextmanager
def opened_files(folder: Path) -> Iterator[OpenedFiles]:
    """Look on while this lasts; not below sub-folders."""
    descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    try:
        assert _libc.inotify_add_watch(descriptor, os.fsencode(folder), _OPENED) >= 0, os.strerror(ctypes.get_errno())
        yield OpenedFiles(descriptor)
    finally:
        os.close(descriptor)
