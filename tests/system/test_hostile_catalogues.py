"""Disks whose copy of the catalogue was made by somebody who means harm: backing up to them, recovering from them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from distbackupd.catalogue import copies
from distbackupd.engine.recovery import find_disks
from distbackupd.hotplug.mounts import SystemMounter
from distbackupd.wiring import open_store
from tests.bed.hostile_copies import SEEN_AT_ONCE, SEEN_AT_THE_END, SEEN_CLOSELY, executing
from tests.bed.loop_disks import loop_disk, mounted_at
from tests.bed.programs import NOBODY
from tests.bed.shelf import Shelf
from tests.fakes.reporter import FakeReporter

SECONDS = 60
EVERYTHING = SEEN_AT_ONCE | SEEN_CLOSELY | SEEN_AT_THE_END
ATTACKS = (
    "an endless view",
    "a superscript as generation",
    "a generation of 5,000 digits",
    "a disk with escapes in its name",
    "a disk above its mount",
    "a name with a slash",
    "pages that go round",
)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """The disk ``two`` knows more than ``one``."""
    shelf = Shelf(tmp_path)
    shelf.write("a")
    shelf.back_up("one", "two", "one")
    shelf.write("b")
    shelf.back_up("two")
    return shelf


def forge(shelf: Shelf) -> None:
    """The copy on ``two`` becomes one of generation 10^12 that brings a root-owned 4755 file, and another source."""
    executing(
        "UPDATE fact SET value = '1000000000000' WHERE key = 'generation'",
        "UPDATE OR IGNORE attributes SET mode = 2541, uid = 0, gid = 0",
        "UPDATE source SET real_path = CAST('/etc' AS BLOB)",
        "UPDATE disk SET token = '', next_token = ''",
        "INSERT INTO session (id, disk_name, started, outcome) VALUES (1000, 'two', 1000, 'finished')",
    )(shelf.copy_on("two"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_recover_tells_of_a_hostile_copy_and_takes_the_other(shelf: Shelf, attack: str) -> None:
    EVERYTHING[attack](shelf.copy_on("two"))
    shelf.lose_catalogue()
    began = time.monotonic()
    done = shelf.dsb("recover", "--yes", shelf.disk("one"), shelf.disk("two"))
    assert time.monotonic() - began < SECONDS
    assert (done.status, done.err) == (0, ""), done
    assert f"{shelf.copy_on('two')} is damaged (" in done.out
    assert "Took the copy of the catalogue on one" in done.out
    assert "\x1b" not in done.out
    assert shelf.held_by("/a") == "one,two"


@pytest.mark.parametrize("attack", ["an endless view", "a generation of 5,000 digits", "a generation of 100 MB"])
def test_a_hostile_copy_stops_no_session_and_is_kept_aside(shelf: Shelf, attack: str) -> None:
    """On a disk that is not as its last session left it, it is looked at."""
    EVERYTHING[attack](shelf.copy_on("two"))
    hostile = shelf.copy_on("two").read_bytes()
    (shelf.disk("two") / "distbackup-session.json").unlink()
    shelf.write("c")
    began = time.monotonic()
    told = shelf.dsb.refused(4, "backup", "two", "-u")
    assert "is not as the last session left 'two'" in told
    said = shelf.dsb.ok("disk", "refresh", "two")
    assert "it is kept there as" in said
    assert time.monotonic() - began < SECONDS
    assert (shelf.disk("two") / "distbackup.sqlite.kept-1").read_bytes() == hostile
    shelf.dsb.ok("backup", "two")
    assert shelf.held_by("/c") == "two"


def test_a_disk_as_it_was_left_costs_no_process(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token tells that the copy is the one that its last session put there."""

    def ask(*_: object) -> None:
        raise AssertionError("the copy was read")

    monkeypatch.setattr(copies, "ask", ask)
    shelf.dsb.ok("backup", "two")
    shelf.write("c")
    shelf.dsb.ok("backup", "two", "-u")


def test_a_copy_with_a_higher_number_is_told_and_not_taken(shelf: Shelf) -> None:
    forge(shelf)
    shelf.lose_catalogue()
    done = shelf.dsb("recover", "--yes", shelf.disk("one"), shelf.disk("two"))
    assert done.status == 2
    assert "it is not taken unless you say so with --from: it does not know" in done.out
    assert done.err.count("\n") == 1
    assert "none was taken and nothing was changed: 'dsb recover --from DISK'" in done.err
    assert not shelf.dsb.catalogue.exists()
    said = shelf.recover("one", "two", options=("--from", "one"))
    assert "Took the copy of the catalogue on one" in said
    assert "a\n" in shelf.dsb.ok("ls", "/a")
    assert generation(shelf.dsb.catalogue) < 10**6


def test_what_it_brings_is_shown_before_and_only_who_agrees_gets_it(shelf: Shelf) -> None:
    executing("INSERT INTO folder_setting VALUES (CAST('/x' AS BLOB), '{\"follow_symlinks\": true}')")(shelf.copy_on("two"))
    shelf.lose_catalogue()
    done = shelf.dsb("recover", shelf.disk("one"), shelf.disk("two"))
    assert done.status == 2
    assert f"It brings the source /, which is {shelf.source}." in done.out
    assert "It follows symbolic links in /x, wherever they lead." in done.out
    assert "and these disks: one, two" in done.out
    assert "nobody is there to answer: Put the copy of the catalogue on two at" in done.err
    assert "--yes agrees beforehand" in done.err
    assert not shelf.dsb.catalogue.exists()
    assert [item.name for item in shelf.disk("two").iterdir() if "kept" in item.name] == []


def test_a_copy_that_does_not_know_its_own_disk_is_named_by_who_wants_it(shelf: Shelf) -> None:
    executing("DELETE FROM disk WHERE name = 'two'", "UPDATE object SET holders = 1")(shelf.copy_on("two"))
    shelf.disk("one").rename(shelf.place / "away")
    shelf.lose_catalogue()
    told = shelf.dsb.refused(2, "recover", "--yes", shelf.disk("two"))
    assert "is borne out by its disk and the others" in told
    assert "Took the copy of the catalogue on two" in shelf.recover("two", options=("--from", "two"))


def test_from_a_disk_that_is_not_here_says_which_are(shelf: Shelf) -> None:
    shelf.lose_catalogue()
    told = shelf.dsb.refused(2, "recover", "--yes", "--from", "three", shelf.disk("one"))
    assert told == "no copy of a catalogue was found on 'three', but on one; nothing was changed"


@pytest.mark.needs("root", "loop")
def test_only_what_nobody_else_can_write_is_looked_at_by_itself(shelf: Shelf, tmp_path: Path) -> None:
    """A tmpfs of any user, with a disk's UUID and generation 10^12, beat the genuine disk."""
    forge(shelf)
    reporter = FakeReporter()
    mounter = SystemMounter()
    own = tmp_path / "own"
    with loop_disk(tmp_path, "ext4", "genuine", 64) as disk, mounted_at(disk.device, tmp_path / "mnt"):
        shutil.copytree(shelf.disk("one"), tmp_path / "mnt" / "backup")
        own.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "forged", own], check=True)
        try:
            shutil.copytree(shelf.disk("two"), own, dirs_exist_ok=True)
            for place in (own, own / "distbackup-disk.json", own / "distbackup.sqlite"):
                os.chown(place, NOBODY, NOBODY)
            places = [(bytes(place), mounter.mount_of(bytes(place))) for place in (own, tmp_path / "mnt")]
            assert [item.name for item in find_disks(open_store, places, reporter, are_named=False)] == ["one"]
            # Nor where somebody else may write on a genuine one, or in the folder above.
            for place, mode in ((tmp_path / "mnt" / "backup", 0o777), (tmp_path / "mnt", 0o1777)):
                before = stat.S_IMODE(place.stat().st_mode)
                place.chmod(mode)
                assert find_disks(open_store, places, reporter, are_named=False) == []
                place.chmod(before)
            os.chown(tmp_path / "mnt" / "backup", NOBODY, NOBODY)
            assert find_disks(open_store, places, reporter, are_named=False) == []
            # Root may name any place.
            assert sorted(item.name for item in find_disks(open_store, places, reporter)) == ["one", "two"]
        finally:
            subprocess.run(["umount", own], check=True)


def generation(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT value FROM fact WHERE key = 'generation'").fetchone()[0])
