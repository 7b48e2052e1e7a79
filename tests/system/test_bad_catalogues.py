"""A catalogue that is broken, newer, foreign or locked, or that lies where it cannot be written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.bed.programs import NOBODY, Dsb, running_daemon
from tests.bed.waiting import wait_until

READING = (("status",), ("info",), ("ls",), ("source",), ("disk", "list"), ("restore", "one", "/nowhere/restored"))
WRITING = (("update",), ("backup", "one"), ("verify", "one"), ("source", "map", "/x", "/"), ("disk", "drop", "one"))


@pytest.fixture
def dsb(tmp_path: Path) -> Dsb:
    """A catalogue with a source and a folder that serves as the disk ``one``, backed up."""
    dsb = Dsb(tmp_path / "catalogue")
    (tmp_path / "source").mkdir()
    for number in range(400):
        (tmp_path / "source" / f"file {number}").write_bytes(b"%d" % number)
    dsb.ok("source", "map", "/", tmp_path / "source")
    (tmp_path / "disk").mkdir()
    dsb.ok("disk", "add", "one", tmp_path / "disk", "--folder")
    dsb.ok("backup", "one", "-u")
    return dsb


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".sqlite", ".json", ".txt")}


def make_foreign(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE recipes (name TEXT)")


def make_distbackups_own(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE file_tree (id INTEGER PRIMARY KEY)", "CREATE TABLE nexus (id INTEGER PRIMARY KEY)")


LOST = "it was left as it is: 'dsb recover --last-good' puts back the copy of "
HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbage": (lambda path: path.write_bytes(os.urandom(300_000)), f"is damaged (file is not a database); {LOST}"),
    "truncated": (lambda path: os.truncate(path, 20_000), f"is damaged (its end is missing); {LOST}"),
    "empty": (lambda path: path.write_bytes(b""), "is empty, so what it knew is lost; it was left as it is: mount"),
    "newer": (lambda path: execute(path, "PRAGMA user_version=99"), "was written by a newer distbackupd (its version is 99"),
    "foreign": (make_foreign, "is no catalogue of distbackupd; it was left as it is: choose another folder with -d"),
    "distbackup's own": (make_distbackups_own, "is the database of distbackup, not of distbackupd; it was left as it is"),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_catalogue_that_cannot_be_used_is_told_and_left_alone(dsb: Dsb, tmp_path: Path, harm: str) -> None:
    do_harm, sentence = HARM[harm]
    do_harm(dsb.catalogue)
    before = content(dsb.folder), content(tmp_path / "disk")
    for words in READING + WRITING:
        told = dsb.refused(5, *words)
        assert str(dsb.catalogue) in told
        assert sentence in told
    with running_daemon(dsb, "--once", ready=False) as daemon:
        assert daemon.process.wait(20) == 5
        assert sentence in daemon.log
        assert len(daemon.log.splitlines()) == 1
    assert (content(dsb.folder), content(tmp_path / "disk")) == before


def test_the_copy_on_a_disk_takes_the_place_of_a_broken_catalogue(dsb: Dsb, tmp_path: Path) -> None:
    """With nothing but cp; ``dsb recover`` does more."""
    paths = dsb.ok("ls")
    dsb.catalogue.write_bytes(b"broken")
    dsb.catalogue.rename(tmp_path / "aside")
    dsb.catalogue.write_bytes((tmp_path / "disk" / "distbackup.sqlite").read_bytes())
    assert dsb.ok("ls") == paths
    dsb.ok("restore", "one", tmp_path / "restored")
    assert "0 new, 0 changed, 0 gone" in dsb.ok("update")
    assert "one: copied" not in dsb.ok("backup", "one")


@pytest.mark.parametrize("seed", range(5))
def test_bits_flipped_in_the_catalogue_never_end_a_command_without_a_sentence(dsb: Dsb, tmp_path: Path, seed: int) -> None:
    good, dice = dsb.catalogue.read_bytes(), random.Random(seed)
    damaged = bytearray(good)
    for _ in range((1, 5, 40)[seed % 3]):
        damaged[dice.randrange(100, len(good))] ^= 1 << dice.randrange(8)
    for words in (("ls",), ("info",), ("restore", "one", tmp_path / "restored"), ("update",), ("backup", "one")):
        for path in dsb.folder.glob("distbackup.sqlite*"):
            path.unlink()
        dsb.catalogue.write_bytes(damaged)
        done = dsb(*words)
        assert done.status in (0, 3, 5, 7), done
        assert "Traceback" not in done.err
    # Whatever was believed, no object was harmed.
    for path in tmp_path.glob("disk/distbackup-objects/*/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


@pytest.mark.parametrize("harm", ["garbage", "empty", "newer", "distbackup's own"])
def test_a_strange_catalogue_on_a_disk_is_kept_aside_and_does_not_stop_the_backup(
    dsb: Dsb, tmp_path: Path, harm: str
) -> None:
    copy = tmp_path / "disk" / "distbackup.sqlite"
    HARM[harm][0](copy)
    strange = copy.read_bytes()
    (tmp_path / "source" / "more").write_bytes(b"more")
    dsb.ok("backup", "one", "-u")
    kept = tmp_path / "disk" / "distbackup.sqlite.kept-1"
    if harm != "empty":
        assert kept.read_bytes() == strange
    assert Dsb(tmp_path / "disk").ok("ls", "/more").endswith(" (one) /more\n")


@pytest.mark.needs("root")
def test_a_catalogue_on_a_read_only_place_can_be_read(dsb: Dsb, tmp_path: Path) -> None:
    subprocess.run(["mount", "--bind", dsb.folder, dsb.folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", dsb.folder], check=True)
        for words in (("status",), ("info",), ("ls",), ("source",), ("disk", "list"), ("restore", "one", tmp_path / "r")):
            dsb.ok(*words)
        for words in WRITING:
            assert "for its disk is read-only; nothing more was recorded: mount it for writing" in dsb.refused(5, *words)
        with running_daemon(dsb, ready=False) as daemon:
            assert daemon.process.wait(20) == 5
            assert len(daemon.log.splitlines()) == 1
            assert "Read-only file system; nothing was done" in daemon.log
    finally:
        subprocess.run(["umount", dsb.folder], check=True)


@pytest.mark.needs("root")
def test_a_catalogue_of_somebody_else(dsb: Dsb, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o055)
    for words in (("status",), ("update",)):
        assert f"the catalogue's folder {dsb.folder} may not be used: Permission denied; nothing was changed" in dsb.refused(
            5, *words, user=NOBODY
        )
    dsb.folder.chmod(0o755)
    dsb.ok("status", user=NOBODY)
    assert "cannot be written by this user" in dsb.refused(5, "update", user=NOBODY)
    dsb.catalogue.chmod(0o600)
    assert "cannot be opened by this user" in dsb.refused(5, "status", user=NOBODY)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    dsb.folder.write_bytes(b"")
    for words in (("status",), ("update",)):
        assert dsb.refused(5, *words) == f"{dsb.folder} is no folder, so no catalogue can lie there"


def test_no_catalogue_yet(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    for words in READING:
        told = dsb.refused(5, *words)
        assert told == (
            f"there is no catalogue at {dsb.catalogue}; run 'dsb source map' to start one, or 'dsb recover' if it was lost"
        )
    assert not dsb.folder.exists()
    assert dsb.refused(2, "update") == "no source is mapped yet: 'dsb source map /photos /media/photos' maps one"


def test_a_damaged_catalogue_spreads_to_no_disk_and_is_rolled_back_without_one(dsb: Dsb, tmp_path: Path) -> None:
    copy = (tmp_path / "disk" / "distbackup.sqlite").read_bytes()
    (tmp_path / "source" / "news").write_bytes(b"news")
    with closing(sqlite3.connect(dsb.catalogue)) as plain:
        page = plain.execute("SELECT rootpage FROM sqlite_master WHERE name = 'file_past'").fetchone()[0]
    with dsb.catalogue.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    for words in (("backup", "one", "-u"), ("backup", "one"), ("update",)):
        done = dsb(*words)
        assert done.status == 5
        assert "'dsb recover --last-good' puts back the copy of" in done.err
    assert (tmp_path / "disk" / "distbackup.sqlite").read_bytes() == copy
    said = dsb.ok("recover", "--last-good", "--yes")
    assert "What was in the catalogue's place is kept as" in said
    dsb.ok("backup", "one", "-u")
    assert "news" in dsb.ok("ls")
    dsb.ok("verify", "one")


def test_without_a_good_copy_beside_it_that_is_told(dsb: Dsb) -> None:
    Path(f"{dsb.catalogue}.last-good").unlink()
    assert "for none was kept or there was no room" in dsb.refused(2, "recover", "--last-good", "--yes")


@pytest.mark.needs("root", "mount")
def test_the_daemon_on_a_full_disk_waits_for_room_and_then_works(dsb: Dsb, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6M", "tmpfs", place], check=True)
    try:
        small = Dsb(place, settle="0")
        small.catalogue.write_bytes(dsb.catalogue.read_bytes())
        (place / "distbackupd.lock").touch()
        ballast = place / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with running_daemon(small, ready=False) as daemon:
            wait_until(lambda: "is full" in daemon.log, "the daemon says why it waits", 60)
            assert "Traceback" not in daemon.log
            assert "file 7" in small.ok("ls")
            small.refused(5, "update")
            os.truncate(ballast, 0)
            daemon.process.send_signal(signal.SIGHUP)  # it looks at once
            wait_until(lambda: "serving the catalogue" in daemon.log, "it serves", 60)
            wait_until(lambda: "scanned" in daemon.log, "it scans", 60)
            assert daemon.log.count("is full") == 1
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
