"""The engine's thread: takes one event after another and lets the engine do it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import NamedTuple, Protocol

from distbackupd.config.settings import Settings
from distbackupd.daemon.inbox import Inbox, PatientStop, StopToken
from distbackupd.engine.ports import Stop
from distbackupd.model.disks import Volume
from distbackupd.model.errors import (
    CatalogueDamaged,
    CataloguePlaceTrouble,
    CatalogueTrouble,
    DistbackupError,
    EngineBusy,
    Interrupted,
)
from distbackupd.model.inbox import (
    Asked,
    BackupAsked,
    DiskAppeared,
    DiskVanished,
    EjectAsked,
    InboxEvent,
    JobDue,
    ReloadAsked,
    ScanAsked,
    SourceTouched,
    StopAsked,
)
from distbackupd.model.plans import BackupWish
from distbackupd.model.standing import Protection
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

DISK_PATIENCE = 1800.0
"""Seconds that a disk waits for a scan that is under way, or for that of the folders that were touched before it came: what
is not read then is read after its session. New sources are scanned to the end first, for root has just asked for them."""


FIRST_PAUSE, LONGEST_PAUSE = 50.0, 900.0
"""Seconds until what a full or failing disk of the catalogue kept us from is tried again; the pause doubles each time."""


class Engine(Protocol):
    """The use cases, as the daemon sees them. All calls come from one thread."""

    def scan(self, stop: Stop, folders: Sequence[bytes] | None = None, ignore_lock: bool = False) -> object:
        """Bring the catalogue up to date with all sources, or with these real folders only.

        ``ignore_lock``: also with folders that are locked or turned empty.

        Raises EngineBusy when another program holds the catalogue, Interrupted when stopped.
        """

    def back_up(self, volume: Volume, stop: Stop, waiting: Sequence[Volume] = ()) -> bool:
        """Whole session with a plugged-in volume; False: it is not ours and was not touched.

        ``waiting``: volumes whose sessions come later. Raises EngineBusy, Interrupted, and DiskTrouble that is told
        already.
        """

    def back_up_disk(
        self, name: str, wish: BackupWish, stop: Stop, begins: Callable[[Volume], None], waiting: Sequence[Volume] = ()
    ) -> None:
        """Whole session with an enrolled disk that somebody named; ``begins`` hears which volume that is.

        Raises UsageError, EngineBusy, Interrupted, DiskTrouble.
        """

    def eject(self, name: str) -> None:
        """Unmount an enrolled disk wherever it is mounted, and switch it off. Raises UsageError, DiskTrouble."""

    def is_ours(self, volume: Volume) -> bool:
        """Whether an enrolled disk lies on the volume."""

    def remind(self) -> None:
        """Once a day, tell which disks stayed away for too long, and which to bring. Raises EngineBusy."""

    def awaits_scan(self) -> bool:
        """Whether a scan of everything is to tell whether the brake stays on."""

    def source_folders(self) -> list[bytes]:
        """Real folders of all sources."""

    def unscanned(self) -> str | None:
        """A name for the present sources and settings if no full scan has seen them yet; None if one has."""

    def reread(self, stop: Stop) -> None:
        """Read sources again for some seconds, if that is due. Never raises EngineBusy."""

    def protection(self) -> Protection:
        """What is protected how well."""

    def rest(self) -> None:
        """Nothing is to be done for a while: keep no memory for that."""

    def reload(self, settings: Settings) -> None:
        """These settings hold from now on."""


class Household(Protocol):
    """What the loop asks of the daemon around it. All calls come from the loop's thread."""

    def reload(self) -> None:
        """Read the settings again."""

    def tend(self) -> None:
        """Look whether sources have changed."""

    def watch_clock(self) -> None:
        """The machine's clock may have been set; called twice a minute, and after each piece of work that took longer."""

    def idle(self) -> None:
        """Nothing is being done now: show how things stand. Must not raise EngineBusy."""

    def copying(self) -> AbstractContextManager[object]:
        """A session is going on while the context lasts: the machine shall not fall asleep."""

    def answer(self, job: int, exit_code: int, sentence: str) -> None:
        """What somebody asked for has ended."""

    def hindered(self, trouble: CatalogueTrouble | None) -> None:
        """Nothing can be recorded for this reason, told once; None: it can be again."""


class Ending(NamedTuple):
    """How a piece of work ended: an exit code of the one table, and the sentence if it is not 0.

    ``may_pass``: the disk with the catalogue is in the way, so it is worth trying again.
    """

    exit_code: int = 0
    sentence: str = ""
    may_pass: bool = False


class Loop:
    """Works off the inbox until it is asked to stop. An error in one event is told, and the next event is taken."""

    def __init__(
        self,
        inbox: Inbox,
        engine: Engine,
        household: Household,
        heart: Heart | None = None,
        disk_patience: float = DISK_PATIENCE,
        at_work: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """``at_work`` is entered while something is being done that may have to wait for a disk or a source."""
        self._at_work = at_work
        self._disk_patience = disk_patience
        self._inbox = inbox
        self._engine = engine
        self._household = household
        self._heart = heart or Heart("engine", IDLE_SILENCE)
        self._told_busy = False
        self._watched_clock = time.monotonic()
        self._hindrance = ""
        self._pause = FIRST_PAUSE
        self._try_again_at = 0.0

    def run(self) -> None:
        """Until :class:`StopAsked`."""
        self._show_idle()
        while not self._inbox.stop.is_set():
            self._heart.beat()
            event = self._inbox.get(LOOK_SECONDS)
            if event is None:
                self._use_idle_time()
            if event is not None and not isinstance(event, StopAsked):
                self._handle(event)
                if time.monotonic() - self._watched_clock >= LOOK_SECONDS:
                    self._watch_clock()
                self._show_idle()

    def run_once(self) -> int:
        """Until nothing is pending. The exit code: that of the first error, 130 when asked to stop."""
        exit_code = 0
        while not self._inbox.stop.is_set() and (event := self._inbox.get(0)) is not None:
            exit_code = self._handle(event) or exit_code
        if self._inbox.stop.is_set():
            return Interrupted.exit_code
        return exit_code

    def _handle(self, event: InboxEvent) -> int:
        with self._heart.patience(WORK_SILENCE), self._at_work():
            if isinstance(event, Asked):
                ending = self._attempt(lambda: self._do_asked(event))
                self._household.answer(event.job, ending.exit_code, ending.sentence)
            else:
                ending = self._attempt(lambda: self._do(event))
                if ending.exit_code == EngineBusy.exit_code or ending.may_pass:
                    self._inbox.keep(event)
                if ending.exit_code == EngineBusy.exit_code:
                    self._tell_busy(ending.sentence)
            # A disk that was pulled out, or work that somebody cancelled, is no failure of ours.
            return 0 if ending.exit_code == Interrupted.exit_code else ending.exit_code

    def _show_idle(self) -> None:
        # How things stand tells of sources too, and one may hang.
        with self._heart.patience(WORK_SILENCE), self._at_work():
            self._attempt(self._household.idle)

    def _use_idle_time(self) -> None:
        self._watch_clock()
        if not self._inbox.idle_stop.is_set():
            # A source that hangs, on NFS say, is no reason to be killed.
            with self._heart.patience(WORK_SILENCE), self._at_work():
                self._attempt(lambda: self._engine.reread(self._inbox.idle_stop))

    def _watch_clock(self) -> None:
        self._watched_clock = time.monotonic()
        self._attempt(self._household.watch_clock)

    def _attempt(self, work: Callable[[], None]) -> Ending:
        """Do it and tell what goes wrong; only that another engine is at work is left for the caller to tell."""
        try:
            work()
        except EngineBusy as busy:
            return Ending(busy.exit_code, str(busy))
        except Interrupted as interrupted:
            reason = self._inbox.job_stop.reason or "stopped"
            log.debug("%s: %s", reason, interrupted)
            return Ending(interrupted.exit_code, reason)
        except (CataloguePlaceTrouble, CatalogueDamaged) as trouble:
            self._hinder(trouble)
            return Ending(trouble.exit_code, str(trouble), isinstance(trouble, CataloguePlaceTrouble))
        except DistbackupError as error:
            if not error.told:
                log.error("%s", error)
            return Ending(error.exit_code, str(error))
        except Exception:
            log.exception("a bug in distbackupd, please report it; the daemon goes on with what comes next")
            return Ending(DistbackupError.exit_code, "a bug in distbackupd, please report it; the journal has the details")
        return Ending()

    def _hinder(self, trouble: CatalogueTrouble) -> None:
        """Once for each reason, however many events meet it."""
        if str(trouble) != self._hindrance:
            self._hindrance = str(trouble)
            self._household.hindered(trouble)
        now = time.monotonic()
        if now >= self._try_again_at:
            self._try_again_at = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _works_again(self) -> None:
        self._told_busy = False
        self._pause, self._try_again_at = FIRST_PAUSE, 0.0
        if self._hindrance:
            self._hindrance = ""
            self._household.hindered(None)
            self._inbox.retry()

    def _do_asked(self, asked: Asked) -> None:
        stop = self._inbox.job_stop
        match asked:
            case BackupAsked(_, disk, wish):
                if wish.update:
                    self._scan_everything(stop, wish.ignore_lock)
                else:
                    self._scan_what_is_news()
                with self._household.copying():
                    self._engine.back_up_disk(disk, wish, stop, self._begins, self._inbox.waiting_volumes())
            case EjectAsked(_, disk):
                self._engine.eject(disk)
            case ScanAsked():
                self._scan_everything(stop)

    def _begins(self, volume: Volume) -> None:
        self._inbox.works_on(volume.device)

    def _do(self, event: InboxEvent) -> None:
        match event:
            case DiskAppeared(volume):
                if not self._engine.is_ours(volume):
                    log.debug("%s is none of our disks, it is left alone", volume.device)
                    return
                self._scan_what_is_news()
                if self._inbox.job_stop.is_set():
                    return
                with self._household.copying():
                    self._engine.back_up(volume, self._inbox.job_stop, self._inbox.waiting_volumes())
                self._works_again()
            case DiskVanished(device):
                log.debug("%s is gone", device)
            case SourceTouched(real_path):
                self._scan_touched(real_path)
            case JobDue("scan"):
                stop = self._patient(self._inbox.job_stop, self._inbox.disk_waits_since)
                with self._going_on_later(stop, event):
                    self._scan_everything(stop)
            case JobDue("tend"):
                if time.monotonic() >= self._try_again_at:
                    self._inbox.retry()
                self._household.tend()
                with suppress(EngineBusy):  # it comes again in a minute
                    self._engine.remind()
            case ReloadAsked():
                self._household.reload()
            case JobDue("show"):
                pass  # that is done after each event
            case _:
                raise AssertionError(f"nothing is known of {event}")

    def _scan_what_is_news(self) -> None:
        """Before a disk gets its copies: everything if a source was mapped or set otherwise, else what was touched."""
        if self._engine.unscanned() is None:
            began = time.monotonic()
            self._scan_touched(waits_since=lambda: began)
        else:
            self._scan_everything(self._inbox.lasting_stop)

    def _patient(self, stop: StopToken, waits_since: Callable[[], float | None]) -> PatientStop:
        return PatientStop(stop, waits_since, self._disk_patience)

    @contextmanager
    def _going_on_later(self, stop: PatientStop, *events: InboxEvent) -> Iterator[None]:
        """What was stopped for a disk's sake is done after its session."""
        try:
            yield
        except Interrupted:
            if not stop.gave_way:
                raise
            log.info("a disk has waited for the scan for long enough: the disk goes first, the scan goes on afterwards")
            for event in events:
                self._inbox.keep(event)

    def _scan_everything(self, stop: Stop, ignore_lock: bool = False) -> None:
        # What was touched so far is part of all.
        touched = self._inbox.take_touched()
        try:
            self._engine.scan(stop, ignore_lock=ignore_lock)
        except (EngineBusy, CataloguePlaceTrouble):
            self._keep_touched(touched)
            raise
        self._works_again()

    def _scan_touched(self, *folders: bytes, waits_since: Callable[[], float | None] | None = None) -> None:
        touched = sorted({*folders, *self._inbox.take_touched()})
        if not touched:
            return
        # The daemon's own stop, not the job's: that a disk is pulled out is no reason to forget what changed.
        stop = self._patient(self._inbox.lasting_stop, waits_since or self._inbox.disk_waits_since)
        try:
            with self._going_on_later(stop, *map(SourceTouched, touched)):
                self._engine.scan(stop, touched)
        except (EngineBusy, CataloguePlaceTrouble):
            self._keep_touched(touched)
            raise
        self._works_again()
        if self._engine.awaits_scan():
            self._inbox.post(JobDue("scan"))

    def _keep_touched(self, folders: Sequence[bytes]) -> None:
        for folder in folders:
            self._inbox.keep(SourceTouched(folder))

    def _tell_busy(self, sentence: str) -> None:
        if not self._told_busy:
            log.warning("%s; waiting with %s", sentence, _name_work(self._inbox.waiting()) or "nothing")
            self._told_busy = True


def _name_work(events: Sequence[InboxEvent]) -> str:
    """``the disk on /dev/sdb1, the scan and 3 changed folders``."""
    words = [f"the disk on {event.volume.device}" for event in events if isinstance(event, DiskAppeared)]
    words += [f"the {event.job}" for event in events if isinstance(event, JobDue)]
    if folders := sum(isinstance(event, SourceTouched) for event in events):
        words.append("1 changed folder" if folders == 1 else f"{folders:,} changed folders")
    return join_words(words)
