"""What the daemon has to do, each thing once, and the stop of what it is doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from distbackupd.model.disks import Volume
from distbackupd.model.inbox import (
    Asked,
    BackupAsked,
    DiskAppeared,
    DiskVanished,
    EjectAsked,
    InboxEvent,
    JobDue,
    ScanAsked,
    SourceTouched,
    StopAsked,
)

_WORK = (BackupAsked, DiskAppeared, ScanAsked, SourceTouched, JobDue)
"""What waits while there is a pause, and what can be cancelled."""


class Pause:
    """A rest that somebody asked for. ``still_alive`` is called twice a second by whoever waits for its end."""

    def __init__(self, still_alive: Callable[[], None] = lambda: None) -> None:
        self._over = threading.Event()
        self._over.set()
        self._still_alive = still_alive

    @property
    def lasts(self) -> bool:
        """Whether there is one now."""
        return not self._over.is_set()

    def begin(self) -> None:
        """From now on."""
        self._over.clear()

    def end(self) -> None:
        """Until now."""
        self._over.set()

    def wait(self) -> None:
        """For its end, or half a second."""
        self._over.wait(0.5)
        self._still_alive()


class StopToken:
    """A :class:`~distbackupd.engine.ports.Stop` that is set once, by anybody, with a reason; or through its ``parent``.

    With a ``pause`` the job that looks at it rests in that look until the pause is over or it has to stop.
    """

    def __init__(self, parent: StopToken | None = None, pause: Pause | None = None) -> None:
        self._parent = parent
        self._pause = pause
        self._reason: str | None = None

    def is_set(self) -> bool:
        """Whether to stop."""
        while self._pause is not None and self._pause.lasts and not self.asked:
            self._pause.wait()
        return self.asked

    @property
    def asked(self) -> bool:
        """Whether to stop, told at once even while there is a pause."""
        return self._reason is not None or (self._parent is not None and self._parent.asked)

    def set(self, reason: str) -> None:
        """Ask to stop; the first reason stays."""
        if self._reason is None:
            self._reason = reason

    @property
    def reason(self) -> str:
        """Why to stop; empty when nobody asked."""
        return self._reason or (self._parent.reason if self._parent else "")


class IdleStop:
    """The stop of what is done only while there is nothing to do: set whenever something is pending, and in a pause."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._inbox.stop.asked or self._inbox.paused or self._inbox.has_pending


class PatientStop:
    """The stop of a scan: also set when a disk has waited for it for so many seconds; ``gave_way`` then.

    ``waits_since``: since when one waits, in seconds of the monotonic clock; None: none does. Somebody may have put files
    there that take days to read, and the disk is needed for all others too.
    """

    def __init__(self, stop: StopToken, waits_since: Callable[[], float | None], seconds: float) -> None:
        self._stop = stop
        self._waits_since = waits_since
        self._seconds = seconds
        self.gave_way = False

    def is_set(self) -> bool:
        """Whether to stop."""
        if self._stop.is_set():
            return True
        since = self._waits_since()
        self.gave_way = self.gave_way or (since is not None and time.monotonic() - since >= self._seconds)
        return self.gave_way


class Inbox:
    """Events in the order in which they came, each kind of work at most once. Thread-safe.

    One pending :class:`DiskAppeared` for each device (the newest), one :class:`SourceTouched` for each folder, one
    :class:`JobDue` for each job. A :class:`DiskVanished` takes away what is pending for its device, and stops the job in
    hand if that works on it. :class:`StopAsked` goes before all else and stops the job in hand.

    The job in hand is what :meth:`get` gave last; ``job_stop`` is its stop. That an event is taken out and becomes the
    job in hand is one step, so no unplug can slip in between. While it is paused the job rests wherever it looks at
    its stop, and :meth:`get` gives only what is no work. ``still_alive`` is called while a job rests.
    """

    def __init__(self, still_alive: Callable[[], None] = lambda: None) -> None:
        self.stop = StopToken()
        self._pause = Pause(still_alive)
        self.lasting_stop = StopToken(self.stop, self._pause)
        """The stop of work that goes on when a disk is pulled out or a job is cancelled; it rests in a pause too."""
        self.idle_stop = IdleStop(self)
        self.job_stop = self.lasting_stop
        self._job: InboxEvent | None = None
        self._device = ""
        self._disk_came = 0.0
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
                if self._device == event.device:
                    self.job_stop.set(f"{event.device} was unplugged")
            self._put(event)
            self._news.notify_all()

    def get(self, timeout: float | None = None) -> InboxEvent | None:
        """The next event, which becomes the job in hand; None after ``timeout`` seconds without any."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._news:
            self._job, self._device = None, ""
            while (key := self._next_key()) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._news.wait(left)
            self._job = self._pending.pop(key, StopAsked())
            if isinstance(self._job, DiskAppeared):
                self._device = self._job.volume.device
            self.job_stop = StopToken(self.stop, self._pause)
            return self._job

    def _next_key(self) -> Hashable | None:
        if self.stop.asked:
            return _key(StopAsked())
        paused = self._pause.lasts
        return next((key for key, event in self._pending.items() if not (paused and isinstance(event, _WORK))), None)

    def works_on(self, device: str) -> None:
        """The job in hand turned out to need this device, and ends when that vanishes."""
        with self._news:
            self._device = device

    def waiting_volumes(self) -> list[Volume]:
        """Plugged-in volumes whose turn is still to come."""
        with self._news:
            events = [*self._pending.values(), *self._kept.values()]
        return [event.volume for event in events if isinstance(event, DiskAppeared)]

    def disk_waits_since(self) -> float | None:
        """Since when a disk's turn is to come, by the monotonic clock; None: there is none. That of the last that came."""
        with self._news:
            waits = any(isinstance(event, DiskAppeared) for event in self._pending.values())
            return self._disk_came if waits else None

    def take_back(self, job: int) -> bool:
        """What was asked for under this number need not be done; False: it does not wait, or not any more."""
        with self._news:
            keys = [key for key, event in self._pending.items() if isinstance(event, Asked) and event.job == job]
            for key in keys:
                del self._pending[key]
            return bool(keys)

    def cancel(self, reason: str, job: int = 0) -> bool:
        """Stop the job in hand, if ``job`` is given only if it has that number; False: there is none to be stopped."""
        with self._news:
            if not isinstance(self._job, _WORK) or (job and getattr(self._job, "job", 0) != job):
                return False
            self.job_stop.set(reason)
            return True

    @property
    def device(self) -> str:
        """What the job in hand works on; empty where that is no disk."""
        return self._device

    @property
    def resting(self) -> bool:
        """Whether the job in hand rests, or is about to: there is a pause, and nobody asked it to stop."""
        return self._pause.lasts and not self.job_stop.asked

    @property
    def has_pending(self) -> bool:
        """Whether anything waits to be taken out."""
        return bool(self._pending)

    @property
    def paused(self) -> bool:
        """Whether there is a pause now."""
        return self._pause.lasts

    def pause(self) -> bool:
        """Let everything rest; False: it did already."""
        with self._news:
            was = self._pause.lasts
            self._pause.begin()
            return not was

    def resume(self) -> bool:
        """Go on; False: there was no pause."""
        with self._news:
            was = self._pause.lasts
            self._pause.end()
            self._news.notify_all()
            return was

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
            if key not in self._pending and not (event == self._job and self.job_stop.asked):
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
            self._disk_came = time.monotonic()
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
        case BackupAsked(job) | EjectAsked(job) | ScanAsked(job):
            return (type(event), job)
        case _:
            return (type(event),)


def _key_of_disk(device: str) -> Hashable:
    return (DiskAppeared, device)
