"""``dsb`` and the daemon on one bus: what it does there is what it does alone, in the same words."""

from __future__ import annotations

import json
import os
import re
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bed.programs import NOBODY, Daemon, Dsb, Finished, run_forked, running_daemon
from tests.bed.system_bus import SystemBus, polkit, system_bus
from tests.bed.waiting import wait_until

pytestmark = pytest.mark.needs("root", "dbus-daemon", "busctl")

REFUSED = "polkit does not answer here, so only root may change what distbackupd does; nothing was changed: use sudo"


@pytest.fixture
def bus() -> Iterator[SystemBus]:
    with system_bus() as running:
        yield running


@pytest.fixture
def dsb(tmp_path: Path, bus: SystemBus) -> Dsb:
    """A catalogue with three files in one source, and a disk in a folder."""
    dsb = Dsb(tmp_path / "catalogue", scan_at="03:00", watch=False)
    source, disk = tmp_path / "source", tmp_path / "disk"
    source.mkdir()
    disk.mkdir()
    for number in range(3):
        (source / str(number)).write_bytes(os.urandom(1000 + number))
    dsb.ok("source", "map", "/", source)
    dsb.ok("disk", "add", "one", disk, "--folder", "--size", "50M")
    return dsb


@pytest.fixture
def daemon(dsb: Dsb) -> Iterator[Daemon]:
    with running_daemon(dsb) as running:
        running.wait_for("scanned")
        yield running


def without_times(text: str) -> list[str]:
    """Lines without what differs from run to run."""
    return [re.sub(r"in [0-9.]+ s|\d{4}-\d\d-\d\d \d\d:\d\d", "…", line) for line in text.splitlines()]


def test_backup_is_done_by_the_daemon_in_the_words_of_dsb_alone(dsb: Dsb, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    dsb.ok("disk", "add", "two", tmp_path / "two", "--folder", "--size", "50M")
    dsb.ok("update")
    alone = without_times(dsb.ok("backup", "one").replace("one", "DISK"))
    with running_daemon(dsb) as daemon:
        daemon.wait_for("scanned")
        asked = without_times(dsb.ok("backup", "two").replace("two", "DISK"))
        assert "user 0 asks for a backup to" in daemon.log
    events = ["DISK: recognised at", "DISK: copied 3 objects (3.00 kB)", "destination DISK updated."]
    for line in events:
        assert any(told.startswith(line) for told in alone), alone
        assert any(told.startswith(line) for told in asked), asked
    assert [line for line in alone if line.endswith("state:")] == [line for line in asked if line.endswith("state:")]


def test_backup_json_has_the_keys_of_dsb_alone(dsb: Dsb, daemon: Daemon) -> None:
    asked = dsb.json("backup", "one")
    daemon.stop()
    alone = dsb.json("backup", "one")
    assert {key: type(value) for key, value in asked.items()} == {key: type(value) for key, value in alone.items()}
    assert (asked["disk"], asked["copied_objects"], alone["copied_objects"]) == ("one", 3, 0)


def test_backup_by_path_with_options(dsb: Dsb, daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "source" / "new").write_bytes(b"new")
    told = dsb.ok("backup", tmp_path / "disk", "--update", "--limit", "3000")
    assert "1 new" in told
    assert dsb.json("info")["copies"]["0"]["objects"] == 1


def test_backup_with_skipped_files_ends_with_status_3(dsb: Dsb, daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "source" / "0").write_bytes(b"other")
    done = dsb("backup", "one")
    assert done.status == 3, done
    assert "1 file skipped, to be tried again" in done.out


def test_backup_of_what_cannot_be_meant_is_refused_as_by_dsb_alone(dsb: Dsb, daemon: Daemon) -> None:
    assert dsb.refused(2, "backup", "two") == "there is no disk 'two'; there is one"
    assert dsb.refused(2, "backup", "one", "--maxcopies", "0").startswith("--maxcopies 0 is no number of copies")
    assert "is no size" in dsb.refused(2, "backup", "one", "--limit", "12Q")
    assert "asks" not in daemon.log


def test_backup_to_a_disk_that_is_not_here_ends_with_status_4(dsb: Dsb, daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    done = dsb("backup", "one")
    assert done.status == 4, done
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("dsb: 'one' is not here: plug it in")


def test_simulate_and_no_action_are_done_by_dsb_alone(dsb: Dsb, daemon: Daemon) -> None:
    assert "nothing was changed" in dsb.ok("backup", "one", "--simulate")
    assert "nothing was changed" in dsb.ok("-n", "backup", "one")
    assert dsb.ok("-n", "pause") == "Would ask distbackupd to pause\n"
    assert "asks" not in daemon.log
    assert dsb.json("status")["daemon"] == "idle"


def test_interrupt_takes_the_job_back(dsb: Dsb, daemon: Daemon) -> None:
    assert dsb.ok("pause") == "paused; 'dsb resume' goes on\n"
    with dsb.start("backup", "one") as waiting:
        daemon.wait_for("asks for a backup")
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=20)
    assert waiting.returncode == 130
    assert err.splitlines() == [
        "distbackupd is paused; 'dsb resume' lets it go on",
        "stopping as soon as nothing is left half-done; press Ctrl+C again to leave it to distbackupd",
    ]
    assert "destination" not in out
    assert dsb.ok("resume") == "going on after the pause\n"
    assert dsb.ok("cancel") == "nothing is at work\n"
    assert dsb.json("info")["disks"][0]["objects"] == 0


def test_backup_waits_for_the_end_of_a_pause(dsb: Dsb, daemon: Daemon) -> None:
    dsb.ok("pause")
    status = dsb.json("status")
    assert (status["daemon"], status["activity"]) == ("paused", "paused; 'dsb resume' goes on")
    with dsb.start("backup", "one") as waiting:
        daemon.wait_for("asks for a backup")
        dsb.ok("resume")
        out, _ = waiting.communicate(timeout=20)
    assert waiting.returncode == 0
    assert out.endswith("destination one updated.\n")


def test_daemon_that_dies_while_dsb_follows_is_told_in_a_sentence(dsb: Dsb, daemon: Daemon) -> None:
    dsb.ok("pause")
    with dsb.start("backup", "one") as waiting:
        daemon.wait_for("asks for a backup")
        daemon.process.kill()
        _, err = waiting.communicate(timeout=20)
    assert waiting.returncode == 130
    assert err.splitlines()[1:] == [
        "dsb: distbackupd has ended; what was finished is recorded, the next session goes on there"
    ]


def test_bus_that_ends_while_dsb_follows_is_told_in_a_sentence(dsb: Dsb, daemon: Daemon, bus: SystemBus) -> None:
    dsb.ok("pause")
    with dsb.start("backup", "one") as waiting:
        daemon.wait_for("asks for a backup")
        bus.end()
        _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    ended = "distbackupd cannot be asked: the system bus has ended"
    assert err.splitlines()[1:] == [f"dsb: {ended}; distbackupd goes on, and 'dsb status' tells how it stands"]


def test_eject_is_done_by_the_daemon(dsb: Dsb, daemon: Daemon) -> None:
    refused = dsb.refused(4, "eject", "one")
    assert refused.startswith("'one' is not plugged in, so there is nothing to eject")
    assert "user 0 asks to eject" in daemon.log


def test_eject_without_a_daemon_is_done_by_dsb_alone(dsb: Dsb) -> None:
    assert dsb.refused(4, "eject", "one").startswith("'one' is not plugged in, so there is nothing to eject")
    assert dsb.ok("-n", "eject", "one") == "Would eject one\n"


@pytest.mark.parametrize("command", ["cancel", "pause", "resume"])
def test_what_only_a_daemon_can_do_says_that_there_is_none(dsb: Dsb, command: str) -> None:
    assert dsb.refused(2, command) == f"distbackupd does not run, so there is nothing to {command}"


def test_without_a_bus_dsb_does_alone_what_it_can(dsb: Dsb, bus: SystemBus) -> None:
    bus.end()
    assert dsb.ok("backup", "one", "--update").endswith("destination one updated.\n")
    assert dsb.ok("status").startswith("Now: nothing is at work on this catalogue\n")
    assert dsb.refused(2, "pause") == "distbackupd cannot be asked: there is no system bus"


def test_a_daemon_on_another_catalogue_is_left_alone(dsb: Dsb, daemon: Daemon, tmp_path: Path) -> None:
    other = Dsb(tmp_path / "other")
    other.ok("source", "map", "/", tmp_path / "source")
    (tmp_path / "other-disk").mkdir()
    other.ok("disk", "add", "two", tmp_path / "other-disk", "--folder", "--size", "50M")
    other.ok("backup", "two", "--update")
    assert other.json("status")["daemon"] == "absent"
    assert other.refused(2, "pause") == (
        f"distbackupd serves another catalogue than the one in {other.folder}; nothing was changed"
    )
    assert "asks" not in daemon.log


# --- ordinary users ---


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Finished]:
    """``dsb`` for a user who has no catalogue, and may not read the daemon's."""
    monkeypatch.delenv("DISTBACKUP_PATH", raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    return lambda *words: run_forked(list(words), NOBODY)


def test_status_is_for_everybody_with_the_same_keys(dsb: Dsb, daemon: Daemon, as_nobody: Callable[..., Finished]) -> None:
    dsb.ok("backup", "one")
    root = dsb.json("status")
    done = as_nobody("status", "--json")
    assert (done.status, done.err) == (0, ""), done
    user = json.loads(done.out)
    daemon.stop()
    alone = dsb.json("status")
    assert root.keys() == user.keys() == alone.keys()
    assert (root["daemon"], user["daemon"], alone["daemon"]) == ("idle", "idle", "absent")
    assert (root["entries"], user["entries"], alone["entries"]) == (4, None, 4)
    assert root["disks"][0].pop("uuid") == alone["disks"][0].pop("uuid")
    assert user["disks"][0].pop("uuid") is None, "UUIDs are not for everybody"
    for key in ("copies", "disks", "last_scan", "wanted"):
        assert root[key] == user[key] == alone[key], key
    assert user["sessions"][0].keys() == root["sessions"][0].keys()
    assert user["sessions"][0]["copied_objects"] == root["sessions"][0]["copied_objects"] == 3


def test_an_ordinary_user_who_would_change_things_is_told_what_to_do(
    dsb: Dsb, daemon: Daemon, as_nobody: Callable[..., Finished]
) -> None:
    for command in (("pause",), ("resume",), ("cancel",), ("backup", "one"), ("eject", "one")):
        done = as_nobody(*command)
        assert (done.status, done.out) == (2, ""), done
        assert done.err == f"dsb: {REFUSED}\n"
    assert "asks" not in daemon.log


@pytest.mark.needs("polkitd")
def test_an_ordinary_user_whom_polkit_permits_backs_up_with_the_same_words(
    dsb: Dsb, daemon: Daemon, bus: SystemBus, as_nobody: Callable[..., Finished]
) -> None:
    with polkit(bus, "nobody"):
        done = as_nobody("backup", "one")
    assert (done.status, done.err) == (0, ""), done
    assert "one: copied 3 objects (3.00 kB)" in done.out
    assert done.out.endswith("destination one updated.\n")


# --- watching ---


def test_watch_says_what_changes_until_it_is_interrupted(dsb: Dsb, daemon: Daemon, tmp_path: Path) -> None:
    with dsb.start("status", "--watch", stdout=(tmp_path / "watched").open("w")) as watching:
        wait_until(lambda: "Now: " in (tmp_path / "watched").read_text(), "the status")
        wait_until(lambda: "idle; " in (tmp_path / "watched").read_text(), "how it stands")
        dsb.ok("backup", "one")
        wait_until(lambda: "one: copied 3 objects" in (tmp_path / "watched").read_text(), "the session's end")
        daemon.stop()
        wait_until(lambda: "distbackupd has ended" in (tmp_path / "watched").read_text(), "the daemon's end")
        with running_daemon(dsb):
            wait_until(lambda: "distbackupd has begun" in (tmp_path / "watched").read_text(), "the next daemon")
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=20)
    assert (watching.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("terminal", "again"),
    [("xterm", b"\r\x1b[2Kidle; "), ("dumb", b"\r\nidle; "), ("", b"\r\nidle; ")],
    ids=["xterm", "dumb", "none"],
)
def test_watch_on_a_terminal_is_a_line_that_changes_in_place_where_that_can_be(
    dsb: Dsb, daemon: Daemon, terminal: str, again: bytes
) -> None:
    ours, theirs = os.openpty()
    seen = b""

    def shown(sentence: bytes) -> bool:
        nonlocal seen
        if select.select([ours], [], [], 0)[0]:
            seen += os.read(ours, 65536)
        return sentence in seen

    with dsb.start("status", "--watch", stdout=theirs, env={**os.environ, "TERM": terminal}) as watching:
        os.close(theirs)
        wait_until(lambda: shown(b"idle; "), "how it stands")
        dsb.ok("backup", "one")
        wait_until(lambda: shown(b"one: copied 3 objects"), "the session's end")
        wait_until(lambda: shown(again), "the line, written anew")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
    os.close(ours)


def test_watch_without_a_daemon_says_what_is_at_work(dsb: Dsb, tmp_path: Path) -> None:
    with dsb.start("status", "--watch", stdout=(tmp_path / "watched").open("w")) as watching:
        wait_until(lambda: "one: " in (tmp_path / "watched").read_text(), "the status")
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=20)
    assert (watching.returncode, err) == (0, "")


def test_watch_is_for_people(dsb: Dsb, daemon: Daemon) -> None:
    assert dsb.refused(2, "--json", "status", "--watch").startswith("--watch is for people; for machines there is 'busctl")
