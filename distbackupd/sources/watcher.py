"""Notice changes below the sources as they happen: inotify, by way of watchdog, debounced.

What is posted are hints, and the scheduled scan is the truth: inotify says nothing of network file systems, of folders
beyond the kernel's watch limit, or of what changed while nobody watched.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
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
from watchdog.observers.inotify_c import CallbackId, InotifyFD, Mask, WatchCallback, WatchDescriptor

from distbackupd.model.events import WatchLimited
from distbackupd.model.inbox import JobDue, SourceTouched
from distbackupd.sources.watch_shares import budget, may_watch

log = logging.getLogger(__name__)

LONGEST_WAIT = 600.0
"""Seconds after which a folder is posted although it has not come to rest: a log file never does."""

MOST_PENDING = 20_000
"""More folders than these become a scan of everything: that costs less than so many visits, and keeps memory small."""

EVERYTHING = b""
"""Stands for all sources where a folder's path is expected."""

LIMIT_FILE = "/proc/sys/fs/inotify/max_user_watches"

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


@dataclass(slots=True)
class _Unrest:
    first: float
    last: float


class Debouncer:
    """Which touched folders have rested long enough. Pure: time comes in as an argument and never runs backwards.

    A folder is due ``settle`` seconds after it was last touched, and ``longest`` seconds after it was first touched at
    the latest. Folders do not hold each other up. When more than ``most`` are pending, :data:`EVERYTHING` stands for
    all of them, and for what is touched further, until it is due.
    """

    def __init__(self, settle: float, longest: float = LONGEST_WAIT, most: int = MOST_PENDING) -> None:
        self.settle = settle
        self._longest = longest
        self._most = most
        self._pending: dict[bytes, _Unrest] = {}

    def add(self, path: bytes, now: float) -> None:
        """The folder (or :data:`EVERYTHING`) was touched."""
        if EVERYTHING in self._pending:
            path = EVERYTHING
        self._pending.setdefault(path, _Unrest(now, now)).last = now
        if len(self._pending) > (0 if path == EVERYTHING else self._most):
            first = min(unrest.first for unrest in self._pending.values())
            self._pending = {EVERYTHING: _Unrest(first, now)}

    def due(self, now: float) -> list[bytes]:
        """Folders that have rested, in the order in which they were touched; they are no longer pending."""
        rested = [path for path, unrest in self._pending.items() if self._due_at(unrest) <= now]
        for path in rested:
            del self._pending[path]
        return rested

    def next_due(self) -> float | None:
        """The time at which :meth:`due` first gives something if nothing more is touched; None: nothing is pending."""
        return min(map(self._due_at, self._pending.values()), default=None)

    def pending(self) -> bool:
        """Whether anything is; cheap."""
        return bool(self._pending)

    def _due_at(self, unrest: _Unrest) -> float:
        return min(unrest.last + self.settle, unrest.first + self._longest)


class Watcher:
    """Posts :class:`SourceTouched` for each folder below the roots in which something changed and has rested since.

    It is meant for that one folder, and for all that is in it only where a folder in it is new. Where nobody can tell
    which folders changed (the kernel's queue ran over, a source is another folder than before, too many changed) it
    posts that a scan of everything is due.

    ``post`` and ``limited`` are called from threads of the watcher's own. ``limited`` hears when the kernel's limit
    left folders unwatched, once for each such shortage. Nothing is posted after :meth:`stop` returned.
    """

    def __init__(
        self,
        post: Callable[[SourceTouched | JobDue], None],
        settle_seconds: float,
        limited: Callable[[WatchLimited], None] = lambda _event: None,
    ) -> None:
        self._post = post
        self._limited = limited
        self._debouncer = Debouncer(settle_seconds)
        self._changed = threading.Condition()
        self._roots: dict[bytes, _WatchedRoot] = {}
        self._building = threading.Lock()
        self._told_limit: int | None = None
        self._stopped = False
        self._observer = _Observer(self._touch)
        self._observer.start()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def set_roots(self, paths: Iterable[bytes | str]) -> None:
        """Watch these real folders, whole, and no others. Blocks while watches are added (4 s for 165,000 folders).

        A root that is missing is left out until the next call. A root that is another folder than before (something
        was mounted there) is watched anew, and a scan is due.
        """
        wanted = {os.fsencode(path).rstrip(b"/") or b"/" for path in paths}
        with self._building:
            if self._told_limit is not None and _watch_limit() != self._told_limit:
                log.info("the kernel's limit of watches has changed, watching all sources anew")
                self._told_limit = None
                for root in list(self._roots):
                    self._unwatch(root)
            for root in [root for root in self._roots if root not in wanted]:
                self._unwatch(root)
            self._observer.share_out(_watch_limit(), len(wanted))
            for root in sorted(wanted):
                self._refresh(root)
            self._report_shortage()

    def set_settle(self, seconds: float) -> None:
        """Change how long a folder must rest; holds for what is pending, too."""
        with self._changed:
            self._debouncer.settle = seconds
            self._changed.notify()

    def watched_roots(self) -> list[bytes]:
        """Roots that are watched now."""
        return sorted(self._roots)

    def stop(self) -> None:
        """Remove all watches and end; what is pending is dropped. Stopping twice is no error."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        with self._building:
            if self._observer.is_alive():
                self._observer.stop()
                self._observer.join()
            self._roots.clear()

    def _refresh(self, root: bytes) -> None:
        identity = _identity(root)
        known = self._roots.get(root)
        if known is not None:
            # An emitter ends by itself when its root is deleted.
            if identity == known.identity and known.emitter_alive():
                return
            self._unwatch(root)
        if identity is None:
            return
        handler = _Handler(root, self._touch)
        try:
            # With the slash, a root that is a symbolic link is the folder it points to; below, links are not followed.
            path: Any = root.rstrip(b"/") + b"/"
            watch = self._observer.schedule(handler, path, recursive=True, event_filter=_NOTICED)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._shortage(1)
            else:
                log.warning("%s cannot be watched for changes: %s", os.fsdecode(root), error.strerror)
            return
        self._roots[root] = _WatchedRoot(identity, watch, self._observer)
        if known is not None:
            self._touch(EVERYTHING)

    def _unwatch(self, root: bytes) -> None:
        self._observer.unschedule(self._roots.pop(root).watch)

    def _report_shortage(self) -> None:
        refused = sum(root.refused() for root in self._roots.values())
        if refused and self._told_limit is None:
            self._shortage(refused)

    def _shortage(self, refused: int) -> None:
        if self._told_limit is None:
            self._told_limit = _watch_limit()
            watched = watched_folders()
            self._limited(WatchLimited(watched, watched + refused))

    def _touch(self, folder: bytes) -> None:
        with self._changed:
            # A new folder is never due before one that waits already, so the thread wakes early enough by itself.
            if not self._debouncer.pending():
                self._changed.notify()
            self._debouncer.add(folder, time.monotonic())

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped:
                    next_due = self._debouncer.next_due()
                    wait = None if next_due is None else next_due - time.monotonic()
                    if wait is not None and wait <= 0:
                        break
                    self._changed.wait(wait)
                if self._stopped:
                    return
                folders = self._debouncer.due(time.monotonic())
            for folder in folders:
                self._post(JobDue("scan") if folder == EVERYTHING else SourceTouched(folder))


def watched_folders() -> int:
    """How many inotify watches this process holds, as the kernel counts them."""
    count = 0
    for name in glob("/proc/self/fdinfo/*"):
        with suppress(OSError), open(name, "rb") as lines:
            count += sum(line.startswith(b"inotify wd") for line in lines)
    return count


def _watch_limit() -> int:
    with suppress(OSError, ValueError), open(LIMIT_FILE, encoding="ascii") as file:
        return int(file.read())
    return -1


def _identity(path: bytes) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return (facts.st_dev, facts.st_ino) if os.path.isdir(path) else None


class _WatchedRoot:
    def __init__(self, identity: tuple[int, int] | None, watch: ObservedWatch, observer: _Observer) -> None:
        self.identity = identity
        self.watch = watch
        self._emitter = next(emitter for emitter in observer.emitters if emitter.watch == watch)

    def emitter_alive(self) -> bool:
        return self._emitter.should_keep_running() and self._emitter.is_alive()

    def refused(self) -> int:
        return self._emitter.refused if isinstance(self._emitter, _Emitter) else 0


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


# --- watchdog, taught to tell what it swallows ---------------------------------------------------------------------------


class _Inotify(InotifyFD):
    """Counts the folders that the kernel's limit, or their source's share of it, leaves unwatched; watchdog goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.most: int | None = None
        self.sources = 0
        self._groups: dict[int, weakref.ref[_Group]] = {}

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
        # A folder that is made while its parent is walked is added twice. watchdog warns of that on stderr, in a text
        # that spells out every watch of the source.
        watch = self._get_or_create_watch(path, mask)
        watch.callbacks[id_] = callback
        return watch.wd


@dataclass(repr=False)
class _Group(InotifyWatchGroup):
    """Says when the kernel's queue ran over; watchdog repairs its watches and tells no handler what was lost."""

    overflowed: Callable[[], None] = lambda: None
    refused: int = 0

    @property
    def watches(self) -> int:
        """So many folders are watched."""
        return len(self._active_callbacks_by_watch)

    def on_queue_overflow(self) -> None:
        self.refused = 0
        super().on_queue_overflow()
        self.overflowed()


class _Emitter(InotifyEmitter):
    def __init__(self, *arguments: Any, inotify_fd: InotifyFD, touch: Callable[[bytes], None], **options: Any) -> None:
        super().__init__(*arguments, inotify_fd=inotify_fd, **options)
        self._touch = touch

    @property
    def refused(self) -> int:
        return self._inotify.refused if isinstance(self._inotify, _Group) else 0

    def on_thread_start(self) -> None:
        path = os.fsencode(self.watch.path)
        self._inotify = _Group(
            self._inotify_fd,
            path,
            event_mask=self.get_event_mask_from_filter(),
            is_recursive=self.watch.is_recursive,
            overflowed=lambda: self._touch(EVERYTHING),
        )


class _Observer(BaseObserver):
    def __init__(self, touch: Callable[[bytes], None]) -> None:
        self._inotify = _Inotify()
        self._inotify.start()
        super().__init__(_Emitter, inotify_fd=self._inotify, touch=touch)

    def share_out(self, limit: int, sources: int) -> None:
        """So many sources are to share what may be used of the kernel's limit."""
        self._inotify.most, self._inotify.sources = budget(limit), sources

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self._inotify.stop()
        self._inotify.join()
