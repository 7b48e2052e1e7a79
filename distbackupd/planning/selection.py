"""Which entries of the virtual tree a restore means."""

from __future__ import annotations

import fnmatch
import heapq
import re
from collections.abc import Callable, Collection, Sequence

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


class Selection:
    """What several patterns mean together; without a pattern everything.

    ``literally``: those of them that are names as they stand, whatever characters they have. Raises UsageError for a
    pattern that no virtual path can match.
    """

    def __init__(self, patterns: Sequence[bytes] = (), literally: Collection[bytes] = ()) -> None:
        self._plain = plain = {pattern: pattern in literally or not _WILDCARD.search(pattern) for pattern in patterns}
        prefixes = {pattern: canonical_virtual_path(pattern) if plain[pattern] else prefix(pattern) for pattern in patterns}
        everywhere = set(prefixes.values()) if patterns else {b"/"}
        self.roots = sorted(root for root in everywhere if not any(is_below(root, other) for other in everywhere))
        """Virtual paths at and below which all of it lies; none of them lies below another."""
        self.is_plain = all(plain.values())
        """Whether all that lies at and below the roots is meant."""
        self._matchers = {
            root: [
                _literal_matcher(prefixes[pattern]) if plain[pattern] else matcher(pattern)
                for pattern in patterns
                if prefixes[pattern] == root or is_below(prefixes[pattern], root)
            ]
            for root in self.roots
            if not any(plain[pattern] and prefixes[pattern] == root for pattern in patterns)
        }

    def takes_literally(self, pattern: bytes) -> bool:
        """Whether one of its patterns is a name as it stands."""
        return self._plain[pattern]

    def matcher_below(self, root: bytes) -> Callable[[bytes], bool] | None:
        """Tells which paths at and below one of the roots are meant; None: all."""
        matchers = self._matchers.get(root)
        if not matchers:
            return None
        return lambda path: any(matches(path) for matches in matchers)


def is_below(path: bytes, folder: bytes) -> bool:
    """Whether the path lies in the folder, at any depth, and is not the folder itself."""
    return path != folder and path.startswith(folder.rstrip(b"/") + b"/")


def has_wildcard(pattern: bytes) -> bool:
    """Whether it is a shell pattern, and not only the name of a file or folder."""
    return _WILDCARD.search(pattern) is not None


def _literal_matcher(path: bytes) -> Callable[[bytes], bool]:
    return lambda met: met == path or is_below(met, path)


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
