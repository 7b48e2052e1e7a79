"""Which entries of the virtual tree a restore means."""

from __future__ import annotations

import fnmatch
import heapq
import re
from collections.abc import Callable

from distbackupd.model.files import RestoreEntry
from distbackupd.model.sources import canonical_virtual_path

_WILDCARD = re.compile(rb"[*?\[]")


def matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """Whether a virtual path is meant: it matches the shell pattern itself, or lies below a folder that does.

    ``*`` and ``?`` match slashes too, ``?`` one character of UTF-8 (or one byte that is none): ``*.jpg`` means every
    JPEG, ``/photos`` that folder and all in it. A pattern that begins with neither a slash nor ``*`` is meant from the
    root. Slashes at its end do not matter.
    """
    text = _rooted(pattern).decode("utf-8", "surrogateescape")
    below = text.rstrip("/") + "/*"
    regex = re.compile(f"{fnmatch.translate(text)}|{fnmatch.translate(below)}")

    def matches(path: bytes) -> bool:
        return regex.match(path.decode("utf-8", "surrogateescape")) is not None

    return matches


def prefix(pattern: bytes) -> bytes:
    """The deepest virtual path at and below which everything lies that :func:`matcher` can mean."""
    rooted = _rooted(pattern)
    wildcard = _WILDCARD.search(rooted)
    if wildcard is None:
        return canonical_virtual_path(rooted)
    literal = rooted[: wildcard.start()].rpartition(b"/")[0]
    return canonical_virtual_path(literal)


def _rooted(pattern: bytes) -> bytes:
    rooted = pattern if pattern[:1] in (b"/", b"*") else b"/" + pattern
    return rooted.rstrip(b"/") or b"/"


class PassedFolders:
    """Folders that are not meant themselves, kept as long as something below them may be.

    Entries must come as :meth:`~distbackupd.engine.ports.FileTable.restore_entries` gives them. Holds the folders
    beside and above the present one, never all.
    """

    def __init__(self) -> None:
        self._folders: dict[bytes, RestoreEntry] = {}
        self._ends: list[tuple[bytes, bytes]] = []

    def add(self, folder: RestoreEntry) -> None:
        """Keep a folder that was passed over."""
        if folder.path not in self._folders:
            # What lies below a folder sorts before its path with the byte behind '/'.
            heapq.heappush(self._ends, (folder.path.rstrip(b"/") + b"0", folder.path))
        self._folders[folder.path] = folder

    def take_above(self, path: bytes) -> list[RestoreEntry]:
        """The kept folders above ``path``, from the root down, each only once."""
        if not self._folders:
            return []
        parent = path.rpartition(b"/")[0]
        while self._ends and self._ends[0][0] <= parent:
            self._folders.pop(heapq.heappop(self._ends)[1], None)
        taken = []
        while parent:
            if parent in self._folders:
                taken.append(self._folders.pop(parent))
            parent = parent.rpartition(b"/")[0]
        if b"/" in self._folders:
            taken.append(self._folders.pop(b"/"))
        return taken[::-1]
