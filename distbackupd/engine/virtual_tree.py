"""Where virtual paths lie in reality, and what is set for them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from distbackupd.model.sources import FolderSettings, RealPath, Source
from distbackupd.planning.patterns import Rules

_NO_RULES = Rules()


class FolderContext(NamedTuple):
    """What holds in a virtual folder: inherited and its own. ``hidden`` leaves it out of the backup."""

    rules: Rules
    priority: int
    maxcopies: int
    copies: int
    follow: bool
    locked: bool
    hidden: bool


class VirtualTree:
    """Sources and folder settings of one moment."""

    def __init__(self, sources: Sequence[Source], settings: Mapping[bytes, FolderSettings]) -> None:
        self.sources = sorted(sources, key=lambda source: source.virtual_path)
        self._settings = settings
        self._deepest_first = [(item, item.virtual_path.rstrip(b"/") + b"/") for item in reversed(self.sources)]
        self._followed = [path.rstrip(b"/") + b"/" for path, own in settings.items() if own.follow_symlinks]
        self._locked = [path for path, own in settings.items() if own.lock]
        self._real = {source.virtual_path: source.real_path for source in self.sources}

    def fingerprint(self) -> str:
        """Equal for equal sources and settings: whether a scan saw the present ones."""
        return hashlib.sha256(repr((self.sources, sorted(self._settings.items()))).encode()).hexdigest()

    def is_source(self, virtual_path: bytes) -> bool:
        """Whether a source is mapped exactly there."""
        return virtual_path in self._real

    def sources_below(self, virtual_path: bytes) -> list[bytes]:
        """Virtual paths of sources mapped below (not at) the path."""
        prefix = virtual_path.rstrip(b"/") + b"/"
        return [source for source in self._real if source.startswith(prefix) and source != virtual_path]

    def locks_in(self, virtual_path: bytes) -> set[bytes]:
        """Names in the folder that are locked, or lead to what is locked."""
        prefix = virtual_path.rstrip(b"/") + b"/"
        return {path[len(prefix) :].partition(b"/")[0] for path in self._locked if path.startswith(prefix) and path != b"/"}

    def real_path(self, virtual_path: bytes) -> RealPath | None:
        """Where a virtual path really lies, by the nearest source above it; None where no source covers it."""
        # The last source in order is the deepest of those above the path.
        for source, prefix in self._deepest_first:
            if virtual_path == source.virtual_path:
                return RealPath(source.real_path)
            if virtual_path.startswith(prefix):
                return self._below(source, prefix, virtual_path)
        return None

    def _below(self, source: Source, prefix: bytes, virtual_path: bytes) -> RealPath:
        """What lies below the entry of a folder whose links are followed lies below what that entry leads to."""
        followed = [path for path in self._followed if path.startswith(prefix) and virtual_path.startswith(path)]
        if not followed:
            return RealPath(source.real_path, virtual_path[len(prefix) :])
        start = len(max(followed, key=len))
        end = (virtual_path + b"/").index(b"/", start)
        root = join(source.real_path, virtual_path[len(prefix) : end])
        return RealPath(root, virtual_path[end + 1 :])

    def virtual_paths(self, real_path: bytes) -> list[bytes]:
        """Where a real folder appears in the virtual tree; nowhere, once, or oftener if sources overlap."""
        found = []
        for virtual, real in self._real.items():
            resolved = os.path.realpath(real)
            for root in {real, resolved}:
                if real_path == root or real_path.startswith(root.rstrip(b"/") + b"/"):
                    rest = real_path[len(root) :].strip(b"/")
                    path = join(virtual, rest) if rest else virtual
                    there = self.real_path(path)
                    if not rest or (there is not None and there.path == join(real, rest)):
                        found.append(path)
        return sorted(set(found))

    def context(self, virtual_path: bytes) -> FolderContext:
        """What holds in the folder: settings of its source's folder and of every folder down to it."""
        above = virtual_path
        while above not in self._real and above != b"/":
            above = parent(above)
        context = self.enter(above, None)
        rest = virtual_path[len(above) :].strip(b"/")
        path = above
        for name in rest.split(b"/") if rest else ():
            path = join(path, name)
            context = self.enter(path, context)
        return context

    def enter(self, virtual_path: bytes, above: FolderContext | None) -> FolderContext:
        """What holds in a folder, given what holds in the one above; None at the top of a source."""
        context = above or FolderContext(_NO_RULES, 1, 0, 0, False, False, False)
        own = self._settings.get(virtual_path)
        if own is None:
            return context._replace(follow=False) if context.follow else context
        inherited = None if own.noinherit else context.rules
        return FolderContext(
            rules=Rules(own.rules, inherited) if own.rules or own.noinherit else context.rules,
            priority=context.priority if own.priority is None else own.priority,
            maxcopies=context.maxcopies if own.maxcopies is None else own.maxcopies,
            copies=context.copies if own.copies is None else own.copies,
            follow=own.follow_symlinks,
            locked=context.locked or own.lock,
            hidden=context.hidden or own.hide,
        )


def join(folder: bytes, name: bytes) -> bytes:
    """``folder/name``, without doubling the root's slash."""
    return folder + name if folder.endswith(b"/") else folder + b"/" + name


def parent(path: bytes) -> bytes:
    """The folder above; the root is above itself."""
    return path[: path.rindex(b"/")] or b"/"
