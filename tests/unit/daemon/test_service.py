"""The whole daemon with a fake engine and a fake monitor; signals, sd_notify, watches and schedule are real."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distbackupd.control.desk import Desk
from distbackupd.daemon import service
from distbackupd.daemon.main import run
from distbackupd.daemon.service import Options, Parts, Post
from distbackupd.model.disks import Volume
from distbackupd.model.errors import CatalogueDamaged, CatalogueFull
from distbackupd.model.inbox import DiskAppeared, DiskVanished, JobDue, ReloadAsked
from distbackupd.model.standing import Answer
from tests.bed.waiting import wait_until
from tests.fakes.engine import FakeEngine, wait_until_stopped

DISK = Volume("/dev/sdb1", "u1", "ext4")
SECONDS = 20


class Manager:
    """systemd's end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(SECONDS)

    def wait_for(self, pattern: str) -> str:
        while True:
            message = self._socket.recv(4096).decode()
            self.messages.append(message)
            if re.search(pattern, message):
                return message

    def close(self) -> None:
        self._socket.close()


class FakeMonitor:
    def __init__(self, post: Post) -> None:
        self.post = post
        self.started = self.stopped = False
        self.on_start: Callable[[Post], None] = lambda _post: None

    def start(self) -> None:
        self.started = True
        self.on_start(self.post)

    def stop(self) -> None:
        self.stopped = True


class Ears:
    """A listener that only remembers."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.stands = self.protects = self.told = self.answered = self.heard.append


class FakeControl:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def start(self) -> None:
        self.log.append("control starts")

    def stop(self) -> None:
        self.log.append("control stops")


class FakeLogin:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def start(self, going_down: Callable[[], None], awake: Callable[[], None]) -> None:
        self.going_down = going_down

    @contextmanager
    def inhibited(self, why: str) -> Iterator[None]:
        self.log.append("inhibited")
        try:
            yield
        finally:
            self.log.append("free to sleep")

    def stop(self) -> None:
        pass


class Scene:
    def __init__(self, folder: Path, manager: Manager) -> None:
        self.engine = FakeEngine()
        self.manager = manager
        self.folder = folder
        self.config = folder / "distbackupd.toml"
        self.config.write_text('settle = "0"\n')
        self.monitors: list[FakeMonitor] = []
        self.plugged: list[Volume] = []
        self.log: list[str] = []
        self.desk: Desk | None = None
        self.on_monitor_start: Callable[[Post], None] = lambda _post: None

    def make_monitor(self, post: Post) -> FakeMonitor:
        monitor = FakeMonitor(post)
        monitor.on_start = self.on_monitor_start
        self.monitors.append(monitor)
        return monitor

    def make_control(self, desk: Desk) -> FakeControl:
        self.desk = desk
        return FakeControl(self.log)

    def run(self, script: Callable[[], None] = lambda: None, once: bool = False) -> int:
        """The daemon in this thread, the script beside it; the script's failure is this test's."""
        failures: list[BaseException] = []

        def play() -> None:
            try:
                script()
            except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
                failures.append(error)
                os.kill(os.getpid(), signal.SIGTERM)

        options = Options(database=str(self.folder / "catalogue"), config=self.config, once=once)
        parts = Parts(
            self.engine.opened, self.make_monitor, lambda: self.plugged, self.make_control, lambda: FakeLogin(self.log)
        )
        player = threading.Thread(target=play, daemon=True)
        player.start()
        exit_code = run(options, parts)
        player.join(SECONDS)
        if failures:
            raise failures[0]
        return exit_code


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    # A signal that comes after the daemon has ended must not end the tests.
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield Scene(tmp_path, manager)
    manager.close()
    for number, handler in previous.items():
        signal.signal(number, handler)


def test_serve_ready_comes_after_the_monitor_and_stopping_at_the_end(scene: Scene) -> None:
    started: list[bool] = []

    def script() -> None:
        scene.manager.wait_for("^READY=1$")
        started.append(scene.monitors[0].started)
        scene.manager.wait_for("^STATUS=idle; 5.00 kB on 1 disk")
        terminate()
        scene.manager.wait_for("^STOPPING=1$")

    assert scene.run(script) == 0
    assert started == [True]
    assert scene.monitors[0].stopped
    assert scene.log == ["control starts", "control stops"]
    assert scene.manager.messages[:2] == ["STATUS=opening the catalogue", "EXTEND_TIMEOUT_USEC=1800000000"]


def test_serve_watchdog_asked_for_is_pinged(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")

    def script() -> None:
        scene.manager.wait_for("^WATCHDOG=1$")
        terminate()

    assert scene.run(script) == 0


def test_serve_signal_during_a_session_ends_it_within_seconds(scene: Scene) -> None:
    begun = threading.Event()
    scene.on_monitor_start = lambda post: post(DiskAppeared(DISK))
    scene.engine.on_back_up = lambda _volume, stop: wait_until_stopped(stop, begun)

    def script() -> None:
        assert begun.wait(SECONDS)
        terminate()

    assert scene.run(script) == 0
    assert scene.engine.done == [("scan", None)]


def test_serve_unplugged_during_a_session_ends_the_session_only(scene: Scene) -> None:
    begun = threading.Event()
    scene.on_monitor_start = lambda post: post(DiskAppeared(DISK))
    scene.engine.on_back_up = lambda _volume, stop: wait_until_stopped(stop, begun)

    def script() -> None:
        assert begun.wait(SECONDS)
        scene.manager.wait_for("^READY=1$")
        scene.monitors[0].post(DiskVanished("/dev/sdb1"))
        scene.manager.wait_for("^STATUS=idle; 5.00 kB on 1 disk")
        scene.manager.wait_for("^STATUS=idle; 5.00 kB on 1 disk")
        terminate()

    assert scene.run(script) == 0
    assert scene.log == ["control starts", "inhibited", "free to sleep", "control stops"]


def test_serve_eject_ends_the_session_and_is_answered(scene: Scene) -> None:
    begun = threading.Event()
    ears = Ears()
    scene.on_monitor_start = lambda post: post(DiskAppeared(DISK))
    scene.engine.on_back_up = lambda _volume, stop: wait_until_stopped(stop, begun)

    def script() -> None:
        assert begun.wait(SECONDS)
        scene.manager.wait_for("^READY=1$")
        assert scene.desk is not None
        scene.desk.subscribe(ears)
        assert scene.desk.cancel()
        job = scene.desk.ask_eject(0, "photos-03")
        wait_until(lambda: Answer(job, 0) in ears.heard, "the answer")
        terminate()

    assert scene.run(script) == 0
    assert scene.engine.done[-1] == ("eject", "photos-03")


def test_serve_source_changes_its_folder_is_scanned(scene: Scene, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    scene.engine.folders = [os.fsencode(source)]
    scanned: list[object] = []
    watching = threading.Event()

    def scan(_stop: object) -> None:
        if scene.engine.done:  # the first one is that of the start
            scanned.append(True)
            terminate()

    scene.engine.on_scan = scan

    def script() -> None:
        scene.manager.wait_for("^READY=1$")
        pause = threading.Event()
        # Watches are built beside the loop, and what changed before is not seen: so change until it is.
        while not scanned and not watching.wait(0.02):
            (source / "deep" / "file").touch()
            pause.wait(0.02)

    assert scene.run(script) == 0
    assert scene.engine.done[1] == ("scan", [os.fsencode(source / "deep")])


def test_serve_hangup_reads_the_settings_again(scene: Scene) -> None:
    def script() -> None:
        scene.manager.wait_for("^READY=1$")
        scene.config.write_text('keep_deleted = "5d"\nscan_at = "04:00"\n')
        os.kill(os.getpid(), signal.SIGHUP)
        assert "MONOTONIC_USEC=" in scene.manager.wait_for("^RELOADING=1")
        scene.manager.wait_for("^READY=1$")
        terminate()

    assert scene.run(script) == 0
    assert [settings.keep_deleted for settings in scene.engine.settings] == ["5d"]


def test_serve_hangup_bad_file_is_told_and_the_old_settings_stay(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    def script() -> None:
        scene.manager.wait_for("^READY=1$")
        scene.config.write_text('scan_at = "25:00"\n')
        os.kill(os.getpid(), signal.SIGHUP)
        scene.manager.wait_for("^RELOADING=1")
        scene.manager.wait_for("^READY=1$")
        terminate()

    assert scene.run(script) == 0
    assert scene.engine.settings == []
    assert 'scan_at = "25:00" is no time of day; write it like "03:00"; the settings stay as they were' in caplog.text


def test_serve_disk_plugged_at_the_start_is_backed_up_after_a_scan(scene: Scene) -> None:
    scene.on_monitor_start = lambda post: post(DiskAppeared(DISK))
    scene.engine.on_back_up = lambda _volume, _stop: terminate()
    assert scene.run() == 0
    assert scene.engine.done == [("scan", None), ("back up", "/dev/sdb1")]


def test_serve_source_mapped_meanwhile_is_scanned_once(scene: Scene) -> None:
    def script() -> None:
        scene.manager.wait_for("^STATUS=idle; 5.00 kB on 1 disk")
        scene.engine.unscanned_name = "one more source"
        for _ in range(2):
            scene.monitors[0].post(JobDue("tend"))
            scene.monitors[0].post(ReloadAsked())  # done after the tending, and seen from outside
            scene.manager.wait_for("^RELOADING=1")
        terminate()

    assert scene.run(script) == 0
    assert scene.engine.done.count(("scan", None)) == 2  # at the start, and then once


def test_serve_once_does_what_is_due_and_leaves(scene: Scene) -> None:
    scene.plugged = [DISK, Volume("/dev/sdc1", "u2", "ext4")]
    assert scene.run(once=True) == 0
    assert scene.engine.done == [("scan", None), ("back up", "/dev/sdb1"), ("back up", "/dev/sdc1")]
    assert scene.monitors == []


def test_serve_once_busy_says_so_with_its_exit_code(scene: Scene) -> None:
    scene.engine.busy = True
    scene.plugged = [DISK]
    assert scene.run(once=True) == 6


def test_serve_full_disk_of_the_catalogue_is_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_OPENING_PAUSE", 0.02)
    opened, room = scene.engine.opened, threading.Event()

    @contextmanager
    def open_engine(*arguments: object) -> Iterator[object]:
        if not room.is_set():
            raise CatalogueFull("the disk with the catalogue at /secret is full")
        with opened(*arguments) as engine:  # type: ignore[arg-type]
            yield engine

    scene.engine.opened = open_engine  # type: ignore[method-assign,assignment]

    def script() -> None:
        scene.manager.wait_for("STATUS=waiting: the disk with the catalogue is full")
        scene.manager.wait_for("READY=1")
        assert scene.monitors == []
        room.set()
        wait_until(lambda: ("scan", None) in scene.engine.done, "the scan at the start")
        terminate()

    assert scene.run(script) == 0
    assert len(scene.monitors) == 1


def test_serve_full_disk_of_the_catalogue_asked_to_stop_ends_well(scene: Scene) -> None:
    def open_engine(*_: object) -> None:
        raise CatalogueFull("the disk with the catalogue at /secret is full")

    scene.engine.opened = open_engine  # type: ignore[method-assign,assignment]

    def script() -> None:
        scene.manager.wait_for("READY=1")
        terminate()

    assert scene.run(script) == 0
    assert scene.run(once=True) == 5


def test_serve_damaged_catalogue_is_the_status_that_stays(scene: Scene) -> None:
    def open_engine(*_: object) -> None:
        raise CatalogueDamaged("the catalogue is damaged")

    scene.engine.opened = open_engine  # type: ignore[method-assign,assignment]
    assert scene.run() == 5
    scene.manager.wait_for("STATUS=the catalogue is damaged")


def test_serve_second_daemon_is_refused_in_a_sentence(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    codes: list[int] = []

    def second(_volume: object, _stop: object) -> None:
        codes.append(scene.run(once=True))

    scene.plugged = [DISK]
    scene.engine.on_back_up = second
    assert scene.run(once=True) == 0
    assert codes == [6]
    assert f"another distbackupd (process {os.getpid()}) serves this catalogue" in caplog.text


def test_run_bad_settings_are_told_in_a_sentence(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.config.write_text("nonsense = 1\n")
    assert scene.run() == 2
    assert "there is no setting 'nonsense'" in caplog.text
    assert "Traceback" not in caplog.text
