"""Descriptors of the folders below one root, reached so that nothing can lead outside of it.

Each component is opened from the descriptor of the folder above it and no symbolic link is followed, so a link that
stands (or is raced) in the middle of a path ends the walk instead of leading it away. That also reaches paths of any
length.
"""

from __future__ import annotations

import contextlib
import os
import threading

from distbackupd.engine.ports import EntryRefused

_KEPT_OPEN = 48
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def checked_name(name: bytes) -> bytes:
    """``name``, if it names something in a folder. Raises EntryRefused for ``..`` and the like."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise EntryRefused("its path is none that may be written: it could lead outside the destination")
    return name


class ConfinedFolders:
    """Folders below ``root`` by virtual path. Thread-safe: each thread keeps some descriptors of its own open.

    Where others may rename things, a folder that was seen once must be the same one when its name is opened again.
    """

    def __init__(self, root: int) -> None:
        """``root`` is a descriptor, closed by :meth:`close`."""
        self._root = root
        self._local = threading.local()
        self._caches: list[dict[bytes, int]] = []
        self._seen: dict[int, tuple[int, int]] = {}
        """Device and inode by a hash of the path, which takes less room."""

    def must_stay(self, path: bytes, state: os.stat_result) -> None:
        """The folder at ``path`` is the one that looks so, and no other is opened in its place."""
        self._seen[hash(path)] = state.st_dev, state.st_ino

    def open(self, path: bytes, make: bool = False) -> int:
        """An ``O_PATH`` descriptor of the folder; it stays valid until this thread's next call.

        ``make``: what is missing on the way is made, for everybody to read. Raises NotADirectoryError where something else,
        such as a symbolic link, stands on the way; FileNotFoundError; EntryRefused; OSError.
        """
        cache = self._cache()
        descriptor = cache.get(path)
        return self._walk(cache, path, make) if descriptor is None else descriptor

    def forget(self) -> None:
        """Close every descriptor but that of the root; no other thread may be at work."""
        for cache in self._caches:
            for path in list(cache):
                descriptor = cache.pop(path)
                if descriptor != self._root:
                    os.close(descriptor)
        self._caches.clear()
        self._local = threading.local()

    def close(self) -> None:
        """Close them all."""
        self.forget()
        os.close(self._root)

    def _cache(self) -> dict[bytes, int]:
        cache: dict[bytes, int] | None = getattr(self._local, "cache", None)
        if cache is None:
            cache = self._local.cache = {b"/": self._root}
            self._caches.append(cache)
        return cache

    def _walk(self, cache: dict[bytes, int], path: bytes, make: bool) -> int:
        names = []
        known = path
        while known not in cache:
            known, _, name = known.rpartition(b"/")
            known = known or b"/"
            names.append(checked_name(name))
        descriptor = cache[known]
        for name in reversed(names):
            descriptor = _open_below(descriptor, name, make)
            known = (b"" if known == b"/" else known) + b"/" + name
            expected = self._seen.get(hash(known)) if self._seen else None
            if expected is not None and expected != _identity(descriptor):
                os.close(descriptor)
                raise EntryRefused("another folder took the place of the one above it meanwhile")
            cache[known] = descriptor
            if len(cache) > _KEPT_OPEN:
                # The first is the root, which stays; a walk only needs the folder it opened last.
                oldest = list(cache)[1]
                os.close(cache.pop(oldest))
        return descriptor


def _identity(descriptor: int) -> tuple[int, int]:
    state = os.fstat(descriptor)
    return state.st_dev, state.st_ino


def _open_below(descriptor: int, name: bytes, make: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=descriptor)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=descriptor)
    return os.open(name, _FOLDER, dir_fd=descriptor)
