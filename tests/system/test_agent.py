"""``distbackup-agent`` between a real control service and real notification servers, on a desktop of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from distbackupd.agent.main import NAME
from distbackupd.control.interface import BUS_NAME
from distbackupd.control.service import ControlService
from distbackupd.daemon.board import Board
from distbackupd.daemon.inbox import Inbox
from distbackupd.model.events import (
    BadCopyFound,
    DiskWanted,
    Event,
    FileSkipped,
    MayUnplug,
    SessionFinished,
    SessionStarted,
    SourceLocked,
)
from distbackupd.model.inbox import EjectAsked
from distbackupd.model.standing import Standing
from tests.bed.desktop import SERVERS, Bus, Desktop, MockServer, bus, desktop, mock_server, server
from tests.bed.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.needs("desktop")

STARTED = SessionStarted("photos-03", "u3", "/run/distbackup-mnt/photos-03")
FINISHED = SessionFinished("photos-03", "u3", 212, 517_000_000_000, 3, 1000, 40, 2, 0, 0, 2280.0)
OFF = MayUnplug("photos-03", "u3", powered_off=True)
NOT_OFF = MayUnplug("photos-03", "u3", powered_off=False)
WANTED = DiskWanted("music-01", "u1", 1, 3_100_000_000_000)
BAD = BadCopyFound("photos-03", "u3", "ab" * 32, b"/a <b>bold</b> & rather long name.jpg", "its content differs")
IDLE = Standing("idle", "all is protected")
COPYING = Standing("session", "photos-03: copying 41% (212 of 517 GB), 38 min left", "photos-03", "copying", 1, 2, 41, 100)


class Office:
    """The desk, the daemon's face on a system bus, and agents. The daemon itself is the test."""

    def __init__(self, desk: Desktop, system: Bus) -> None:
        self.desk = desk
        self.system = system
        self.inbox = Inbox()
        self.board = Board(desk.folder, self.inbox, lambda _: None)
        self.board.show(IDLE)
        self._agents: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """As long as it runs."""
        service = ControlService(self.board)
        service.start()
        try:
            yield
        finally:
            service.stop()
            wait_until(lambda: not self.system.has(BUS_NAME), "the daemon to leave the bus")

    def agent(self) -> subprocess.Popen[bytes]:
        """One more of them."""
        self._agents.append(self.desk.start(sys.executable, "-m", "distbackupd.agent.main", log="agent.log"))
        return self._agents[-1]

    def ready_agent(self) -> subprocess.Popen[bytes]:
        """One that hears what is told from now on."""
        agent = self.agent()
        wait_until(lambda: self.remembered.exists() or agent.poll() is not None, "the agent to have caught up", 20)
        assert agent.poll() is None, self.log
        return agent

    def tell(self, *events: Event) -> None:
        for event in events:
            self.board.tell(event)

    @property
    def remembered(self) -> Path:
        """Where the agent keeps what it has shown."""
        return Path(self.desk.environment["XDG_STATE_HOME"], "distbackup", "last-event")

    @property
    def log(self) -> str:
        """What the agents said."""
        return (self.desk.folder / "agent.log").read_text()

    def ejection(self) -> EjectAsked:
        """What somebody clicked for."""
        asked = self.inbox.get(10)
        assert isinstance(asked, EjectAsked)
        return asked

    def close(self) -> None:
        for agent in self._agents:
            agent.kill()
            agent.wait()
        print(self.log if self._agents else "")


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.chdir(ROOT)
    with ExitStack() as stack:
        desk = stack.enter_context(desktop(tmp_path))
        system = stack.enter_context(bus(tmp_path, "system"))
        desk.environment["DBUS_SYSTEM_BUS_ADDRESS"] = system.address
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", system.address)
        office = Office(desk, system)
        stack.callback(office.close)
        yield office


def number_of(mock: MockServer, title: str) -> int:
    """The number that the mock gave it: it counts those that replace none."""
    fresh = [told for told in mock.notified() if told.replaces == 0]
    return next(number for number, told in enumerate(fresh, 1) if told.title == title)


def test_a_session_is_one_notification_from_plug_to_unplug(office: Office) -> None:
    with office.daemon(), mock_server(office.desk) as mock:
        office.ready_agent()
        office.tell(STARTED)
        (began,) = mock.wait_for(1)
        office.tell(*[FileSkipped(b"/a/%d" % number, "it went") for number in range(2000)])
        office.tell(FINISHED, OFF)
        _, done = mock.wait_for(2)
    assert (began.replaces, began.title, began.actions) == (0, "Backing up to photos-03", ["progress", "Progress"])
    assert (done.replaces, done.title, done.actions) == (1, "You may unplug photos-03", ["details", "Details"])
    assert done.body.startswith("It is done and switched off\nCopied 212 objects (517 GB)")
    assert done.milliseconds == 0
    assert done.hints["urgency"] == 1


def test_markup_is_escaped_where_the_server_has_it(office: Office) -> None:
    with office.daemon(), mock_server(office.desk) as mock:
        office.ready_agent()
        office.tell(BAD)
        (told,) = mock.wait_for(1)
    assert "/a &lt;b&gt;bold&lt;/b&gt; &amp; rather long name.jpg" in told.body
    assert told.hints["urgency"] == 2


def test_a_server_without_markup_and_actions_gets_none(office: Office) -> None:
    with office.daemon(), mock_server(office.desk, "body") as mock:
        office.ready_agent()
        office.tell(BAD)
        (told,) = mock.wait_for(1)
    assert "/a <b>bold</b> & rather long name.jpg" in told.body
    assert told.actions == []


def test_a_flood_is_one_notification_with_its_count(office: Office) -> None:
    with office.daemon(), mock_server(office.desk) as mock:
        office.ready_agent()
        office.tell(*[BAD] * 250)
        told = wait_until(lambda: [one for one in mock.notified() if one.title.startswith("250 bad copies")], "the sum")
        notified = mock.notified()
        assert len(notified) <= 4
        # How many of them came before the first was shown is a matter of time; there is one notification in any case.
        assert told[0].replaces == (0 if notified[0].title == told[0].title else 1)


def test_what_was_missed_is_told_after_login_and_once(office: Office) -> None:
    with office.daemon(), mock_server(office.desk) as mock:
        first = office.ready_agent()
        first.terminate()
        first.wait()
        office.tell(STARTED, FINISHED, OFF, WANTED)
        office.ready_agent()
        assert {told.title for told in mock.wait_for(2)} == {"You may unplug photos-03", "Bring music-01"}
        newest = office.board.told_since(0)[-1].number
        wait_until(lambda: office.remembered.read_text() == f"{newest}\n", "it to be remembered")


def test_progress_and_details_on_request(office: Office) -> None:
    with office.daemon(), mock_server(office.desk) as mock:
        office.ready_agent()
        office.board.show(COPYING)
        office.tell(STARTED)
        mock.wait_for(1)
        mock.click(1, "progress")
        wait_until(lambda: "Copying 41% (212 of 517 GB), 38 min left" in mock.notified()[-1].body, "progress")
        progress = mock.notified()[-1]
        assert (progress.replaces, progress.hints["value"]) == (1, 41)
        office.tell(FINISHED, OFF)
        wait_until(lambda: mock.notified()[-1].title == "You may unplug photos-03", "the end")
        mock.click(1, "details")
        wait_until(lambda: mock.notified()[-1].title == "photos-03: details", "details")
        assert "photos-03 is done and switched off, you may unplug it" in mock.notified()[-1].body


def test_a_click_of_another_program_is_none_of_ours(office: Office) -> None:
    with office.daemon(), mock_server(office.desk) as mock:
        office.ready_agent()
        office.tell(STARTED, FINISHED, NOT_OFF)
        mock.wait_for(1)
        wait_until(lambda: mock.notified()[-1].title == "You may unplug photos-03", "the end")
        mock.click(77, "eject")
        mock.click(1, "no-action-of-ours")
        mock.click(1, "eject")
        assert office.ejection().disk == "photos-03"
        assert office.inbox.waiting() == []


def test_what_was_clicked_away_is_not_replaced(office: Office) -> None:
    with office.daemon(), mock_server(office.desk) as mock:
        office.ready_agent()
        office.tell(STARTED)
        mock.wait_for(1)
        mock.close(1)
        office.tell(FINISHED, OFF)
        assert mock.wait_for(2)[1].replaces == 0


def test_a_server_that_comes_later_is_told_then(office: Office) -> None:
    with office.daemon():
        office.ready_agent()
        before = office.remembered.read_text()
        office.tell(STARTED, FINISHED, OFF)
        wait_until(lambda: "waits for one" in office.log, "the agent to miss a server")
        assert office.remembered.read_text() == before
        with mock_server(office.desk) as mock:
            (told,) = mock.wait_for(1)
            assert told.title == "You may unplug photos-03"
        # Another one knows nothing of the numbers that the first one gave.
        with mock_server(office.desk) as mock:
            office.tell(STARTED)
            assert mock.wait_for(1)[0].replaces == 0


def test_a_daemon_that_comes_later_and_again_is_heard(office: Office) -> None:
    with mock_server(office.desk) as mock:
        agent = office.agent()
        wait_until(lambda: office.desk.bus.has(NAME), "the agent")
        for expected in (1, 2):
            with office.daemon():
                office.tell(WANTED)
                told = mock.wait_for(expected)
            assert told[-1].title == "Bring music-01"
        assert agent.poll() is None


def test_the_daemon_is_not_started_by_the_agent(office: Office) -> None:
    started = office.desk.folder / "started"
    (office.desk.folder / f"{BUS_NAME}.service").write_text(
        f"[D-BUS Service]\nName={BUS_NAME}\nExec=/bin/sh -c 'touch {started}; false'\n"
    )
    office.system.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.ReloadConfig")
    with mock_server(office.desk) as mock:
        office.agent()
        wait_until(lambda: office.desk.bus.has(NAME), "the agent")
        with office.daemon():
            office.tell(WANTED)
            mock.wait_for(1)
        office.tell(STARTED)
    assert not started.exists()
    # For others the bus does start it.
    with pytest.raises(AssertionError, match="exited with status 1"):
        office.system.call(BUS_NAME, "/org/distbackupd", "org.distbackupd.Manager1.Resume")
    assert started.exists()


def test_a_second_agent_ends_at_once(office: Office) -> None:
    with office.daemon():
        office.ready_agent()
        assert office.agent().wait(20) == 0
    assert office.log == "distbackup-agent: another agent serves this session, so this one ends\n"


def test_without_a_session_bus_it_says_so(office: Office) -> None:
    office.desk.environment["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/nowhere"
    assert office.agent().wait(20) == 2
    assert office.log.startswith("distbackup-agent: there is no session bus here")
    assert len(office.log.splitlines()) == 1


def test_without_a_system_bus_it_says_so_and_waits(office: Office) -> None:
    office.desk.environment["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=/nowhere"
    agent = office.agent()
    wait_until(lambda: "there is no system bus" in office.log, "a sentence", 20)
    assert agent.poll() is None
    assert len(office.log.splitlines()) == 1


def test_it_ends_with_the_session_bus(office: Office) -> None:
    with office.daemon():
        agent = office.ready_agent()
        office.desk.bus.end()
        assert agent.wait(10) == 2
    assert office.log == "distbackup-agent: the session bus has ended, and this with it\n"


def test_it_carries_nothing_that_it_does_not_need() -> None:
    """It runs in every session: no database, no tables, no engine."""
    heavy = {"peewee", "sqlite3", "rich", "pyudev", "watchdog", "apscheduler", "systemd", "msgspec", "distbackupd.engine"}
    script = "import sys, distbackupd.agent.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "distbackupd.agent.teller" in done.stdout.split()
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("name", SERVERS)
def test_real_servers_show_it(office: Office, name: str, tmp_path: Path) -> None:
    """With DISTBACKUPD_SHOTS=FOLDER the photographs are kept there, to be looked at."""
    folder = Path(os.environ.get("DISTBACKUPD_SHOTS", tmp_path))
    locked = SourceLocked(b"/videos", "its folder is empty, as if nothing were mounted there")
    with office.daemon(), server(office.desk, *SERVERS[name]) as process:
        office.ready_agent()
        dark = office.desk.photograph(folder / f"{name}-0.png").read_bytes()
        for step, events in enumerate(([STARTED, WANTED, locked], [FINISHED, NOT_OFF, BAD]), 1):
            office.tell(*events)
            newest = office.board.told_since(0)[-1].number
            wait_until(lambda newest=newest: office.remembered.read_text() == f"{newest}\n", "all to be shown")
            photograph = wait_until(
                lambda step=step: office.desk.photograph(folder / f"{name}-{step}.png").read_bytes() != dark and step,
                "something on the screen",
            )
            assert photograph
        assert process.poll() is None


def test_a_real_click_on_eject_reaches_the_daemon_and_its_refusal_the_screen(office: Office) -> None:
    with office.daemon(), server(office.desk, *SERVERS["xfce4-notifyd"]):
        office.ready_agent()
        office.tell(STARTED, FINISHED, NOT_OFF)
        asked = wait_until(lambda: _click_last_button(office), "the button to be clicked", 20)
        assert asked.disk == "photos-03"
        wait_until(lambda: _windows(office.desk) == [], "the notification to close at the click")
        office.board.answer(asked.job, 4, "photos-03 cannot be unmounted, vim (812) keeps it busy")
        wait_until(lambda: len(_windows(office.desk)) == 1, "the refusal")
        if "DISTBACKUPD_SHOTS" in os.environ:
            office.desk.photograph(Path(os.environ["DISTBACKUPD_SHOTS"], "eject.png"))


def _windows(desk: Desktop) -> list[str]:
    with contextlib.suppress(subprocess.CalledProcessError):
        return desk.run("xdotool", "search", "--onlyvisible", "--class", "xfce4-notifyd").split()
    return []


def _click_last_button(office: Office) -> EjectAsked | None:
    """The last button is at the lower right corner."""
    for window in _windows(office.desk):
        words = office.desk.run("xdotool", "getwindowgeometry", "--shell", window).split()
        place = {name: int(value) for name, _, value in (word.partition("=") for word in words)}
        office.desk.click(place["X"] + place["WIDTH"] - 50, place["Y"] + place["HEIGHT"] - 32)
        asked = office.inbox.get(0.5)
        if isinstance(asked, EjectAsked):
            return asked
    return None
