"""What the daemon has to do, each thing once, and the stop of what it is doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable

from distbackupd.model.inbox import DiskAppeared, DiskVanished, InboxEvent, JobDue, SourceTouched, StopAsked


class StopToken:
    """A :class:`~distbackupd.engine.ports.Stop` that is set once, by anybody, with a reason; or through its ``parent``."""

    def __init__(self, parent: StopToken | None = None) -> None:
        self._parent = parent
        self._reason: str | None = None

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._reason is not None or (self._parent is not None and self._parent.is_set())

    def set(self, reason: str) -> None:
        """Ask to stop; the first reason stays."""
        if self._reason is None:
            self._reason = reason

    @property
    def reason(self) -> str:
        """Why to stop; empty when nobody asked."""
        return self._reason or (self._parent.reason if self._parent else "")


class Inbox:
    """Events in the order in which they came, each kind of work at most once. Thread-safe.

    One pending :class:`DiskAppeared` for each device (the newest), one :class:`SourceTouched` for each folder, one
    :class:`JobDue` for each job. A :class:`DiskVanished` takes away what is pending for its device, and stops the job in
    hand if that works on it. :class:`StopAsked` goes before all else and stops the job in hand.

    The job in hand is what :meth:`get` gave last; ``job_stop`` is its stop. That an event is taken out and becomes the
    job in hand is one step, so no unplug can slip in between.
    """

    def __init__(self) -> None:
        self.stop = StopToken()
        self.job_stop = StopToken(self.stop)
        self._job: InboxEvent | None = None
        self._pending: dict[Hashable, InboxEvent] = {}
        self._kept: dict[Hashable, InboxEvent] = {}
        self._news = threading.Condition()

    def post(self, event: InboxEvent) -> None:
        """Something is to be done."""
        with self._news:
            if isinstance(event, StopAsked):
                self.stop.set("the daemon is asked to end")
            elif isinstance(event, DiskVanished):
                appeared = _key_of_disk(event.device)
                self._pending.pop(appeared, None)
                self._kept.pop(appeared, None)
                if self._job is not None and _key(self._job) == appeared:
                    self.job_stop.set(f"{event.device} was unplugged")
            self._put(event)
            self._news.notify_all()

    def get(self, timeout: float | None = None) -> InboxEvent | None:
        """The next event, which becomes the job in hand; None after ``timeout`` seconds without any."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._news:
            self._job = None
            while not self._pending:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._news.wait(left)
            key = _key(StopAsked()) if self.stop.is_set() else next(iter(self._pending))
            self._job = self._pending.pop(key, StopAsked())
            self.job_stop = StopToken(self.stop)
            return self._job

    def take_touched(self) -> list[bytes]:
        """All touched folders that are pending, by path; they are pending no more."""
        with self._news:
            touched = [event for event in self._pending.values() if isinstance(event, SourceTouched)]
            for event in touched:
                del self._pending[_key(event)]
        return sorted(event.real_path for event in touched)

    def keep(self, event: InboxEvent) -> None:
        """It cannot be done now: put it aside until :meth:`retry`, unless its disk has gone or is pending again."""
        with self._news:
            key = _key(event)
            if key not in self._pending and not (event == self._job and self.job_stop.is_set()):
                self._kept[key] = event

    def retry(self) -> None:
        """What was put aside is pending again."""
        with self._news:
            kept, self._kept = self._kept, {}
            for key, event in kept.items():
                self._pending.setdefault(key, event)
            self._news.notify_all()

    def waiting(self) -> list[InboxEvent]:
        """What was put aside."""
        with self._news:
            return list(self._kept.values())

    def _put(self, event: InboxEvent) -> None:
        key = _key(event)
        if isinstance(event, DiskAppeared):
            # The newest counts: another file system may be on the device now.
            self._kept.pop(key, None)
            self._pending.pop(key, None)
        self._pending.setdefault(key, event)


def _key(event: InboxEvent) -> Hashable:
    match event:
        case DiskAppeared(volume):
            return _key_of_disk(volume.device)
        case DiskVanished(device):
            return (DiskVanished, device)
        case SourceTouched(real_path):
            return (SourceTouched, real_path)
        case JobDue(job):
            return (JobDue, job)
        case _:
            return (type(event),)


def _key_of_disk(device: str) -> Hashable:
    return (DiskAppeared, device)
