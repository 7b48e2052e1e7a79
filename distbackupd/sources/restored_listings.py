"""Under which names the folders of the destination list what was found in them.

Some file systems take names for one that are two elsewhere: they fold case (exFAT, NTFS, ext4 with casefold), know one
form of accents only, or drop trailing dots. What they really did is told by their own listings and by nothing else.
"""

from __future__ import annotations

import os
import stat
import threading
import unicodedata

_MOST_FOLDERS = 64
_MOST_NAMES = 300_000
"""So many names are kept; the folder at hand always is."""


class _Listing:
    def __init__(self, names: list[bytes]) -> None:
        self.names = frozenset(names)
        self.written: set[bytes] = set()
        self._alike: dict[str, list[bytes]] | None = None

    def alike(self, name: bytes) -> list[bytes]:
        """Names that may be what the folder finds as ``name``; which it is, its state tells."""
        if self._alike is None:
            self._alike = {}
            for listed in self.names:
                self._alike.setdefault(_folded(listed), []).append(listed)
        return self._alike.get(_folded(name), [])


class Listings:
    """Listings of folders, kept while one after the other is restored to. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[bytes, _Listing] = {}

    def stored(self, path: bytes, folder: int, name: bytes, state: os.stat_result) -> bytes | None:
        """The name under which the open folder at ``path`` lists what it finds as ``name``, and what looks like ``state``.

        Nearly always ``name`` itself. None: it lists nothing that could be it. A folder that cannot be listed is believed.
        """
        with self._lock:
            listing = self._kept.get(path)
            if listing is not None:
                if name in listing.names:
                    return name
                twin = None if name in listing.written else _same(folder, listing.alike(name), state)
                if twin is not None:
                    return twin
            try:
                listing = self._list(path, folder)
            except OSError:
                return name
            if name in listing.names:
                return name
            return _same(folder, listing.alike(name), state) or _with_inode(folder, listing.names, state)

    def wrote(self, path: bytes, name: bytes) -> None:
        """Something was written under this name since the folder was listed."""
        listing = self._kept.get(path)
        if listing is not None:
            listing.written.add(name)

    def forget(self) -> None:
        """Others may have changed everything meanwhile."""
        with self._lock:
            self._kept.clear()

    def _list(self, path: bytes, folder: int) -> _Listing:
        self._kept.pop(path, None)
        listing = _Listing(os.listdir(b"/proc/self/fd/%d" % folder))
        total = len(listing.names) + sum(len(kept.names) for kept in self._kept.values())
        for oldest in list(self._kept):
            if total <= _MOST_NAMES:
                break
            total -= len(self._kept.pop(oldest).names)
        self._kept[path] = listing
        return listing


class Presence:
    """What stands below other folders, under just the names that it is looked for. Not thread-safe."""

    def __init__(self) -> None:
        self._names: dict[bytes, frozenset[bytes] | None] = {}

    def has(self, root: bytes, path: bytes) -> bool:
        """Whether anything stands at the absolute ``path`` below ``root``, and each folder on the way lists its name so.

        A folder that cannot be listed is believed.
        """
        try:
            os.lstat(root + path)
        except (OSError, ValueError):
            return False
        folder = root
        for name in path.split(b"/")[1:]:
            names = self._listed(folder)
            if name and names is not None and name not in names:
                return False
            folder += b"/" + name
        return True

    def _listed(self, folder: bytes) -> frozenset[bytes] | None:
        if folder not in self._names:
            if len(self._names) >= _MOST_FOLDERS:
                self._names.clear()
            try:
                self._names[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._names[folder] = None
        return self._names[folder]


def _folded(name: bytes) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", os.fsdecode(name)).casefold()).rstrip(" .")


def _same(folder: int, names: list[bytes], state: os.stat_result) -> bytes | None:
    """That name whose entry looks like ``state``. Drivers in user space give each spelling an inode of its own."""
    for name in names:
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            continue
        if os.path.samestat(found, state) or _looks(found) == _looks(state):
            return name
    return None


def _looks(state: os.stat_result) -> tuple[int, ...]:
    """A folder's size and time change while it is restored to."""
    if stat.S_ISDIR(state.st_mode):
        return state.st_dev, stat.S_IFDIR
    return state.st_dev, stat.S_IFMT(state.st_mode), state.st_size, state.st_mtime_ns


def _with_inode(folder: int, names: frozenset[bytes], state: os.stat_result) -> bytes | None:
    for name in names:
        try:
            if os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), state):
                return name
        except OSError:
            continue
    return None
