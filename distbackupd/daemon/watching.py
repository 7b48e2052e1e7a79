"""Watches are built beside the loop: for a million folders that takes half a minute, and disks must not wait for it."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from distbackupd.model.text import say_count

log = logging.getLogger(__name__)


class Watches(Protocol):
    """The part of the watcher that is used here."""

    def set_roots(self, paths: Iterable[bytes | str]) -> None:
        """Watch these folders and no others."""

    def watched_roots(self) -> list[bytes]:
        """What is watched now."""

    def unwatched(self) -> Mapping[bytes, str]:
        """What is not, though it should be, and why."""


class Watching:
    """Hands the newest wish to the watcher in a thread of its own.

    ``show_status`` hears when watches are begun that take long, and an empty text when what is watched has changed.
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
        tried: set[bytes] = set()
        while (roots := self._newest()) is not None:
            before = self._state()
            is_first = not before.watched and bool(set(roots) - tried)
            tried = set(roots)
            if is_first:
                self._show_status(f"setting up watches in {say_count(len(tried), 'source')}")
            try:
                self._watcher.set_roots(roots)
            except Exception:
                log.exception("a bug in distbackupd, please report it; changes are found by the nightly scan meanwhile")
            after = self._state()
            if after.watched != before.watched:
                log.info("watching %s for changes", say_count(len(after.watched), "source"))
            if is_first or after != before:
                self._show_status("")

    def _state(self) -> _State:
        return _State(self._watcher.watched_roots(), dict(self._watcher.unwatched()))

    def _newest(self) -> list[bytes] | None:
        roots = self._wishes.get()
        while roots is not None and not self._wishes.empty():
            roots = self._wishes.get()
        return roots


class _State(NamedTuple):
    watched: list[bytes]
    unwatched: dict[bytes, str]


def say_unwatched(reasons: Iterable[str], missing: str) -> str:
    """``1 source is not there, changes in 2 sources are found by the scheduled scan only``; empty: all is watched.

    ``reasons``: why each is not watched; ``missing`` is that it is not there.
    """
    known = list(reasons)
    away, hidden = sum(why == missing for why in known), sum(why != missing for why in known)
    parts = [f"{say_count(away, 'source')} {'is' if away == 1 else 'are'} not there"] if away else []
    parts += [f"changes in {say_count(hidden, 'source')} are found by the scheduled scan only"] if hidden else []
    return ", ".join(parts)
