"""Watches are built beside the loop: for a million folders that takes half a minute, and disks must not wait for it."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from distbackupd.model.text import say_count

log = logging.getLogger(__name__)


class Watches(Protocol):
    """The part of the watcher that is used here."""

    def set_roots(self, paths: Iterable[bytes | str]) -> None:
        """Watch these folders and no others."""

    def watched_roots(self) -> list[bytes]:
        """What is watched now."""


class Watching:
    """Hands the newest wish to the watcher in a thread of its own.

    ``show_status`` hears when the first watches are begun, and an empty text when they are done.
    """

    def __init__(self, watcher: Watches, show_status: Callable[[str], object]) -> None:
        self._watcher = watcher
        self._show_status = show_status
        self._wishes: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)
        self._thread.start()

    def want(self, roots: Sequence[bytes]) -> None:
        """These folders shall be watched; returns at once. What was missing before is tried again."""
        self._wishes.put(list(roots))

    def stop(self, timeout: float) -> bool:
        """End the thread; whether it ended in that many seconds. It does not outlive the process. May be called twice."""
        self._wishes.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (roots := self._newest()) is not None:
            before = self._watcher.watched_roots()
            is_first = bool(roots) and not before
            if is_first:
                self._show_status(f"setting up watches in {say_count(len(set(roots)), 'source')}")
            try:
                self._watcher.set_roots(roots)
            except Exception:
                log.exception("a bug in distbackupd, please report it; changes are found by the nightly scan meanwhile")
                continue
            finally:
                if is_first:
                    self._show_status("")
            if self._watcher.watched_roots() != before:
                log.info("watching %s for changes", say_count(len(self._watcher.watched_roots()), "source"))

    def _newest(self) -> list[bytes] | None:
        roots = self._wishes.get()
        while roots is not None and not self._wishes.empty():
            roots = self._wishes.get()
        return roots
