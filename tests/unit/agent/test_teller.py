from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from distbackupd.agent import teller as teller_module
from distbackupd.agent.memory import Memory
from distbackupd.agent.notices import Action, Notice, Urgency
from distbackupd.agent.teller import Teller
from distbackupd.control.client import Change, DaemonAbsent, DaemonRefuses, NoBus, Presence
from distbackupd.control.wire import News, details_of
from distbackupd.model.events import DiskWanted, Event, FileSkipped, MayUnplug, SessionFinished, SessionStarted
from distbackupd.model.standing import Answer, Standing, Told

STARTED = SessionStarted("photos-03", "u3", "/run/distbackup-mnt/photos-03")
FINISHED = SessionFinished("photos-03", "u3", 212, 517_000_000_000, 0, 0, 40, 2, 0, 0, 2280.0)
OFF = MayUnplug("photos-03", "u3", powered_off=True)
WANTED = DiskWanted("music-01", "u1", 1, 3_100_000_000_000)
COPYING = Standing("session", "photos-03: copying 41%, 38 min left", "photos-03", "copying", 1, 2, 41, 100, 3.0)
NOW = 1_800_000_000


class FakeDaemon:
    """Tells what a test has it tell."""

    def __init__(self, *kept: Event, standing: Standing | None = None, then: int = NOW) -> None:
        self.changes: asyncio.Queue[Change | Exception] = asyncio.Queue()
        self.kept: list[News] = []
        self.number = 0
        self.standing = standing or Standing("idle", "idle")
        self.ejected: list[str] = []
        self.refusal: Exception | None = None
        self.asked = 0
        for event in kept:
            self.keep(event, then)

    def keep(self, event: Event, then: int = NOW) -> News:
        self.number += 1
        self.kept.append(News(*details_of(Told(self.number, then, event))))
        return self.kept[-1]

    def tell(self, *events: Event) -> None:
        for event in events:
            self.changes.put_nowait(self.keep(event))

    def come(self) -> None:
        self.changes.put_nowait(Presence(True))
        self.changes.put_nowait(self.standing)

    async def subscribe(self) -> AsyncIterator[Change]:
        return self._heard()

    async def _heard(self) -> AsyncIterator[Change]:
        if self.standing.state:
            yield self.standing
        while True:
            change = await self.changes.get()
            if isinstance(change, Exception):
                raise change
            yield change

    async def events(self, since: int = 0) -> list[News]:
        self.asked += 1
        return [news for news in self.kept if news.number > since]

    async def eject(self, disk: str) -> int:
        self.ejected.append(disk)
        if self.refusal:
            raise self.refusal
        return 5


class FakeScreen:
    """Shows everything at once."""

    clicked: Callable[[Notice, Action], None]
    settled: Callable[[], None]

    def __init__(self) -> None:
        self.history: list[Notice] = []
        self.shown: dict[str, Notice] = {}

    def show(self, notice: Notice) -> None:
        self.history.append(notice)
        self.shown[notice.key] = notice

    def withdraw(self, key: str) -> None:
        self.shown.pop(key, None)

    def is_shown(self, key: str) -> bool:
        return key in self.shown

    def settle(self) -> None:
        self.settled()


async def rest() -> None:
    """Let every task do what it can do without waiting."""
    for _ in range(20):
        await asyncio.sleep(0)


def play(
    folder: Path,
    daemon_of: Callable[[], FakeDaemon],
    scene: Callable[[FakeDaemon, FakeScreen], Coroutine[Any, Any, None]] | None = None,
) -> FakeScreen:
    """A session of the desktop in which this happens; what is on the screen at its end."""

    async def session() -> FakeScreen:
        screen, daemon = FakeScreen(), daemon_of()
        task = asyncio.create_task(Teller(screen, Memory(folder), clock=lambda: NOW + 60).listen(daemon))
        await rest()
        if scene:
            await scene(daemon, screen)
            await rest()
        if task.done() and not isinstance(task.exception(), NoBus):
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return screen

    return asyncio.run(session())


def test_listen_at_the_first_login_ever_tells_only_what_asks_for_something(tmp_path: Path) -> None:
    screen = play(tmp_path, lambda: FakeDaemon(STARTED, FINISHED, OFF, WANTED))
    assert list(screen.shown) == ["wanted"]
    assert Memory(tmp_path).last == 4


def test_listen_after_login_tells_what_was_missed_once(tmp_path: Path) -> None:
    Memory(tmp_path).keep(1)
    screen = play(tmp_path, lambda: FakeDaemon(WANTED, STARTED, FINISHED, OFF))
    assert [notice.title for notice in screen.history] == ["You may unplug photos-03"]
    assert "Copied 212 objects" in screen.shown["disk:photos-03"].body
    assert play(tmp_path, lambda: FakeDaemon(WANTED, STARTED, FINISHED, OFF)).history == []


def test_listen_what_is_old_is_told_with_its_time(tmp_path: Path) -> None:
    Memory(tmp_path).keep(0)
    screen = play(tmp_path, lambda: FakeDaemon(WANTED, then=NOW - 86400))
    assert screen.shown["wanted"].body.splitlines()[0] == "3.10 TB have one copy only"
    assert "January" in screen.shown["wanted"].body


def test_listen_to_a_daemon_that_counts_from_the_beginning_again(tmp_path: Path) -> None:
    Memory(tmp_path).keep(999)
    assert list(play(tmp_path, lambda: FakeDaemon(WANTED)).shown) == ["wanted"]
    assert Memory(tmp_path).last == 1


def test_listen_to_a_daemon_that_has_nothing_to_tell_forgets_nothing(tmp_path: Path) -> None:
    Memory(tmp_path).keep(999)
    play(tmp_path, FakeDaemon)
    assert Memory(tmp_path).last == 999


def test_listen_a_running_session_is_told_at_login(tmp_path: Path) -> None:
    screen = play(tmp_path, lambda: FakeDaemon(STARTED, standing=COPYING))
    assert screen.shown["disk:photos-03"].actions == (Action.PROGRESS,)


def test_listen_news_that_came_twice_are_told_once(tmp_path: Path) -> None:
    async def scene(daemon: FakeDaemon, screen: FakeScreen) -> None:
        daemon.tell(STARTED)
        daemon.changes.put_nowait(daemon.kept[-1])

    screen = play(tmp_path, FakeDaemon, scene)
    assert len(screen.history) == 1


def test_listen_a_daemon_that_comes_back_is_asked_what_was_missed(tmp_path: Path) -> None:
    async def scene(daemon: FakeDaemon, screen: FakeScreen) -> None:
        daemon.tell(FileSkipped(b"/a", "gone"))
        daemon.changes.put_nowait(Presence(False))
        await rest()
        daemon.keep(WANTED)
        daemon.come()

    assert list(play(tmp_path, FakeDaemon, scene).shown) == ["wanted"]


def test_listen_a_daemon_that_died_in_a_session_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teller_module, "RETURN_WITHIN", 0.01)

    async def scene(daemon: FakeDaemon, screen: FakeScreen) -> None:
        daemon.tell(STARTED)
        daemon.changes.put_nowait(Presence(False))
        await asyncio.wait_for(_until(lambda: screen.shown["disk:photos-03"].urgency is Urgency.CRITICAL), 5)

    assert "has gone" in play(tmp_path, FakeDaemon, scene).shown["disk:photos-03"].title


def test_listen_a_daemon_that_is_soon_back_worries_nobody(tmp_path: Path) -> None:
    async def scene(daemon: FakeDaemon, screen: FakeScreen) -> None:
        daemon.tell(STARTED)
        daemon.standing = COPYING
        daemon.changes.put_nowait(Presence(False))
        daemon.come()

    screen = play(tmp_path, FakeDaemon, scene)
    assert [notice.title for notice in screen.history] == ["Backing up to photos-03"]


def test_listen_raises_when_the_bus_has_ended(tmp_path: Path) -> None:
    async def session() -> None:
        daemon = FakeDaemon()
        daemon.changes.put_nowait(NoBus("the system bus has ended"))
        await Teller(FakeScreen(), Memory(tmp_path)).listen(daemon)

    with pytest.raises(NoBus):
        asyncio.run(session())


def test_progress_is_shown_on_request_and_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teller_module, "PROGRESS_EVERY", 0.01)

    async def scene(daemon: FakeDaemon, screen: FakeScreen) -> None:
        daemon.tell(STARTED)
        await rest()
        screen.clicked(screen.shown["disk:photos-03"], Action.PROGRESS)
        daemon.changes.put_nowait(COPYING)
        await asyncio.wait_for(_until(lambda: screen.shown["disk:photos-03"].percent == 41), 5)
        daemon.tell(FINISHED, OFF)
        await rest()
        shown = len(screen.history)
        await asyncio.sleep(0.05)  # three rounds in which nothing more must come
        assert len(screen.history) == shown

    screen = play(tmp_path, FakeDaemon, scene)
    assert screen.shown["disk:photos-03"].title == "You may unplug photos-03"
    assert "Copying 41%, 38 min left" in [notice.body for notice in screen.history]


def test_progress_ends_after_a_while_and_says_as_of_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teller_module, "PROGRESS_EVERY", 0.001)
    monkeypatch.setattr(teller_module, "PROGRESS_FOR", 0.01)

    async def scene(daemon: FakeDaemon, screen: FakeScreen) -> None:
        screen.clicked(screen.shown["disk:photos-03"], Action.PROGRESS)
        await asyncio.wait_for(_until(lambda: "\nas of " in screen.shown["disk:photos-03"].body), 5)

    play(tmp_path, lambda: FakeDaemon(STARTED, standing=COPYING), scene)


def test_progress_that_was_clicked_away_stays_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teller_module, "PROGRESS_EVERY", 0.001)

    async def scene(daemon: FakeDaemon, screen: FakeScreen) -> None:
        screen.clicked(screen.shown["disk:photos-03"], Action.PROGRESS)
        await rest()
        screen.shown.clear()
        await asyncio.sleep(0.02)

    assert play(tmp_path, lambda: FakeDaemon(STARTED, standing=COPYING), scene).shown == {}


def test_details_are_a_notification_of_their_own(tmp_path: Path) -> None:
    async def scene(daemon: FakeDaemon, screen: FakeScreen) -> None:
        daemon.tell(STARTED, FINISHED, OFF)
        await rest()
        screen.clicked(screen.shown["disk:photos-03"], Action.DETAILS)

    screen = play(tmp_path, lambda: FakeDaemon(standing=Standing("idle", "bring music-01")), scene)
    assert screen.shown["details:photos-03"].body.endswith("Now: bring music-01")
    assert "disk:photos-03" in screen.shown


def eject(folder: Path, *changes: Change, refusal: Exception | None = None) -> FakeScreen:
    async def scene(daemon: FakeDaemon, screen: FakeScreen) -> None:
        daemon.refusal = refusal
        daemon.tell(STARTED, FINISHED, OFF)
        await rest()
        screen.clicked(screen.shown["disk:photos-03"], Action.EJECT)
        screen.clicked(screen.shown["disk:photos-03"], Action.EJECT)
        await rest()
        assert daemon.ejected == ["photos-03"]
        for change in changes:
            daemon.changes.put_nowait(change)

    return play(folder, FakeDaemon, scene)


def test_eject_that_worked_tells_nothing_of_its_own(tmp_path: Path) -> None:
    assert "eject:photos-03" not in eject(tmp_path, Answer(4, 1, "somebody else's"), Answer(5, 0)).shown


def test_eject_that_failed_tells_why(tmp_path: Path) -> None:
    notice = eject(tmp_path, Answer(5, 4, "photos-03 cannot be unmounted, vim (812) keeps it busy")).shown["eject:photos-03"]
    assert (notice.title, notice.body) == (
        "photos-03 was not ejected",
        "photos-03 cannot be unmounted, vim (812) keeps it busy",
    )


def test_eject_that_polkit_refuses_tells_so(tmp_path: Path) -> None:
    refusal = DaemonRefuses("only an administrator may change what distbackupd does")
    assert "administrator" in eject(tmp_path, refusal=refusal).shown["eject:photos-03"].body


def test_eject_while_the_daemon_ends_is_answered(tmp_path: Path) -> None:
    assert "ended meanwhile" in eject(tmp_path, Presence(False)).shown["eject:photos-03"].body
    absent = DaemonAbsent("distbackupd does not run")
    assert "does not run" in eject(tmp_path, refusal=absent).shown["eject:photos-03"].body


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)
