"""Notices that the work in hand stands still: a disk or a source's file system that neither answers nor fails.

Whoever waits in the kernel for such a device cannot be called back. So a thread of its own looks every few seconds, tells
it once, and ends the process when somebody has asked for that: all that is recorded is true at any moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from distbackupd.daemon.board import Board
from distbackupd.daemon.inbox import Inbox
from distbackupd.model.events import AnswersAgain, Culprit, Event, NotAnswering
from distbackupd.model.text import say_duration

LOOK_SECONDS = 2.0

TELL_SECONDS = 120.0
"""How long the work stands still before it is told. The kernel itself waits 30 s for one request, then resets the drive."""

GIVE_UP_SECONDS = 45.0
"""How long the work stands still before a stop that was asked for waits no longer. systemd would wait five minutes."""

_SHOW_WHEN_STOPPING = 10.0
_BUSY = 0.05
"""Of a processor: who computes does not stand still, though it may have nothing to tell for minutes."""

Requests = Callable[[str], tuple[int, int] | None]


class Vigil:
    """Sees the work in hand by its reporter (:meth:`moved`), by what its disk answers, and by the time it computes.

    ``tell`` and ``give_up`` are called in the vigil's own thread, ``give_up`` with a sentence and at the most once; it is
    not expected to return. ``requests_of``: what a device has answered, and what it owes. Never touches a file system.
    """

    def __init__(
        self,
        inbox: Inbox,
        board: Board,
        tell: Callable[[Event], object],
        give_up: Callable[[str], object],
        requests_of: Requests,
        monotonic: Callable[[], float] = time.monotonic,
        computed: Callable[[], float] = time.process_time,
    ) -> None:
        self._inbox = inbox
        self._board = board
        self._tell = tell
        self._give_up = give_up
        self._requests_of = requests_of
        self._monotonic = monotonic
        self._computed = computed
        self._working = False
        self._moves = 0
        self._signs: Hashable = None
        self._looked_at = self._moved_at = monotonic()
        self._computed_then = computed()
        self._told = ""
        self._is_told = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vigil", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; nothing is told or given up after this. May be called twice, and without :meth:`start`."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def moved(self) -> None:
        """The work got further."""
        self._moves += 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Work is in hand while the context lasts."""
        self.moved()
        self._working = True
        try:
            yield
        finally:
            self._working = False

    def look(self) -> None:
        """One look. Tells and shows what there is to be told of it."""
        now, computed = self._monotonic(), self._computed()
        requests = self._requests_of(self._inbox.device) if self._inbox.device else None
        signs = (self._working, self._moves, requests and requests[0])
        busy = computed - self._computed_then > _BUSY * (now - self._looked_at)
        moves = signs != self._signs or busy or not self._working or self._inbox.resting
        self._looked_at, self._computed_then, self._signs = now, computed, signs
        if moves:
            if self._is_told:
                self._tell(AnswersAgain(self._told, round(now - self._moved_at)))
                self._is_told = False
            self._moved_at = now
            self._board.notice("")
            return
        still = now - self._moved_at
        disk = self._board.standing().disk
        culprit = _culprit(self._inbox.device, requests)
        if self._inbox.stop.asked:
            self._look_at_stop(still, f"{_name(disk, culprit)} has not answered for {say_duration(still)}")
        elif still >= TELL_SECONDS:
            if not self._is_told:
                self._is_told, self._told = True, disk
                self._tell(NotAnswering(disk, culprit, round(still)))
            self._board.notice(f"{_name(disk, culprit)} has not answered for {say_duration(still)}; other disks wait for it")

    def _look_at_stop(self, still: float, sentence: str) -> None:
        if still >= GIVE_UP_SECONDS:
            self._board.notice(f"stopped without waiting any longer: {sentence}")
            self._ended.set()
            self._give_up(
                f"{sentence}, so it is not waited for any longer; what was recorded is safe, and the next session goes on "
                "there: pull it out, or see to it, before the service is started again"
            )
        elif still >= _SHOW_WHEN_STOPPING:
            self._board.notice(f"stopping: {sentence}; it is waited for a little longer")

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.look()


def _culprit(device: str, requests: tuple[int, int] | None) -> Culprit:
    if not device:
        return "source"
    return "disk" if requests and requests[1] else "either"


def _name(disk: str, culprit: Culprit) -> str:
    """Who does not answer, for everybody."""
    if culprit == "source":
        return "a source"
    known = disk or "a disk"
    return known if culprit == "disk" else f"{known}, or a source,"
