"""The daemon's life from start to end."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from distbackupd.config.places import catalogue_folder
from distbackupd.config.settings import Settings, load_settings
from distbackupd.control.desk import Desk
from distbackupd.daemon.board import Board
from distbackupd.daemon.inbox import Inbox
from distbackupd.daemon.loop import IDLE_SILENCE, Engine, Loop
from distbackupd.daemon.presence import presence
from distbackupd.daemon.signals import Action, beside, signals
from distbackupd.daemon.vigil import Requests, Vigil
from distbackupd.daemon.watching import Watching, say_unwatched
from distbackupd.engine.overview import idle_sentence
from distbackupd.engine.ports import Reporter
from distbackupd.model.disks import Volume
from distbackupd.model.errors import CatalogueFull, CatalogueTrouble, DiskTrouble, UsageError
from distbackupd.model.events import Event, ScanFailed
from distbackupd.model.events.base import THE_JOURNAL
from distbackupd.model.inbox import DiskAppeared, InboxEvent, JobDue, ReloadAsked, StopAsked
from distbackupd.model.standing import Standing
from distbackupd.notify import journal, readiness
from distbackupd.notify.readiness import Heart, Pulse
from distbackupd.notify.reporter import JournalReporter
from distbackupd.schedule.schedule import SCAN, Schedule
from distbackupd.sources.watcher import MISSING, Watcher

log = logging.getLogger(__name__)

OPENING_SECONDS = 1800.0
"""How long opening the catalogue may take: a big one may have to be brought to a newer form."""

_WATCHING_SECONDS = 2.0
_OPENING_PAUSE = 30.0
"""Seconds until a catalogue is tried again that its disk does not let us open."""


class Monitor(Protocol):
    """Tells of disks."""

    def start(self) -> None:
        """Subscribe; no disk is missed after this returned, and those already there are posted too."""

    def stop(self) -> None:
        """End; nothing is posted after this."""


Post = Callable[[InboxEvent], None]


class Control(Protocol):
    """Shows the desk to others and takes their wishes. Where there is no bus it says so and does nothing."""

    def start(self) -> None:
        """From now on; returns when it can be asked."""

    def stop(self) -> None:
        """Until now."""


class Login(Protocol):
    """The machine's own sleep and shutdown. Where there is no logind it does nothing."""

    def start(self, going_down: Callable[[], None], awake: Callable[[], None]) -> None:
        """Call ``going_down`` before the machine shuts down, ``awake`` after it slept, in another thread."""

    def inhibited(self, why: str) -> AbstractContextManager[object]:
        """While the context lasts the machine does not fall asleep, and waits for us a little when it shuts down."""

    def stop(self) -> None:
        """Hear nothing any more."""


@dataclass(frozen=True)
class Parts:
    """What the daemon is put together from."""

    open_engine: Callable[[Path, Settings, Reporter], AbstractContextManager[Engine]]
    make_monitor: Callable[[Post], Monitor]
    plugged_volumes: Callable[[], Iterable[Volume]]
    make_control: Callable[[Desk], Control]
    make_login: Callable[[], Login]
    requests_of: Requests = lambda _device: None


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    database: str | None = None
    config: Path | None = None
    once: bool = False


def serve(options: Options, parts: Parts) -> int:
    """Be the daemon until somebody asks to stop; with ``options.once`` until nothing is due. The exit code.

    Raises:
        DistbackupError: it cannot begin: settings, catalogue, another daemon, no udev.
    """
    settings = load_settings(options.config)
    folder = catalogue_folder(options.database, os.environ)
    pulse = Pulse()
    heart = pulse.register("engine", IDLE_SILENCE)
    inbox = Inbox(heart.beat)
    board = Board(folder, inbox, readiness.status)

    def tell(event: Event) -> None:
        journal.tell(event)
        board.tell(event)

    vigil = Vigil(inbox, board, tell, _end_at_once, parts.requests_of)
    reporter = JournalReporter(board.show, heart.beat, tell, moved=vigil.moved)

    def stop() -> None:
        readiness.stopping()
        board.stopping()
        inbox.post(StopAsked())

    actions: dict[int, Action] = {
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGHUP: lambda: inbox.post(ReloadAsked()),
    }

    def work() -> int:
        with _opened(options, parts, folder, settings, reporter, board, inbox, pulse, heart) as engine:
            if engine is None:
                return 0
            # What changed while nobody watched only a scan finds; it goes before the disks that are plugged in.
            inbox.post(JobDue(SCAN))
            with ExitStack() as cleanup:
                login = parts.make_login()
                household = _Household(options, settings, engine, reporter, inbox.post, board, login)
                loop = Loop(inbox, engine, household, heart, at_work=vigil.at_work)
                cleanup.callback(vigil.stop)
                vigil.start()
                if options.once:
                    for volume in parts.plugged_volumes():
                        inbox.post(DiskAppeared(volume))
                    return loop.run_once()
                monitor = parts.make_monitor(inbox.post)
                cleanup.callback(monitor.stop)
                monitor.start()
                cleanup.callback(pulse.stop)
                pulse.start()
                cleanup.callback(login.stop)
                login.start(stop, lambda: inbox.post(JobDue("tend")))
                control = parts.make_control(board)
                cleanup.callback(control.stop)
                control.start()
                cleanup.callback(household.stop)
                household.start()
                readiness.ready()
                log.info("serving the catalogue in %s", folder)
                loop.run()
                log.info("stopped")
        return 0

    with presence(folder), signals(actions):
        return beside(work)


def _end_at_once(sentence: str) -> None:
    """Without waiting for threads that wait in the kernel. Where one cannot even be killed, the process goes with that."""
    log.error("%s", sentence)
    os._exit(DiskTrouble.exit_code)


@contextmanager
def _opened(
    options: Options,
    parts: Parts,
    folder: Path,
    settings: Settings,
    reporter: Reporter,
    board: Board,
    inbox: Inbox,
    pulse: Pulse,
    heart: Heart,
) -> Iterator[Engine | None]:
    """The engine, once the disk with the catalogue lets it be opened; None: somebody asked to stop before that.

    A disk that is full today is waited for: nobody would start the daemon again when there is room. What else is wrong with
    the catalogue, or its disk, does not pass by itself.
    """
    told = ""
    while True:
        with ExitStack() as stack:
            try:
                with heart.patience(OPENING_SECONDS):
                    if not told:
                        board.show(Standing("opening", "opening the catalogue"))
                    readiness.extend_timeout(OPENING_SECONDS)
                    engine = stack.enter_context(parts.open_engine(folder, settings, reporter))
            except CatalogueFull as trouble:
                if options.once:
                    raise
                if str(trouble) != told:
                    told = str(trouble)
                    log.error("%s; the daemon waits until it can be used", told)
                    board.show(Standing("opening", f"waiting: {trouble.public_sentence}; {THE_JOURNAL}"))
                    # Whoever started the service need not wait with it.
                    pulse.start()
                    readiness.ready()
            else:
                yield engine
                return
        if isinstance(inbox.get(_OPENING_PAUSE), StopAsked):
            yield None
            return


class _Household:
    """What runs beside the loop: the clock and the watches. All calls come from the loop's thread."""

    def __init__(
        self,
        options: Options,
        settings: Settings,
        engine: Engine,
        reporter: JournalReporter,
        post: Post,
        board: Board,
        login: Login,
    ) -> None:
        self._board = board
        self._login = login
        self._config = options.config
        self._settings = settings
        self._engine = engine
        self._reporter = reporter
        self._post = post
        self._schedule = Schedule(post)
        self._watcher: Watcher | None = None
        self._watching: Watching | None = None
        self._asked: str | None = None
        self._hindrance = ""

    def start(self) -> None:
        self._schedule.start(self._settings.scan_at_time)
        self._watcher = Watcher(self._post, self._settings.settle_seconds, journal.tell)
        self._watching = Watching(self._watcher, self._show_watching)
        self.tend()

    def stop(self) -> None:
        self._schedule.stop()
        # Half-built watches of a big source are not waited for: they end with the process.
        if self._watching and self._watcher and self._watching.stop(_WATCHING_SECONDS):
            self._watcher.stop()

    def tend(self) -> None:
        if self._watching:
            self._watching.want(self._engine.source_folders() if self._settings.watch else [])
        unscanned = self._engine.unscanned()
        if unscanned is not None and unscanned != self._asked:
            # Once: a scan that could not be done is made up for at night.
            self._asked = unscanned
            self._post(JobDue(SCAN))

    def watch_clock(self) -> None:
        self._schedule.set_right()

    def idle(self) -> None:
        self._reporter.forget()
        if self._hindrance:
            self._board.show(Standing("idle", f"{self._hindrance}; {THE_JOURNAL}"))
            return
        protection = self._engine.protection()
        self._engine.rest()
        self._board.protect(protection)
        unwatched = say_unwatched(self._watcher.unwatched().values(), MISSING) if self._watcher else ""
        sentence = "; ".join(filter(None, (idle_sentence(protection), unwatched)))
        # Whoever looks after a disk did not work should read why, not only that nothing is going on.
        trouble = self._reporter.trouble
        self._board.show(Standing("idle", f"{trouble}. Now {sentence}" if trouble else sentence))

    def _show_watching(self, text: str) -> None:
        """In the thread that builds the watches: what a disk or a scan shows goes before it."""
        if not text:
            self._post(JobDue("show"))
        elif self._board.standing().state in ("opening", "idle"):
            self._board.show(Standing("idle", text))

    def copying(self) -> AbstractContextManager[object]:
        return self._login.inhibited("backing up to a disk")

    def hindered(self, trouble: CatalogueTrouble | None) -> None:
        if trouble:
            self._reporter.tell(ScanFailed(str(trouble)))
        else:
            log.info("the catalogue can be written again")
        self._hindrance = trouble.public_sentence if trouble else ""

    def answer(self, job: int, exit_code: int, sentence: str) -> None:
        self._board.answer(job, exit_code, sentence)

    def reload(self) -> None:
        readiness.reloading()
        try:
            settings = load_settings(self._config)
        except UsageError as error:
            log.error("%s; the settings stay as they were", error)
        else:
            self._apply(settings)
            log.info("settings read again")
        finally:
            readiness.ready()

    def _apply(self, settings: Settings) -> None:
        self._engine.reload(settings)
        self._settings = settings
        self._schedule.reschedule(settings.scan_at_time)
        if self._watcher:
            self._watcher.set_settle(settings.settle_seconds)
        self.tend()
