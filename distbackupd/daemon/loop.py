"""The engine's thread: takes one event after another and lets the engine do it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from distbackupd.config.settings import Settings
from distbackupd.daemon.inbox import Inbox
from distbackupd.engine.ports import Stop
from distbackupd.model.disks import Volume
from distbackupd.model.errors import DistbackupError, EngineBusy, Interrupted
from distbackupd.model.inbox import DiskAppeared, DiskVanished, InboxEvent, JobDue, ReloadAsked, SourceTouched, StopAsked
from distbackupd.model.text import join_words
from distbackupd.notify.readiness import Heart

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
"""How often an idle loop shows that it is alive."""

IDLE_SILENCE = 4 * LOOK_SECONDS
"""Seconds without a sign of life after which an idle loop hangs."""

WORK_SILENCE = 1800.0
"""The same for a loop at work. One flush of a slow or dying USB disk takes many minutes, and to be killed in it would
help nobody: the kernel does not give the process back before the disk answers."""


class Engine(Protocol):
    """The use cases, as the daemon sees them. All calls come from one thread."""

    def scan(self, stop: Stop, folders: Sequence[bytes] | None = None) -> object:
        """Bring the catalogue up to date with all sources, or with these real folders only.

        Raises EngineBusy when another program holds the catalogue, Interrupted when stopped.
        """

    def back_up(self, volume: Volume, stop: Stop) -> bool:
        """Whole session with a plugged-in volume; False: it is not ours and was not touched.

        Raises EngineBusy, Interrupted, and DiskTrouble that is told already.
        """

    def source_folders(self) -> list[bytes]:
        """Real folders of all sources."""

    def unscanned(self) -> str | None:
        """A name for the present sources and settings if no full scan has seen them yet; None if one has."""

    def status(self) -> str:
        """One line: what is protected how well."""

    def reload(self, settings: Settings) -> None:
        """These settings hold from now on."""


class Household(Protocol):
    """What the loop asks of the daemon around it. All calls come from the loop's thread."""

    def reload(self) -> None:
        """Read the settings again."""

    def tend(self) -> None:
        """Look whether sources have changed."""

    def idle(self) -> None:
        """Nothing is being done now: show how things stand. Must not raise EngineBusy."""


class Loop:
    """Works off the inbox until it is asked to stop. An error in one event is told, and the next event is taken."""

    def __init__(self, inbox: Inbox, engine: Engine, household: Household, heart: Heart | None = None) -> None:
        self._inbox = inbox
        self._engine = engine
        self._household = household
        self._heart = heart or Heart("engine", IDLE_SILENCE)
        self._told_busy = False

    def run(self) -> None:
        """Until :class:`StopAsked`."""
        self._attempt(self._household.idle)
        while not self._inbox.stop.is_set():
            self._heart.beat()
            event = self._inbox.get(LOOK_SECONDS)
            if event is not None and not isinstance(event, StopAsked):
                self._handle(event)
                self._attempt(self._household.idle)

    def run_once(self) -> int:
        """Until nothing is pending. The exit code: that of the first error, 130 when asked to stop."""
        exit_code = 0
        while not self._inbox.stop.is_set() and (event := self._inbox.get(0)) is not None:
            exit_code = self._handle(event) or exit_code
        if self._inbox.stop.is_set():
            return Interrupted.exit_code
        return exit_code

    def _handle(self, event: InboxEvent) -> int:
        with self._heart.patience(WORK_SILENCE):
            try:
                return self._attempt(lambda: self._do(event))
            except EngineBusy as busy:
                self._inbox.keep(event)
                self._tell_busy(busy)
                return busy.exit_code

    def _attempt(self, work: Callable[[], None]) -> int:
        """Do it and tell what goes wrong; its exit code. Raises EngineBusy only."""
        try:
            work()
        except EngineBusy:
            raise
        except Interrupted as interrupted:
            log.debug("%s: %s", self._inbox.job_stop.reason or "stopped", interrupted)
        except DistbackupError as error:
            if not error.told:
                log.error("%s", error)
            return error.exit_code
        except Exception:
            log.exception("a bug in distbackupd, please report it; the daemon goes on with what comes next")
            return DistbackupError.exit_code
        return 0

    def _do(self, event: InboxEvent) -> None:
        match event:
            case DiskAppeared(volume):
                self._scan_touched()
                if self._inbox.job_stop.is_set():
                    return
                if not self._engine.back_up(volume, self._inbox.job_stop):
                    log.debug("%s is none of our disks, it is left alone", volume.device)
                self._told_busy = False
            case DiskVanished(device):
                log.debug("%s is gone", device)
            case SourceTouched(real_path):
                self._scan_touched(real_path)
            case JobDue("scan"):
                # What was touched so far is part of all.
                touched = self._inbox.take_touched()
                try:
                    self._engine.scan(self._inbox.job_stop)
                except EngineBusy:
                    self._keep_touched(touched)
                    raise
                self._told_busy = False
            case JobDue("tend"):
                self._inbox.retry()
                self._household.tend()
            case ReloadAsked():
                self._household.reload()
            case _:
                raise AssertionError(f"nothing is known of {event}")

    def _scan_touched(self, *folders: bytes) -> None:
        touched = sorted({*folders, *self._inbox.take_touched()})
        if not touched:
            return
        try:
            # The daemon's own stop, not the job's: that a disk is pulled out is no reason to forget what changed.
            self._engine.scan(self._inbox.stop, touched)
        except EngineBusy:
            self._keep_touched(touched)
            raise
        self._told_busy = False

    def _keep_touched(self, folders: Sequence[bytes]) -> None:
        for folder in folders:
            self._inbox.keep(SourceTouched(folder))

    def _tell_busy(self, busy: EngineBusy) -> None:
        if not self._told_busy:
            log.warning("%s; waiting with %s", busy, _name_work(self._inbox.waiting()) or "nothing")
            self._told_busy = True


def _name_work(events: Sequence[InboxEvent]) -> str:
    """``the disk on /dev/sdb1, the scan and 3 changed folders``."""
    words = [f"the disk on {event.volume.device}" for event in events if isinstance(event, DiskAppeared)]
    words += [f"the {event.job}" for event in events if isinstance(event, JobDue)]
    if folders := sum(isinstance(event, SourceTouched) for event in events):
        words.append("1 changed folder" if folders == 1 else f"{folders:,} changed folders")
    return join_words(words)
