"""The daemon as others see it: what it shows, and where others ask for work. See :mod:`distbackupd.control.desk`."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from distbackupd.control.desk import Listener
from distbackupd.daemon.inbox import Inbox
from distbackupd.daemon.jobs import Jobs
from distbackupd.model.errors import Interrupted
from distbackupd.model.events import Event, FileSkipped, Paused, Resumed
from distbackupd.model.inbox import Asked, BackupAsked, EjectAsked, JobDue, ScanAsked
from distbackupd.model.plans import BackupWish
from distbackupd.model.standing import Answer, Protection, Standing, Told

log = logging.getLogger(__name__)

_KEPT_EVENTS = 300
_CANCELLED = "somebody cancelled it"
_STOPPING = "stopping at a good place"


class Board:
    """Implements :class:`~distbackupd.control.desk.Desk` on the inbox. Thread-safe.

    ``tell`` hears the events that begin here (a pause), in whichever thread asked for it.
    """

    def __init__(
        self,
        folder: Path,
        inbox: Inbox,
        show_status: Callable[[str], object],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folder = folder
        self._inbox = inbox
        self._show_status = show_status
        self._now_ns = now_ns
        self._lock = threading.RLock()
        self._latest = self._standing = Standing()
        self._notice = ""
        self._stopping = False
        self._protection = Protection()
        self._told: deque[Told] = deque(maxlen=_KEPT_EVENTS)
        self._listeners: list[Listener] = []
        self._jobs = Jobs()
        self._last_number = 0

    # --- what the daemon shows ---

    def show(self, standing: Standing) -> None:
        """It does this now. What goes before that is said instead: it stops, it stands still, it is paused."""
        with self._lock:
            self._latest = standing
            self._show()

    def notice(self, sentence: str) -> None:
        """This goes before what is being done, until it is empty."""
        with self._lock:
            if sentence != self._notice:
                self._notice = sentence
                self._show()

    def stopping(self) -> None:
        """From now on it is about to end, whatever it still does."""
        with self._lock:
            self._stopping = True
            self._show()

    def _show(self) -> None:
        standing = self._latest
        if self._stopping:
            standing = replace(standing, state="stopping", sentence=self._notice or _STOPPING)
        elif self._notice:
            standing = replace(standing, sentence=self._notice)
        elif self._inbox.paused:
            line = f"{standing.disk}: {Paused().sentence}" if standing.disk else Paused().sentence
            standing = replace(standing, state="paused", sentence=line)
        self._standing = standing
        self._show_status(standing.sentence)
        self._each(lambda listener: listener.stands(standing))

    def protect(self, protection: Protection) -> None:
        """This is protected so well now."""
        with self._lock:
            if protection != self._protection:
                self._protection = protection
                self._each(lambda listener: listener.protects(protection))

    def tell(self, event: Event) -> None:
        """An event happened."""
        with self._lock:
            # Microseconds since 1970, so that what a client saw last is still a mark when the daemon was restarted.
            self._last_number = max(self._last_number + 1, self._now_ns() // 1000)
            told = Told(self._last_number, self._now_ns() // 10**9, event)
            if not isinstance(event, FileSkipped):  # a million of them would push out what somebody waits for
                self._told.append(told)
            self._each(lambda listener: listener.told(told))

    def answer(self, job: int, exit_code: int, sentence: str = "") -> None:
        """A job that was asked for has ended."""
        answer = Answer(job, exit_code, sentence)
        with self._lock:
            self._jobs.close(answer)
            self._each(lambda listener: listener.answered(answer))

    # --- what others see and ask ---

    @property
    def folder(self) -> Path:
        """See :class:`~distbackupd.control.desk.Desk`."""
        return self._folder

    def standing(self) -> Standing:
        """See :class:`~distbackupd.control.desk.Desk`."""
        with self._lock:
            return self._standing

    def protection(self) -> Protection:
        """See :class:`~distbackupd.control.desk.Desk`."""
        with self._lock:
            return self._protection

    def told_since(self, number: int) -> Sequence[Told]:
        """See :class:`~distbackupd.control.desk.Desk`."""
        with self._lock:
            return [told for told in self._told if told.number > number]

    def ask_backup(self, user: int, disk: str, wish: BackupWish) -> int:
        """See :class:`~distbackupd.control.desk.Desk`."""
        return self._ask(user, lambda job: BackupAsked(job, disk, wish))

    def ask_eject(self, user: int, disk: str) -> int:
        """See :class:`~distbackupd.control.desk.Desk`."""
        job = self._ask(user, lambda job: EjectAsked(job, disk))
        standing = self.standing()
        if standing.disk and disk in (standing.disk, self._uuid_of(standing.disk)):
            self._inbox.cancel(f"{standing.disk} is to be ejected")
        return job

    def ask_scan(self, user: int) -> int:
        """See :class:`~distbackupd.control.desk.Desk`."""
        return self._ask(user, ScanAsked)

    def outcome(self, user: int, job: int) -> Answer | None:
        """See :class:`~distbackupd.control.desk.Desk`."""
        with self._lock:
            return self._jobs.outcome(user, job)

    def cancel(self, job: int = 0) -> bool:
        """See :class:`~distbackupd.control.desk.Desk`."""
        if job and self._inbox.take_back(job):
            self.answer(job, Interrupted.exit_code, _CANCELLED)
            return True
        return self._inbox.cancel(_CANCELLED, job)

    def pause(self) -> None:
        """See :class:`~distbackupd.control.desk.Desk`."""
        with self._lock:
            if self._inbox.pause():
                log.info("%s", Paused().sentence)
                self.tell(Paused())
                self._show()

    def resume(self) -> None:
        """See :class:`~distbackupd.control.desk.Desk`."""
        with self._lock:
            if self._inbox.resume():
                log.info("%s", Resumed().sentence)
                self.tell(Resumed())
                # The loop shows how things stand after each event; the work in hand does so by itself.
                self._inbox.post(JobDue("tend"))

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """See :class:`~distbackupd.control.desk.Desk`."""
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return end

    def _ask(self, user: int, make: Callable[[int], Asked]) -> int:
        with self._lock:
            job = self._jobs.open(user)
        self._inbox.post(make(job))
        return job

    def _uuid_of(self, name: str) -> str:
        return next((disk.uuid for disk in self.protection().disks if disk.name == name), "")

    def _each(self, call: Callable[[Listener], None]) -> None:
        for listener in list(self._listeners):
            call(listener)
