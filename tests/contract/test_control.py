"""The daemon's service, its client and logind's listener, on a real bus, with a real polkit."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import pytest

from distbackupd import __version__
from distbackupd.control import connection, login
from distbackupd.control.client import (
    Change,
    DaemonAbsent,
    DaemonClient,
    DaemonRefuses,
    DaemonView,
    News,
    NoBus,
    Presence,
)
from distbackupd.control.login import LoginManager
from distbackupd.control.service import ControlService
from distbackupd.model.errors import UsageError
from distbackupd.model.events import DiskWanted, FileSkipped, MayUnplug, Paused, SessionStarted
from distbackupd.model.plans import BackupWish
from distbackupd.model.standing import Answer, DiskStanding, Protection, Standing, Told
from tests.bed.system_bus import SystemBus, logind, polkit, system_bus
from tests.bed.waiting import wait_until
from tests.fakes.desk import FakeDesk

T = TypeVar("T")

pytestmark = pytest.mark.needs("root", "dbus-daemon", "busctl")

ROOT = Path(__file__).parent.parent.parent
NAME, OBJECT, INTERFACE = "org.distbackupd", "/org/distbackupd", "org.distbackupd.Manager1"
COPYING = Standing("session", "one: copying 41%", "one", "copying", 3, 7, 41, 100, 12.5)
PROTECTION = Protection(
    {0: 5, 1: 1 << 40}, (DiskStanding("one", "u-1", 4, 3, 2, 1, None),), DiskWanted("one", "u-1", 1, 1 << 40), 1_700_000_000
)

PUBLIC_PROTECTION = Protection(
    {0: 5, 1: 1 << 40}, (DiskStanding("one", "", 4, 3, 2, 1, None),), DiskWanted("one", "", 1, 1 << 40), 1_700_000_000
)


@pytest.fixture
def bus() -> Iterator[SystemBus]:
    with system_bus() as running:
        yield running


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk(Path("/srv/catalogue of Jürgen"))


@contextmanager
def serving(desk: FakeDesk, pause: float = 30) -> Iterator[ControlService]:
    service = ControlService(desk, pause)
    service.start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture
def service(bus: SystemBus, desk: FakeDesk) -> Iterator[ControlService]:
    with serving(desk) as running:
        yield running


def ask(question: Callable[[DaemonClient], Awaitable[T]], whole: bool | None = None) -> T:
    async def answer() -> T:
        async with DaemonClient(whole) as daemon:
            return await question(daemon)

    return asyncio.run(answer())


def heard(
    act: Callable[[], object], until: Callable[[list[Change]], object], seconds: float = 10, whole: bool | None = None
) -> list[Change]:
    """What a client hears from the moment of ``act`` until it heard enough."""

    async def listen(daemon: DaemonClient) -> list[Change]:
        changes: list[Change] = []
        subscribed = await daemon.subscribe()
        await asyncio.to_thread(act)
        async with asyncio.timeout(seconds):
            async for change in subscribed:
                changes.append(change)
                if until(changes):
                    break
        return changes

    return ask(listen, whole)


def call(bus: SystemBus, method: str, *words: str, user: str | None = None) -> tuple[int, str]:
    """Exit status and what was printed."""
    done = bus.busctl("--json=short", "call", NAME, OBJECT, INTERFACE, method, *words, user=user)
    return done.returncode, (done.stdout + done.stderr).strip()


# --- what is shown ---


def test_view_is_what_the_desk_shows(service: ControlService, desk: FakeDesk) -> None:
    desk.stand(COPYING)
    desk.protect(PROTECTION)
    view = ask(DaemonClient.view)
    assert view == DaemonView(__version__, COPYING, PUBLIC_PROTECTION)


def test_serves_tells_whether_a_guess_is_right_and_not_what_would_be(service: ControlService) -> None:
    assert ask(lambda daemon: daemon.serves("/srv/catalogue of Jürgen"))
    assert not ask(lambda daemon: daemon.serves("/srv/other"))
    assert not ask(lambda daemon: daemon.serves("/" * 1_000_000))


def members(interface: ElementTree.Element) -> dict[tuple[str, str], object]:
    """Methods, signals and properties with all that makes them up."""
    found: dict[tuple[str, str], object] = {}
    for member in interface:
        if member.tag == "annotation":
            continue
        arguments = [
            (arg.get("name"), arg.get("type"), arg.get("direction", "out" if member.tag == "signal" else "in"))
            for arg in member.findall("arg")
        ]
        notes = {(note.get("name"), note.get("value")) for note in member.findall("annotation")}
        found[(member.tag, member.attrib["name"])] = (arguments, member.get("type"), member.get("access"), notes)
    return found


def test_introspection_is_what_the_package_ships(service: ControlService, bus: SystemBus) -> None:
    shipped = ElementTree.parse(ROOT / "packaging" / "dbus" / f"{INTERFACE}.xml").getroot()
    printed = bus.busctl("--xml-interface", "introspect", NAME, OBJECT).stdout
    running = ElementTree.fromstring(printed)
    (served,) = [interface for interface in running if interface.get("name") == INTERFACE]
    (described,) = shipped
    assert described.get("name") == INTERFACE
    assert members(served) == members(described)


def test_subscribe_begins_with_how_things_stand_and_keeps_the_order(service: ControlService, desk: FakeDesk) -> None:
    event = Told(7, 1_700_000_000, MayUnplug("one", "u-1"))

    def act() -> None:
        desk.tell(event)
        desk.answer(Answer(3, 4, "it is full"))

    changes = heard(act, lambda changes: isinstance(changes[-1], Answer))
    assert changes[:2] == [Standing(), Protection()]
    news = changes[2]
    assert isinstance(news, News)
    assert (news.number, news.kind, news.severity, news.disk) == (7, "MayUnplug", 5, "one")
    assert news.sentence == event.event.sentence
    assert changes[3] == Answer(3, 4, "it is full")


def test_changes_of_how_things_stand_come_at_the_most_twice_a_second_and_the_last_one_comes(
    service: ControlService, desk: FakeDesk
) -> None:
    last = Standing("session", "one: copying", "one", "copying", 500, 500)

    def act() -> None:
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 1.2:
            number += 1
            desk.stand(Standing("session", "one: copying", "one", "copying", number % 499, 500))
            time.sleep(0.005)
        desk.stand(last)

    changes = heard(act, lambda changes: changes[-1] == last)
    assert 3 <= sum(isinstance(change, Standing) for change in changes) <= 6


def test_changes_of_protection_are_heard_and_what_stays_is_not_sent_again(service: ControlService, desk: FakeDesk) -> None:
    def act() -> None:
        desk.stand(Standing())
        desk.protect(PROTECTION)

    assert heard(act, lambda changes: len(changes) == 3)[2] == PUBLIC_PROTECTION


def test_events_come_after_a_number(service: ControlService, desk: FakeDesk) -> None:
    for number in (5, 9, 1 << 50):
        desk.tell(Told(number, 1_700_000_000, SessionStarted("one", "u-1", "/mnt")))
    assert [news.number for news in ask(lambda daemon: daemon.events())] == [5, 9, 1 << 50]
    assert [news.number for news in ask(lambda daemon: daemon.events(9))] == [1 << 50]


def test_names_of_skipped_files_are_for_root_and_never_broadcast(
    service: ControlService, desk: FakeDesk, bus: SystemBus
) -> None:
    def act() -> None:
        desk.tell(Told(1, 1_700_000_000, FileSkipped(b"/private", "it changed")))
        desk.tell(Told(2, 1_700_000_000, Paused()))

    # Root asks for what no signal carries.
    changes = heard(act, lambda changes: isinstance(changes[-1], News) and changes[-1].number == 2)
    assert [change.number for change in changes if isinstance(change, News)] == [1, 2]
    assert [news.number for news in ask(lambda daemon: daemon.events())] == [1, 2]
    public = heard(act, lambda changes: isinstance(changes[-1], News), whole=False)
    assert [change.number for change in public if isinstance(change, News)] == [2]
    status, printed = call(bus, "Events", "t", "0", user="nobody")
    assert status == 0
    assert "/private" not in printed
    assert "paused" in printed


# --- what is asked ---


def test_what_root_asks_reaches_the_desk(service: ControlService, desk: FakeDesk) -> None:
    wish = BackupWish(copy_limit=200 << 30, copies_limit=2, evict=False, update=True, ignore_lock=True)

    async def ask_all(daemon: DaemonClient) -> list[object]:
        return [
            await daemon.back_up("one", wish),
            await daemon.eject("two"),
            await daemon.scan(),
            await daemon.cancel(),
            await daemon.cancel(404),
            await daemon.pause(),
            await daemon.resume(),
        ]

    assert ask(ask_all) == [1, 2, 3, True, False, None, None]
    assert desk.asked == [
        ("backup", "one", wish),
        ("eject", "two"),
        ("scan",),
        ("cancel", 0),
        ("cancel", 404),
        ("pause",),
        ("resume",),
    ]


def test_options_that_cannot_be_meant_are_refused_and_nothing_is_asked(
    service: ControlService, desk: FakeDesk, bus: SystemBus
) -> None:
    status, printed = call(bus, "BackUp", "sa{sv}", "one", "1", "limit", "s", "5G")
    assert status != 0
    assert "the option 'limit' of BackUp is a number of bytes, of D-Bus type 't', not 's'" in printed
    with pytest.raises(UsageError, match="maxcopies 0 is no number of copies; 1 or more is meant"):
        ask(lambda daemon: daemon.back_up("one", BackupWish(copies_limit=0)))
    assert desk.asked == []


CHANGING = [
    ("Scan",),
    ("Pause",),
    ("Resume",),
    ("Cancel", "t", "0"),
    ("Eject", "s", "one"),
    ("BackUp", "sa{sv}", "one", "0"),
]


def test_everybody_may_look_and_without_polkit_only_root_may_change(
    service: ControlService, desk: FakeDesk, bus: SystemBus
) -> None:
    shown = bus.busctl("get-property", NAME, OBJECT, INTERFACE, "State", user="nobody")
    assert (shown.returncode, shown.stdout) == (0, 's "opening"\n')
    for words in CHANGING:
        status, printed = call(bus, *words, user="nobody")
        assert (status, printed) == (1, "Call failed: Access denied"), words
    assert desk.asked == []


@pytest.mark.needs("polkitd")
def test_polkit_decides_for_everybody_but_root(service: ControlService, desk: FakeDesk, bus: SystemBus) -> None:
    with polkit(bus, "games"):
        for words in CHANGING:
            assert call(bus, *words, user="nobody") == (1, "Call failed: Access denied"), words
        assert desk.asked == []
        for words in CHANGING:
            assert call(bus, *words, user="games")[0] == 0, words
        assert len(desk.asked) == len(CHANGING)


def test_only_root_may_own_the_name(bus: SystemBus) -> None:
    words = ("call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su", NAME, "0")
    assert bus.busctl(*words, user="nobody").returncode != 0
    assert bus.busctl(*words).returncode == 0


# --- buses that come, go and hang ---


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_start_without_a_bus_warns_once_and_serves_when_there_is_one(
    bus: SystemBus, desk: FakeDesk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[float] = []
    reason = connection.why
    monkeypatch.setattr(connection, "why", lambda error: attempts.append(time.monotonic()) or reason(error))
    bus.end()
    with serving(desk, pause=0.02):
        wait_until(lambda: len(attempts) > 2, "some attempts, each of which could warn")
        bus.start()
        wait_until(lambda: bus.has(NAME), "the service on the bus")
    assert warnings(caplog) == ["nobody can watch this daemon or ask it over D-Bus: there is no system bus"]


def test_service_comes_back_when_the_bus_was_restarted(
    bus: SystemBus, desk: FakeDesk, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(desk, pause=0.02):
        assert bus.has(NAME)
        bus.end()
        desk.stand(COPYING)
        wait_until(lambda: warnings(caplog), "a warning")
        bus.start()
        wait_until(lambda: bus.has(NAME), "the service on the new bus")
        assert ask(DaemonClient.view).standing == COPYING
        assert len(desk.listeners) == 1
    assert desk.listeners == []


def test_start_and_stop_return_though_the_bus_hangs(bus: SystemBus, desk: FakeDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_SECONDS", 0.2)
    began = time.monotonic()
    with bus.hanging(), serving(desk):
        pass
    assert time.monotonic() - began < 2


def test_second_service_warns_and_serves_when_the_first_has_ended(
    service: ControlService, bus: SystemBus, caplog: pytest.LogCaptureFixture
) -> None:
    other = FakeDesk(Path("/srv/other"))
    with serving(other):
        assert "another program serves org.distbackupd on the system bus" in warnings(caplog)[0]
        assert ask(lambda daemon: daemon.serves("/srv/catalogue of Jürgen"))
        service.stop()
        wait_until(
            lambda: ask(DaemonClient.is_running) and ask(lambda daemon: daemon.serves("/srv/other")), "the second one"
        )


# --- clients without a daemon ---


def test_client_without_a_bus_says_so(bus: SystemBus) -> None:
    bus.end()
    with pytest.raises(NoBus, match="distbackupd cannot be asked: there is no system bus"):
        ask(DaemonClient.is_running)


def test_client_without_a_daemon_says_so(bus: SystemBus) -> None:
    assert ask(DaemonClient.is_running) is False
    with pytest.raises(DaemonAbsent, match="distbackupd does not run: 'systemctl start distbackupd' starts it"):
        ask(DaemonClient.view)


def test_client_that_may_not_change_things_gets_the_sentence(
    service: ControlService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distbackupd.control.authority.Authority.user", nobody)
    with pytest.raises(DaemonRefuses, match="only root may change what distbackupd does; nothing was changed: use sudo"):
        ask(DaemonClient.pause)


async def nobody(_authority: object, _sender: str) -> int:
    return 65534


def test_client_hears_that_the_daemon_goes_and_comes(bus: SystemBus, desk: FakeDesk) -> None:
    first = ControlService(desk)
    first.start()
    again: list[ControlService] = []

    def restart() -> None:
        first.stop()
        again.append(ControlService(desk))
        desk.stand(COPYING)
        again[0].start()

    changes = heard(restart, lambda changes: changes[-1:] == [Protection()] and Presence(True) in changes)
    again[0].stop()
    assert changes[-4:] == [Presence(False), Presence(True), COPYING, Protection()]


def test_client_that_listens_hears_that_the_bus_has_ended(
    service: ControlService, bus: SystemBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distbackupd.control.client._SILENCE", 0.1)
    with pytest.raises(NoBus, match="distbackupd cannot be asked: the system bus has ended"):
        heard(bus.end, lambda _changes: False)


# --- logind ---


@contextmanager
def listening(going_down: Callable[[], object] = lambda: None, awake: Callable[[], object] = lambda: None) -> Iterator[Any]:
    manager = LoginManager()
    manager.start(going_down, awake)
    try:
        yield manager
    finally:
        manager.stop()


def test_inhibited_holds_both_locks_for_as_long_as_it_lasts(bus: SystemBus) -> None:
    sleep = ("sleep", "distbackupd", "backing up to one", "block")
    shutdown = ("shutdown", "distbackupd", "backing up to one", "delay")
    with logind() as machine, listening() as manager:
        with manager.inhibited("backing up to one"):
            assert machine.held() == {sleep, shutdown}
        wait_until(lambda: not machine.held(), "both locks let go")
        with pytest.raises(ZeroDivisionError), manager.inhibited("backing up to one"):
            raise ZeroDivisionError
        wait_until(lambda: not machine.held(), "both locks let go after an error")


def test_shutdown_and_the_end_of_sleep_are_heard_and_their_opposites_are_not(bus: SystemBus) -> None:
    calls: list[str] = []
    done = threading.Event()

    def awake() -> None:
        calls.append("awake")
        done.set()

    with logind() as machine, listening(lambda: calls.append("down"), awake):
        machine.tell("prepare_for_sleep", True)
        machine.tell("prepare_for_shutdown", True)
        machine.tell("prepare_for_shutdown", False)
        machine.tell("prepare_for_sleep", False)
        assert done.wait(10)
    assert calls == ["down", "awake"]


def test_without_logind_nothing_is_inhibited_and_nobody_is_bothered(
    bus: SystemBus, caplog: pytest.LogCaptureFixture
) -> None:
    with listening() as manager, manager.inhibited("backing up"):
        pass
    assert warnings(caplog) == []


def test_without_a_bus_nothing_is_inhibited(bus: SystemBus) -> None:
    bus.end()
    with listening() as manager, manager.inhibited("backing up"):
        pass


def test_inhibited_does_not_wait_for_a_bus_that_hangs(bus: SystemBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "ASK_SECONDS", 0.1)
    with logind(), listening() as manager, bus.hanging():
        began = time.monotonic()
        with manager.inhibited("backing up"):
            pass
        assert time.monotonic() - began < 1
