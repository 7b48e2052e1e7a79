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
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from glob import glob
from typing import NamedTuple

from distbackupd.model.events import WatchLimited
from distbackupd.model.inbox import JobDue, SourceTouched
from distbackupd.model.text import printable
from distbackupd.sources.debouncing import EVERYTHING, LONGEST_WAIT, Debouncer
from distbackupd.sources.inotify import Observer, WatchedRoot

log = logging.getLogger(__name__)

LIMIT_FILE = "/proc/sys/fs/inotify/max_user_watches"

MISSING = "it is not there"
"""Why a source is not watched, if that is why."""
_STOP_SECONDS = 2.0
_FEW = 1000
_NO_WATCHES = "the kernel's limit of watches is reached"


class Watcher:
    """Posts :class:`SourceTouched` for each folder below the roots in which something changed and has rested since.

    It is meant for that one folder, and for all that is in it only where a folder in it is new. Where nobody can tell
    which folders changed (the kernel's queue ran over, a source is another folder than before or is back, too many
    changed) it posts that a scan of everything is due, when that has come to rest and all is watched again. A queue that
    keeps running over leads to such a scan once in :data:`LONGEST_WAIT` seconds at the most.

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
        self._wanted: set[bytes] = set()
        self._roots: dict[bytes, _Watched] = {}
        self._unwatched: dict[bytes, str] = {}
        self._building = threading.Lock()
        self._told_limit: int | None = None
        self._stopped = False
        self._observer: Observer | None = None
        self._lost_until = 0.0
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    def set_roots(self, paths: Iterable[bytes | str]) -> None:
        """Watch these real folders, whole, and no others. Blocks while watches are added (4 s for 165,000 folders).

        A root that cannot be watched is tried again with the next call. One that is another folder than before (something
        was mounted there), or could not be watched before, is watched anew, and a scan is due.
        """
        with self._building:
            self._wanted = {os.fsencode(path).rstrip(b"/") or b"/" for path in paths}
            self._unwatched = {root: why for root, why in self._unwatched.items() if root in self._wanted}
            if self._told_limit is not None and _watch_limit() != self._told_limit:
                log.info("the kernel's limit of watches has changed, watching all sources anew")
                self._begin_anew()
            elif self._must_begin_anew():
                self._begin_anew()
            self._watch_all()

    def set_settle(self, seconds: float) -> None:
        """Change how long a folder must rest; holds for what is pending, too."""
        with self._changed:
            self._debouncer.settle = seconds
            self._changed.notify()

    def watched_roots(self) -> list[bytes]:
        """Roots that are watched now."""
        return sorted(self._roots)

    def unwatched(self) -> Mapping[bytes, str]:
        """Roots that are not watched now though they should be, each with the reason: :data:`MISSING`, or another."""
        return dict(self._unwatched)

    def stop(self) -> None:
        """Remove all watches and end; what is pending is dropped. Stopping twice is no error.

        Watches that are being built for a big source are not waited for: they end with the process.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(_STOP_SECONDS)
        if self._building.acquire(timeout=_STOP_SECONDS):
            try:
                self._drop_watches()
            finally:
                self._building.release()

    # --- the watches; only with ``_building`` held ---

    def _must_begin_anew(self) -> bool:
        """Whether more watches are to be given back than is good one by one: each puts an event into the kernel's queue."""
        given_back = sum(
            known.watched.watches
            for root, known in self._roots.items()
            if root not in self._wanted or _identity(root) != known.identity
        )
        return given_back > _FEW

    def _begin_anew(self) -> None:
        """Give all watches back; what happens until there are new ones only a scan finds."""
        self._drop_watches()
        self._told_limit = None
        self._touch(EVERYTHING)

    def _drop_watches(self) -> None:
        self._roots.clear()
        observer, self._observer = self._observer, None
        if observer is not None and observer.is_alive():
            observer.stop()
            observer.join()

    def _watch_all(self) -> None:
        if self._wanted and self._observer is None:
            try:
                self._observer = Observer(self._touch, self._lose)
            except OSError as error:
                for root in self._wanted:
                    self._note_unwatched(root, error.strerror or str(error))
                return
            self._observer.start()
        if self._observer is None:
            return
        for root, known in list(self._roots.items()):
            identity = _identity(root)
            if root not in self._wanted:
                self._forget(root)
            elif identity != known.identity or not known.watched.is_alive:
                self._forget(root)
                self._touch(EVERYTHING if identity else root)
        self._observer.share_out(_watch_limit(), len(self._wanted))
        for root in sorted(self._wanted - self._roots.keys()):
            if not self._stopped:
                self._watch(self._observer, root)
        self._report_shortage()

    def _watch(self, observer: Observer, root: bytes) -> None:
        identity = _identity(root)
        if identity is None:
            self._note_unwatched(root, MISSING)
            return
        try:
            self._roots[root] = _Watched(identity, observer.watch(root))
        except OSError as error:
            self._note_unwatched(root, _NO_WATCHES if error.errno == errno.ENOSPC else error.strerror or str(error))
            return
        if self._unwatched.pop(root, None):
            log.info("%s is watched for changes again, and scanned", printable(root))
            self._touch(EVERYTHING)

    def _forget(self, root: bytes) -> None:
        known = self._roots.pop(root)
        if self._observer is not None:
            self._observer.forget(known.watched)

    def _note_unwatched(self, root: bytes, why: str) -> None:
        if self._unwatched.get(root) != why:
            self._unwatched[root] = why
            if why == MISSING:
                log.info(
                    "%s is not there, so its files are kept as they are known; it is looked for each minute", printable(root)
                )
            elif why != _NO_WATCHES:
                log.warning(
                    "%s cannot be watched for changes (%s), the scheduled scan covers it; that is tried again each minute",
                    printable(root),
                    why,
                )

    def _report_shortage(self) -> None:
        refused = sum(known.watched.refused for known in self._roots.values())
        sources = sum(why == _NO_WATCHES for why in self._unwatched.values())
        if (refused or sources) and self._told_limit is None:
            self._told_limit = _watch_limit()
            watched = watched_folders()
            self._limited(WatchLimited(watched, watched + refused, sources))

    # --- what was touched ---

    def _touch(self, folder: bytes, earliest: float = 0.0) -> None:
        with self._changed:
            # A new folder is never due before one that waits already, so the thread wakes early enough by itself.
            if not self._debouncer.pending():
                self._changed.notify()
            self._debouncer.add(folder, time.monotonic(), earliest)

    def _lose(self) -> None:
        self._touch(EVERYTHING, self._lost_until)

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
            if EVERYTHING in folders:
                self._make_good()
            for folder in folders:
                if self._is_stopped():
                    return
                self._post(JobDue("scan") if folder == EVERYTHING else SourceTouched(folder))

    def _is_stopped(self) -> bool:
        return self._stopped

    def _make_good(self) -> None:
        """Watch everything anew if something was lost, so that the scan that comes next misses nothing."""
        with self._building:
            if self._observer is None or not self._observer.has_lost or self._stopped:
                return
            log.info("more changed at once than the kernel keeps for us, so all sources are watched anew and scanned")
            self._lost_until = time.monotonic() + LONGEST_WAIT
            self._drop_watches()
            self._watch_all()


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


class _Watched(NamedTuple):
    """``identity``: the device and inode of the top folder when it was."""

    identity: tuple[int, int]
    watched: WatchedRoot
