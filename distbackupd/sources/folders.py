"""Opening what lies below sources, where anybody may exchange a folder for a link at any moment: no link is followed.

A folder is opened by its name in the open folder above it, as far as that was kept open; else from its root on. So the
depth of a tree costs neither descriptors nor time.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator

from distbackupd.beneath import open_beneath
from distbackupd.model.sources import RealPath
from distbackupd.sources.paths import open_path

_MOST_KEPT = 32
_NEAR = 4
"""So many folders upwards one is looked for that is open."""
_AT_ONCE = 4000
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NOWHERE = (b"", b"", -1)
_ALWAYS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class OpenFolders(threading.local):
    """Each thread has its own. Nothing is kept open but within :meth:`kept`, and then no more than some dozen folders."""

    def __init__(self) -> None:
        self._kept: OrderedDict[RealPath, int] | None = None
        self._last: tuple[bytes, bytes, int] = _NOWHERE
        """The folder in which something was opened last: its root, its path below that, its descriptor."""

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep folders open for what is opened next, while the context lasts, in this thread."""
        if self._kept is not None:
            yield
            return
        self._kept = OrderedDict()
        try:
            yield
        finally:
            kept, self._kept, self._last = self._kept, None, _NOWHERE
            for descriptor in kept.values():
                os.close(descriptor)

    def open(self, place: RealPath, flags: int) -> int:
        """A descriptor of what lies there; never waits, and closes on exec. What it is, is to be looked at.

        Raises OSError: ELOOP or ENOTDIR where a link stands in what lies below the root.
        """
        if not place.below:
            return open_path(place.root, flags | os.O_CLOEXEC | (0 if flags & os.O_PATH else os.O_NONBLOCK))
        if self._kept is not None:
            above, _, name = place.below.rpartition(b"/")
            top, folder, descriptor = self._last
            if folder != above or top != place.root:
                descriptor = self._folder(self._kept, RealPath(place.root, above))
                self._last = place.root, above, descriptor
            return os.open(name, flags | _ALWAYS, dir_fd=descriptor)
        root = open_path(place.root, _FOLDER)
        try:
            return _open_below(root, place.below, flags)
        finally:
            os.close(root)

    def open_folder(self, place: RealPath) -> int:
        """A descriptor of the folder there, to list it; the caller closes it. Raises OSError."""
        descriptor = self.open(place, os.O_RDONLY | os.O_DIRECTORY)
        if self._kept is not None:
            self._keep(self._kept, place, os.dup(descriptor))
        return descriptor

    def _folder(self, kept: OrderedDict[RealPath, int], place: RealPath) -> int:
        descriptor = kept.get(place)
        if descriptor is not None:
            kept.move_to_end(place)
            return descriptor
        if not place.below:
            return self._keep(kept, place, open_path(place.root, _FOLDER))
        base = place.folder
        for _ in range(_NEAR):
            if not base.below or base in kept:
                break
            base = base.folder
        else:
            base = RealPath(place.root)
        rest = place.below[len(base.below) :].lstrip(b"/")
        return self._keep(kept, place, _open_below(self._folder(kept, base), rest, _FOLDER))

    def _keep(self, kept: OrderedDict[RealPath, int], place: RealPath, descriptor: int) -> int:
        self._last = _NOWHERE
        former = kept.pop(place, None)
        if former is not None:
            os.close(former)
        elif len(kept) >= _MOST_KEPT:
            os.close(kept.popitem(last=False)[1])
        kept[place] = descriptor
        return descriptor


def _open_below(folder: int, below: bytes, flags: int) -> int:
    """Of a path of any length, relative to an open folder; what is mounted there belongs to the source."""
    base = folder
    try:
        while len(below) > _AT_ONCE:
            cut = below.rindex(b"/", 1, _AT_ONCE)
            deeper = open_beneath(base, below[:cut], os.O_PATH | os.O_DIRECTORY, onto_mounts=True)
            if base != folder:
                os.close(base)
            base, below = deeper, below[cut + 1 :]
        return open_beneath(base, below, flags, onto_mounts=True)
    finally:
        if base != folder:
            os.close(base)
