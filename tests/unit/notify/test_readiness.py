from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd.notify import readiness
from distbackupd.notify.readiness import Heart, Pulse, ping_interval, silent_hearts


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager's end of sd_notify."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listener


def test_notify_each_call_is_one_message(manager: socket.socket) -> None:
    assert readiness.ready()
    assert readiness.status("photos-03: copying\n41%")
    assert readiness.stopping()
    assert readiness.extend_timeout(1.5)
    told = [manager.recv(4096).decode() for _ in range(4)]
    assert told == ["READY=1", "STATUS=photos-03: copying 41%", "STOPPING=1", "EXTEND_TIMEOUT_USEC=1500000"]


def test_reloading_time_comes_in_the_same_message(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    readiness.reloading()
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    name, _, microseconds = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_status_odd_name_is_sent_escaped(manager: socket.socket) -> None:
    readiness.status("caf\udce9")
    assert manager.recv(4096) == b"STATUS=caf\\xe9"


def test_notify_nobody_there_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not readiness.ready()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not readiness.ready()


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_heart_silent_for_too_long_is_not_alive() -> None:
    clock = Time()
    heart = Heart("engine", 60, clock)
    clock.now += 60
    assert heart.alive(clock.now)
    clock.now += 1
    assert silent_hearts([heart], clock.now) == ["engine"]
    heart.beat()
    assert silent_hearts([heart], clock.now) == []


def test_patience_allows_more_silence_while_it_lasts() -> None:
    clock = Time()
    heart = Heart("engine", 60, clock)
    clock.now += 50
    with heart.patience(1000):
        clock.now += 1000
        assert heart.alive(clock.now)
        clock.now += 1
        assert not heart.alive(clock.now)
    assert heart.alive(clock.now)
    clock.now += 61
    assert not heart.alive(clock.now)


def test_patience_shorter_than_usual_takes_nothing() -> None:
    clock = Time()
    heart = Heart("engine", 60, clock)
    with heart.patience(1):
        clock.now += 60
        assert heart.alive(clock.now)


def test_ping_only_while_all_hearts_beat(manager: socket.socket) -> None:
    clock = Time()
    pulse = Pulse(clock)
    engine, other = pulse.register("engine", 60), pulse.register("other", 600)
    assert pulse.ping()
    clock.now += 61
    assert not pulse.ping()
    engine.beat()
    assert pulse.ping()
    clock.now += 601
    engine.beat()
    assert not pulse.ping()
    other.beat()
    assert pulse.ping()
    manager.setblocking(False)
    assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_start_watchdog_asked_for_pings_from_a_thread(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    pulse = Pulse()
    pulse.register("engine", 60)
    pulse.start()
    assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    pulse.stop()
    pulse.stop()


def test_start_no_watchdog_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    pulse = Pulse()
    pulse.start()
    assert pulse._thread is None
    pulse.stop()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "180000000"}, 90),
        ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": str(os.getpid())}, 90),
        ({"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_ping_interval_environment_decides(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], seconds: float | None
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ping_interval() == seconds
