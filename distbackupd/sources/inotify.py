"""watchdog, taught to tell what it swallows and to come to rest when the kernel's queue of changes runs over.

When that happens nobody knows which folders changed, were made or moved, so what the descriptor says from then on only
tells that there is no rest yet. What helps is another descriptor with new watches: :class:`Observer` is made anew. watchdog
itself removes and adds each watch, and each removal puts an event into the queue, which with more than its 16,384 folders
runs over again.
"""

from __future__ import annotations

import errno
import logging
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from watchdog.events import (
    DirAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.inotify import InotifyEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from distbackupd.sources.watch_shares import budget, may_watch

log = logging.getLogger(__name__)

# Folders' own "modified" is left out: watchdog makes one up for every event of a file, and the file's is what counts.
# Opening and reading are left out, or our own hashing would be a change. Attributes are in: they are backed up, too.
_NOTICED: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileAttribEvent,
    FileMovedEvent,
    FileClosedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirAttribEvent,
    DirMovedEvent,
]

_LOOK_SECONDS = 0.1
"""How often the queue is emptied while what it says is of no use."""
_WHOLE_QUEUE = 1 << 20
"""Bytes; more than the kernel's usual queue of 16,384 events holds."""


class Observer(BaseObserver):
    """One inotify descriptor with the watches of all sources.

    ``touch`` hears each folder in which something happened. ``lost`` is called when the kernel's queue ran over, and then
    whenever more happens; ``touch`` hears nothing any more. Raises OSError: there is no descriptor to be had.
    """

    def __init__(self, touch: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._touch = touch
        self._inotify = _Inotify(lost)
        self._inotify.start()
        super().__init__(_Emitter, inotify_fd=self._inotify)

    @property
    def has_lost(self) -> bool:
        """Whether what it tells is of no use any more."""
        return self._inotify.has_lost or not self._inotify.is_alive() or not self.is_alive()

    def share_out(self, limit: int, sources: int) -> None:
        """So many sources are to share what may be used of the kernel's limit."""
        self._inotify.most, self._inotify.sources = budget(limit), sources

    def watch(self, root: bytes) -> WatchedRoot:
        """Watch a folder and all below it. Raises OSError: not even its top folder can be watched."""
        # With the slash, a root that is a symbolic link is the folder it points to; below, links are not followed.
        path: Any = root.rstrip(b"/") + b"/"
        watch = self.schedule(_Handler(root, self._touch), path, recursive=True, event_filter=_NOTICED)
        emitter = next(emitter for emitter in self.emitters if emitter.watch == watch)
        return WatchedRoot(watch, emitter)

    def forget(self, root: WatchedRoot) -> None:
        """Hear nothing of it any more."""
        self.unschedule(root.watch)

    def on_thread_stop(self) -> None:
        """The descriptor goes first, and all watches with it at once."""
        self._inotify.stop()
        self._inotify.join()
        super().on_thread_stop()


class WatchedRoot:
    """The watches of one source."""

    def __init__(self, watch: ObservedWatch, emitter: Any) -> None:
        self.watch = watch
        self._emitter = emitter

    @property
    def is_alive(self) -> bool:
        """Whether it is still heard of. It ends by itself when its top folder is deleted."""
        return bool(self._emitter.should_keep_running() and self._emitter.is_alive())

    @property
    def watches(self) -> int:
        """So many folders are watched."""
        group = self._emitter.group
        return group.watches if group else 0

    @property
    def refused(self) -> int:
        """So many folders the limit left unwatched."""
        group = self._emitter.group
        return group.refused if group else 0


class _Handler(FileSystemEventHandler):
    """Turns watchdog's events of one root into touched folders."""

    def __init__(self, root: bytes, touch: Callable[[bytes], None]) -> None:
        self._root = root
        self._touch = touch

    def dispatch(self, event: FileSystemEvent) -> None:
        if event.src_path:
            self._touch_parent(os.fsencode(event.src_path))
        if event.dest_path:
            self._touch_parent(os.fsencode(event.dest_path))
        if isinstance(event, (DirCreatedEvent, DirMovedEvent)):
            self._touch(os.fsencode(event.dest_path or event.src_path).rstrip(b"/") or b"/")

    def _touch_parent(self, path: bytes) -> None:
        path = path.rstrip(b"/")
        self._touch(self._root if path == self._root else os.path.dirname(path) or b"/")


class _Inotify(InotifyFD):
    """Counts the folders that the kernel's limit, or their source's share of it, leaves unwatched; watchdog goes on."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__()
        self.most: int | None = None
        self.sources = 0
        self.has_lost = False
        self._lost = lost
        self._groups: dict[int, weakref.ref[_Group]] = {}

    def handle_event(self, event: InotifyEvent) -> None:
        if self.has_lost:
            return
        if not event.is_queue_overflow:
            try:
                super().handle_event(event)
                return
            except Exception:
                # watchdog's thread would end here, and nobody would hear of any change again.
                log.debug("watchdog did not understand %s", event, exc_info=True)
        self.has_lost = True
        self._lost()

    def read_events(self, **options: Any) -> list[InotifyEvent]:
        if not self.has_lost:
            return super().read_events(**options)
        if self._read_event_buffer(_WHOLE_QUEUE):
            self._lost()
        # The kernel throws away what the queue does not hold, which is cheaper than to read it.
        self.stopped_event.wait(_LOOK_SECONDS)
        return []

    def close(self) -> None:
        # Closing gives back all watches at once.
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._watch_for_wd.clear()
            if self._is_reading:
                os.write(self._kill_w, b"!")
            else:
                self._close_resources()

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        if isinstance(callback, _Group) and not self._may_watch(callback):
            callback.refused += 1
            raise OSError(errno.ENOSPC, "the share of watches of this source is used up")
        try:
            return super().add_callback(path, mask, callback, id_)
        except OSError as error:
            if error.errno == errno.ENOSPC and isinstance(callback, _Group):
                callback.refused += 1
            raise

    def _may_watch(self, group: _Group) -> bool:
        if self.most is None:
            return True
        self._groups[id(group)] = weakref.ref(group)
        groups = {number: found for number, item in list(self._groups.items()) if (found := item()) is not None}
        if len(groups) < len(self._groups):
            self._groups = {number: weakref.ref(found) for number, found in groups.items()}
        others = [found.watches for found in groups.values() if found is not group]
        return may_watch(group.watches, others, self.sources, self.most)

    def _add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        if self._closed:
            # The number of the descriptor may be another file's by now.
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        # A folder that is made while its parent is walked is added twice. watchdog warns of that on stderr, in a text
        # that spells out every watch of the source.
        watch = self._get_or_create_watch(path, mask)
        if watch.wd < 0:
            # watchdog takes a folder that must not be read for a watched one.
            self._watch_for_wd.pop(watch.wd, None)
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        watch.callbacks[id_] = callback
        return watch.wd


@dataclass(repr=False)
class _Group(InotifyWatchGroup):
    """The watches of one source."""

    refused: int = 0

    @property
    def watches(self) -> int:
        """So many folders are watched."""
        return len(self._active_callbacks_by_watch)


class _Emitter(InotifyEmitter):
    @property
    def group(self) -> _Group | None:
        return self._inotify if isinstance(self._inotify, _Group) else None

    def on_thread_start(self) -> None:
        self._inotify = _Group(
            self._inotify_fd,
            os.fsencode(self.watch.path),
            event_mask=self.get_event_mask_from_filter(),
            is_recursive=self.watch.is_recursive,
        )
