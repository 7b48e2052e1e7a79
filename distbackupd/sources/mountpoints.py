"""Where something is mounted, for folders that a scan lists. Bind mounts too, which no device number tells."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Collection

_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")
_NOTHING: frozenset[bytes] = frozenset()


class MountPoints:
    """The kernel's list of mounts, read again whenever the kernel says that it changed. Not thread-safe."""

    def __init__(self) -> None:
        self._by_folder: dict[bytes, set[bytes]] | None = None
        self._news = select.poll()
        try:
            self._list = open("/proc/self/mountinfo", "rb", buffering=0)  # noqa: SIM115 - kept open: that is what is polled
            self._news.register(self._list, select.POLLPRI)
        except OSError:
            self._by_folder = {}

    def names_in(self, descriptor: int) -> Collection[bytes]:
        """Names in the open folder on which something is mounted."""
        return self._all().get(_path(descriptor), _NOTHING)

    def is_one(self, descriptor: int) -> bool:
        """Whether the open folder is the top of a mount."""
        folder, _, name = _path(descriptor).rpartition(b"/")
        return name in self._all().get(folder or b"/", _NOTHING)

    def _all(self) -> dict[bytes, set[bytes]]:
        # Asked before it is read: what changes meanwhile is news the next time.
        if self._news.poll(0) or self._by_folder is None:
            self._list.seek(0)
            self._by_folder = _parsed(self._list.readall())
        return self._by_folder


def _parsed(text: bytes) -> dict[bytes, set[bytes]]:
    found: dict[bytes, set[bytes]] = {}
    for line in text.splitlines():
        point = _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ", 5)[4])
        folder, _, name = point.rpartition(b"/")
        found.setdefault(folder or b"/", set()).add(name)
    return found


def _path(descriptor: int) -> bytes:
    """What the kernel calls the open folder, all links resolved; empty where that is too long to be told."""
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor)
    except OSError:
        return b""
