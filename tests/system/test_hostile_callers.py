"""Ordinary users who ask the daemon for what is not theirs, for too much, or for its start: attacks that were really run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd.control.interface import BUS_NAME, INTERFACE, OBJECT_PATH
from tests.bed.programs import NOBODY, Daemon, Dsb, run_forked, running_daemon
from tests.bed.strangers import flood, hanging_polkit, run_as
from tests.bed.system_bus import SystemBus, polkit, system_bus
from tests.bed.waiting import wait_until

pytestmark = pytest.mark.needs("root", "dbus-daemon", "busctl")

ADDRESS = (BUS_NAME, OBJECT_PATH, INTERFACE)
SECRET = "divorce-papers"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture
def bus() -> Iterator[SystemBus]:
    with system_bus() as running:
        yield running


@pytest.fixture
def dsb(tmp_path: Path, bus: SystemBus) -> Dsb:
    """Everything that has a path has the secret in it: catalogue, source, files, disk."""
    place = tmp_path / SECRET
    place.mkdir()
    dsb = Dsb(place / "catalogue", scan_at="03:00", watch=False)
    source, disk = place / "source", place / "disk"
    source.mkdir()
    disk.mkdir()
    for number in range(3):
        (source / f"{SECRET}-{number}").write_bytes(os.urandom(1000 + number))
    dsb.ok("source", "map", f"/{SECRET}", source)
    dsb.ok("disk", "add", "one", disk, "--folder", "--size", "50M")
    return dsb


@pytest.fixture
def daemon(dsb: Dsb) -> Iterator[Daemon]:
    with running_daemon(dsb) as running:
        running.wait_for("scanned")
        yield running


def resident(daemon: Daemon) -> int:
    """Bytes of its memory, at the most so far."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found
    return int(found[1]) << 10


def all_that_a_stranger_gets(bus: SystemBus) -> str:
    """Properties, events, and what is refused him."""
    told = [bus.busctl("get-property", *ADDRESS, name, user="nobody") for name in _properties(bus)]
    told.append(bus.busctl("--json=short", "call", *ADDRESS, "Events", "t", "0", user="nobody"))
    assert [answer for answer in told if answer.returncode] == []
    for method, *words in (("Details", "t", "0"), ("Outcome", "t", "1")):
        told.append(bus.busctl("--json=short", "call", *ADDRESS, method, *words, user="nobody"))
        assert told[-1].returncode != 0, method
    return "".join(answer.stdout + answer.stderr for answer in told)


def _properties(bus: SystemBus) -> list[str]:
    lines = bus.busctl("introspect", *ADDRESS, user="nobody").stdout.splitlines()
    names = [line.split()[0].removeprefix(".") for line in lines if " property " in line]
    assert len(names) > 10
    return names


def test_a_stranger_learns_no_path_and_no_uuid_whatever_happens(
    bus: SystemBus, dsb: Dsb, daemon: Daemon, tmp_path: Path
) -> None:
    place = tmp_path / SECRET
    watched = tmp_path / "watched"
    heard = watched.open("w")
    watch = subprocess.Popen(["busctl", f"--address={bus.address}", "monitor", "--json=short", BUS_NAME], stdout=heard)
    try:
        wait_until(
            lambda: bus.busctl("call", *ADDRESS, "Serves", "s", "/") and "Serves" in watched.read_text(), "the monitor"
        )
        # A file that changed, a source that is gone, a disk that is gone: all have a sentence.
        (place / "source" / f"{SECRET}-0").write_bytes(b"other")
        assert dsb("backup", "one").status == 3
        dsb.ok("backup", "one", "--update")
        (place / "source").rename(place / "elsewhere")
        assert bus.busctl("call", *ADDRESS, "Scan").returncode == 0
        daemon.wait_for("files are kept as they were known")
        (place / "disk").rename(place / "gone")
        assert dsb("backup", "one").status == 4
        told = all_that_a_stranger_gets(bus)
    finally:
        watch.terminate()
        watch.wait(10)
        heard.close()
    assert SECRET in daemon.log, "the journal is root's and has it all"
    assert SECRET not in told
    assert not UUID.search(told)
    assert "one: copied 2 objects" in told, "what is for everybody comes"
    assert "a source or folder could not be looked through" in told
    signals = [line for line in watched.read_text().splitlines() if '"type":"signal"' in line]
    assert any('"member":"Told"' in line for line in signals)
    assert any('"member":"Answered"' in line for line in signals)
    for line in signals:
        assert SECRET not in line
        assert not UUID.search(line)
    for message in daemon.messages:
        assert SECRET not in message, "systemctl status shows that line to everybody"


def test_what_root_sees_is_whole(bus: SystemBus, dsb: Dsb, daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / SECRET / "disk").rename(tmp_path / SECRET / "gone")
    assert SECRET in dsb.refused(4, "backup", "one")
    assert UUID.fullmatch(dsb.json("status")["disks"][0]["uuid"])
    (tmp_path / SECRET / "gone").rename(tmp_path / SECRET / "disk")
    assert SECRET in dsb.ok("backup", "one")
    assert SECRET in bus.busctl("--json=short", "call", *ADDRESS, "Details", "t", "0").stdout


@pytest.mark.needs("polkitd")
def test_details_and_outcomes_are_for_whom_polkit_permits_and_for_who_asked(
    bus: SystemBus, dsb: Dsb, daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / SECRET / "disk").rename(tmp_path / SECRET / "gone")
    with polkit(bus, "games"):
        assert bus.busctl("call", *ADDRESS, "Details", "t", "0", user="nobody").returncode != 0
        asked = bus.busctl("--json=short", "call", *ADDRESS, "BackUp", "sa{sv}", "one", "0", user="games")
        job = str(json.loads(asked.stdout)["data"][0])
        daemon.wait_for("'one' is not here")
        outcome = ("--json=short", "call", *ADDRESS, "Outcome", "t", job)
        told = wait_until(lambda: (done := bus.busctl(*outcome, user="games")).returncode == 0 and done.stdout, "its end")
        assert SECRET in told
        assert bus.busctl(*outcome, user="nobody").returncode != 0
        assert bus.busctl("call", *ADDRESS, "Details", "t", "0", user="games").returncode == 0


# --- too much ---

HUGE = "x" * 1_000_000


@pytest.mark.timeout(120)
def test_five_hundred_calls_of_a_megabyte_cost_next_to_nothing(bus: SystemBus, daemon: Daemon) -> None:
    before = resident(daemon)
    with hanging_polkit() as asked:
        calls = [("BackUp", "sa{sv}", HUGE, {}), ("Eject", "s", HUGE), ("BackUp", "sa{sv}", "one", {HUGE: ("s", HUGE)})]
        answers = run_as(NOBODY, lambda: flood([*calls, ("Serves", "s", HUGE)] * 16, 8, 30))
        # The bus itself gives a connection so many calls that wait.
        assert sum(answers.values()) == 512
        assert answers.keys() <= {"DbusInvalidArgsError", "DbusLimitsExceededError", "done"}
        assert asked.questions == 0
    assert resident(daemon) - before < 128 << 20
    assert len(daemon.log) < 10_000
    assert "xxxx" not in daemon.log


@pytest.mark.timeout(120)
def test_calls_that_wait_for_a_password_are_few_and_nobody_else_waits(bus: SystemBus, daemon: Daemon, dsb: Dsb) -> None:
    before = resident(daemon)
    with hanging_polkit() as asked:
        calls = [("BackUp", "sa{sv}", "one", {}), ("Eject", "s", "one"), ("Scan", ""), ("Cancel", "t", 0), ("Pause", "")]
        child = os.fork()
        if child == 0:
            status = 1
            try:
                answers = run_as(NOBODY, lambda: flood(calls * 10, 10, 8))
                status = 0 if answers["waits"] == 3 and answers["DbusLimitsExceededError"] == 497 else 1
                if status:
                    sys.stderr.write(f"{answers}\n")
            finally:
                os._exit(status)
        wait_until(lambda: asked.questions, "a question")
        began = time.monotonic()
        assert dsb.ok("pause") == "paused; 'dsb resume' goes on\n"
        assert dsb.ok("resume") == "going on after the pause\n"
        assert time.monotonic() - began < 5
        assert run_forked(["status"], NOBODY).status == 0
        assert run_as(5, lambda: flood([("Pause", "")], 1, 1)) == {"waits": 1}, "another user may ask"
        _, waited = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(waited) == 0
        assert asked.questions == 4
    assert resident(daemon) - before < 32 << 20
    assert "asks" not in daemon.log


def test_lists_of_events_are_given_so_often_and_no_oftener(bus: SystemBus, daemon: Daemon) -> None:
    answers = run_as(NOBODY, lambda: flood([("Events", "t", 0)] * 100, 5, 30))
    assert answers["done"] < 100
    assert answers["done"] + answers["DbusLimitsExceededError"] == 500
    for _ in range(100):
        assert bus.busctl("call", *ADDRESS, "State").returncode != 2
    assert bus.busctl("call", *ADDRESS, "Events", "t", "0").returncode == 0, "root is not held up"


@pytest.mark.needs("polkitd")
def test_jobs_of_one_user_are_bounded(bus: SystemBus, dsb: Dsb, daemon: Daemon) -> None:
    dsb.ok("pause")
    with polkit(bus, "games"):
        answers = [run_as(5, lambda: flood([("Scan", "")], 1, 10)) for _ in range(20)]
    assert answers == [{"done": 1}] * 16 + [{"DbusLimitsExceededError": 1}] * 4
    assert daemon.log.count("asks for a scan") == 16
    with dsb.start("backup", "one") as waiting:
        daemon.wait_for("asks for a backup")
        waiting.terminate()
        waiting.communicate(timeout=20)


# --- what root stopped ---


def test_nothing_that_is_shipped_starts_it_for_who_only_calls() -> None:
    root = Path(__file__).parent.parent.parent
    shipped = [
        path for path in (root / "packaging").rglob("*") if path.is_file() and path.suffix in (".service", ".busname")
    ]
    assert shipped == []
    assert "Alias=dbus-" not in (root / "systemd" / "distbackupd.service").read_text()


def test_status_of_an_ordinary_user_starts_nothing_even_where_the_bus_could(
    dsb: Dsb, bus: SystemBus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DISTBACKUP_PATH", raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    (bus.place / "lib").mkdir(mode=0o700)
    monkeypatch.setattr("distbackupd.cli.asking.SYSTEM_FOLDER", bus.place / "lib")
    with bus.activating([sys.executable, "-m", "distbackupd.daemon.main", *dsb.words()], tmp_path / "log"):
        for words in (["status"], ["status", "--json"], ["backup", "one"], ["eject", "one"]):
            done = run_forked(words, NOBODY)
            assert (done.status, done.out) == (2, "")
            assert done.err == (
                "dsb: distbackupd does not run, and only root may start it: 'sudo systemctl start distbackupd'\n"
            )
        assert not bus.has(BUS_NAME)
        assert not (tmp_path / "log").exists()
