"""``dsb recover``: the catalogue is lost, damaged or set back; disks are folders, named by their paths."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from distbackupd.catalogue import schema
from tests.bed.loop_disks import loop_disk, mounted_at
from tests.bed.old_catalogues import write_as_version
from tests.bed.programs import NOBODY, Dsb, running_daemon
from tests.bed.shelf import Shelf
from tests.trees import assert_same_tree, build_nasty_tree


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def generation(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT value FROM fact WHERE key = 'generation'").fetchone()[0])


def flip_bits(path: Path, count: int = 200) -> None:
    content = bytearray(path.read_bytes())
    for number in range(count):
        content[len(content) // 3 + number * 997 % (len(content) // 2)] ^= 0x10
    path.write_bytes(content)


def test_the_newest_copy_takes_the_place_of_a_lost_catalogue(shelf: Shelf, tmp_path: Path) -> None:
    shelf.write("a")
    shelf.back_up("one", "two")
    shelf.write("b")
    shelf.back_up("two")
    newest = generation(shelf.copy_on("two"))
    assert newest > generation(shelf.copy_on("one"))
    shelf.lose_catalogue()
    said = shelf.recover("one", "two")
    assert f"Took the copy of the catalogue on two (generation {newest}, written" in said
    assert "one: looked through; it holds 0 objects more and 0 fewer than was known" in said
    assert "Not looked through" not in said
    assert (shelf.held_by("/a"), shelf.held_by("/b")) == ("one,two", "two")
    assert generation(shelf.copy_on("one")) == generation(shelf.copy_on("two")) > newest
    assert "0 new, 0 changed, 0 gone" in shelf.dsb.ok("update")
    assert "copied" not in shelf.dsb.ok("backup", "two")
    shelf.dsb.ok("restore", "two", tmp_path / "restored")
    assert_same_tree(shelf.source, tmp_path / "restored")


def test_an_older_copy_is_repaired_from_what_lies_on_the_disks(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.write("b")
    shelf.back_up("one", "two")
    shutil.copy(shelf.copy_on("one"), shelf.copy_on("two"))
    for path in (shelf.disk("two") / "distbackup-objects").glob("*/*"):
        if path.read_text() == "content of a":
            path.unlink()
    shelf.lose_catalogue()
    shelf.recover("one", "two")
    assert (shelf.held_by("/a"), shelf.held_by("/b")) == ("one", "one,two")


def test_disks_that_were_not_here_are_named_and_looked_at_when_they_come(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one", "two", "one")
    shelf.lose_catalogue()
    away = shelf.disk("two").rename(shelf.place / "away")
    assert "Not looked through: two. Each is when it is plugged in next" in shelf.recover("one")
    for path in (away / "distbackup-objects").glob("*/*"):
        path.unlink()
    away.rename(shelf.disk("two"))
    assert "two: holds 0 objects more and 1 fewer than was known of it" in shelf.dsb.ok("backup", "two")
    assert len(list(shelf.disk("two").glob("distbackup-objects/*/*"))) == 1


def test_a_disk_that_the_copy_does_not_know_is_made_known(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one", "two")
    older = shelf.copy_on("one")
    with closing(sqlite3.connect(older)) as connection:
        connection.execute("DELETE FROM disk WHERE name = 'two'")
        connection.execute("UPDATE object SET holders = 1")
        connection.commit()
    os.unlink(shelf.copy_on("two"))
    shelf.lose_catalogue()
    said = shelf.recover("one", "two")
    assert "two: made known, with 1 object that it holds" in said
    assert shelf.held_by("/a") == "one,two"


def test_a_damaged_copy_is_told_and_the_next_best_is_taken(shelf: Shelf) -> None:
    for number in range(300):
        shelf.write(f"file {number}")
    shelf.back_up("one", "two")
    shelf.write("b")
    shelf.back_up("two")
    flip_bits(shelf.copy_on("two"))
    shelf.lose_catalogue()
    said = shelf.recover("one", "two")
    assert "distbackup.sqlite.new is damaged" in said or f"{shelf.copy_on('two')} is damaged" in said
    assert "Took the copy of the catalogue on one" in said
    assert shelf.held_by("/file 7") == "one,two"
    assert not [path for path in shelf.dsb.folder.iterdir() if path.name.endswith(".new")]


def test_a_copy_that_was_kept_aside_is_taken_where_it_is_the_newest(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one")
    shelf.copy_on("one").rename(shelf.disk("one") / "distbackup.sqlite.kept-3")
    shelf.lose_catalogue()
    assert "distbackup.sqlite.kept-3" in shelf.recover("one")
    assert shelf.held_by("/a") == "one"


def test_without_any_copy_a_catalogue_is_made_of_the_disks_and_contents_come_back_by_hash(shelf: Shelf) -> None:
    shelf.write("a", "some text\n")
    (shelf.source / "picture").write_bytes(b"\xff\xd8\xff\xe0" + bytes(5000))
    (shelf.source / "noise").write_bytes(bytes([1, 0, 255]) * 99)
    shelf.back_up("one")
    shelf.write("b", "%PDF-1.7 text")
    shelf.back_up("two")
    shelf.lose_catalogue()
    shelf.copy_on("one").unlink()
    flip_bits(shelf.copy_on("two"))
    said = shelf.recover("one", "two")
    assert "one: made known, with 3 objects that it holds" in said
    assert "No copy of the catalogue was found" in said
    assert [disk["name"] for disk in shelf.dsb.json("disk", "list")] == ["one", "two"]
    destination = shelf.place / "objects"
    assert "Restored 3 objects" in shelf.recover("one", options=("--objects", str(destination)))
    said = shelf.recover("two", options=("--objects", str(destination)))
    assert "Restored 1 object" in said
    assert "3 were there already" in said
    found = {path.relative_to(destination).parts[0]: path for path in destination.glob("*/*")}
    assert set(found) == {"txt", "jpg", "pdf", "unknown"}
    assert found["pdf"].read_text() == "%PDF-1.7 text"
    assert found["jpg"].suffix == ".jpg"
    # What is still in the sources is known again without being copied again.
    shelf.dsb.ok("source", "map", "/", shelf.source)
    assert "copied" not in shelf.dsb.ok("backup", "two", "-u")


def test_objects_that_are_not_what_their_names_say_are_told_and_not_restored(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.write("b")
    shelf.back_up("one")
    good, bad = shelf.disk("one").glob("distbackup-objects/*/*")
    bad.write_text("CONTENT OF B")
    done = shelf.dsb("recover", shelf.disk("one"), "--objects", shelf.place / "objects")
    assert done.status == 7
    assert f"{bad.name}: not restored: " in done.out
    assert [path.stem for path in (shelf.place / "objects").glob("*/*")] == [good.name]


def test_objects_are_not_restored_onto_the_disk_itself(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one")
    told = shelf.dsb.refused(2, "recover", shelf.disk("one"), "--objects", shelf.disk("one") / "here")
    assert "lies on the backup disk itself; nothing was restored" in told


def test_a_catalogue_that_is_not_lost_stays_unless_it_is_to_be_replaced(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one")
    before = shelf.dsb.catalogue.read_bytes()
    told = shelf.dsb.refused(2, "recover", shelf.disk("one"))
    assert "is no lost catalogue" in told
    assert "with --replace the copy takes its place, and it is kept aside" in told
    assert shelf.dsb.catalogue.read_bytes() == before
    said = shelf.recover("one", options=("--replace",))
    assert "is kept as" in said
    assert (shelf.dsb.folder / "distbackup.sqlite.kept-1").read_bytes() == before


@pytest.mark.parametrize("harm", ["garbage", "flipped", "empty", "truncated"])
def test_a_damaged_catalogue_is_kept_aside_and_recovered(shelf: Shelf, harm: str) -> None:
    for number in range(300):
        shelf.write(f"file {number}")
    shelf.back_up("one")
    catalogue = shelf.dsb.catalogue
    if harm == "flipped":
        flip_bits(catalogue)
    else:
        catalogue.write_bytes({"garbage": b"garbage" * 999, "empty": b"", "truncated": catalogue.read_bytes()[:9000]}[harm])
    damaged = catalogue.read_bytes()
    assert "is kept as" in shelf.recover("one")
    assert (shelf.dsb.folder / "distbackup.sqlite.kept-1").read_bytes() == damaged
    assert shelf.held_by("/file 7") == "one"


def test_a_foreign_database_in_the_place_is_left_alone(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one")
    shelf.dsb.catalogue.unlink()
    with closing(sqlite3.connect(shelf.dsb.catalogue)) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    before = shelf.dsb.catalogue.read_bytes()
    assert "is no catalogue of distbackupd" in shelf.dsb.refused(5, "recover", shelf.disk("one"), "--replace")
    assert shelf.dsb.catalogue.read_bytes() == before


def test_a_session_refuses_a_disk_whose_copy_knows_more_and_touches_nothing(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one", "two")
    older = shelf.place / "older"
    shutil.copytree(shelf.dsb.folder, older)
    shelf.write("b")
    shelf.back_up("two")
    shelf.lose_catalogue()
    older.rename(shelf.dsb.folder)
    before = {path: path.read_bytes() for path in shelf.disk("two").rglob("*") if path.is_file()}
    told = shelf.dsb.refused(4, "backup", "two")
    assert "knows what this catalogue does not, so this one was set back" in told
    assert "'dsb recover --replace' puts the newest copy in its place" in told
    assert {path: path.read_bytes() for path in shelf.disk("two").rglob("*") if path.is_file()} == before
    # Its generation may overtake that of the copy; the sessions still tell.
    for number in range(20):
        shelf.write(f"more {number}")
        shelf.dsb.ok("update")
    shelf.back_up("one")
    assert generation(shelf.dsb.catalogue) > generation(shelf.copy_on("two"))
    assert "knows what this catalogue does not" in shelf.dsb.refused(4, "backup", "two")


def test_a_catalogue_that_was_set_back_is_replaced_by_the_copy_that_is_named(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one", "two")
    older = shelf.place / "older"
    shutil.copytree(shelf.dsb.folder, older)
    shelf.write("b")
    shelf.back_up("two")
    shelf.lose_catalogue()
    older.rename(shelf.dsb.folder)
    shelf.recover("one", "two", options=("--replace",))
    assert (shelf.held_by("/a"), shelf.held_by("/b")) == ("one,two", "two")
    shelf.back_up("one", "two")
    shelf.recover("one", "two", options=("--replace", "--copy", str(shelf.dsb.folder / "distbackup.sqlite.kept-1")))
    assert "nothing in the catalogue matches '/b'" in shelf.dsb.refused(2, "ls", "/b")


def test_refresh_keeps_the_catalogue_and_the_copy_that_knew_more(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one", "two")
    older = shelf.place / "older"
    shutil.copytree(shelf.dsb.folder, older)
    shelf.write("b")
    shelf.back_up("two")
    copy = shelf.copy_on("two").read_bytes()
    shelf.lose_catalogue()
    older.rename(shelf.dsb.folder)
    said = shelf.dsb.ok("disk", "refresh", "two")
    kept = shelf.disk("two") / "distbackup.sqlite.kept-1"
    assert f"it is kept there as {kept}" in said
    assert kept.read_bytes() == copy
    shelf.back_up("two")
    assert shelf.held_by("/b") == "two"


def test_nothing_here_says_what_to_do(shelf: Shelf, tmp_path: Path) -> None:
    shelf.lose_catalogue()
    assert "there is no backup disk at" in shelf.dsb.refused(2, "recover", tmp_path / "source")
    assert "cannot be reached" in shelf.dsb.refused(2, "recover", tmp_path / "nowhere")
    assert not shelf.dsb.folder.exists()


@pytest.mark.needs("root")
def test_what_lies_on_a_disk_is_nothing_for_an_ordinary_user(shelf: Shelf, tmp_path: Path) -> None:
    shelf.write("a")
    shelf.back_up("one")
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", NOBODY, NOBODY)
    dsb = Dsb(tmp_path / "home" / "catalogue")
    done = dsb("recover", shelf.disk("one"), user=NOBODY)
    assert done.status == 2, done
    assert "may not be read or written by this user, for what lies on it is its owner's alone" in done.out + done.err
    assert not dsb.folder.exists()


def test_simulated_changes_nothing(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one")
    shelf.lose_catalogue()
    assert "Found the copy of the catalogue on one" in shelf.dsb.ok("-n", "recover", shelf.disk("one"))
    assert not shelf.dsb.folder.exists()


def test_a_running_daemon_keeps_its_catalogue(shelf: Shelf) -> None:
    shelf.write("a")
    shelf.back_up("one")
    with running_daemon(shelf.dsb) as daemon:
        daemon.wait_for("scanned")
        assert "distbackupd serves this catalogue" in shelf.dsb.refused(6, "recover", shelf.disk("one"), "--replace")


@pytest.mark.parametrize("version", range(1, schema.VERSION))
def test_a_copy_of_an_older_version_is_brought_up_to_date(shelf: Shelf, version: int) -> None:
    shelf.write("a")
    shelf.back_up("one")
    shelf.copy_on("one").unlink()
    write_as_version(shelf.dsb.catalogue, shelf.copy_on("one"), version)
    shelf.lose_catalogue()
    shelf.recover("one")
    assert shelf.held_by("/a") == "one"


@pytest.fixture
def nasty(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path)
    build_nasty_tree(shelf.source, deep=False)
    return shelf


@pytest.mark.needs("root", "loop")
def test_disks_are_found_where_they_are_mounted_or_by_their_devices(nasty: Shelf, tmp_path: Path) -> None:
    """From a nasty tree on two real disks, with the catalogue gone, back to the same tree."""
    dsb = nasty.dsb
    with loop_disk(tmp_path, "ext4", "one", 200) as one, loop_disk(tmp_path, "ext4", "two", 200) as two:
        for disk in (one, two):
            with mounted_at(disk.device, tmp_path / "mnt"):
                dsb.ok("disk", "add", disk.label, tmp_path / "mnt" / "below", "--folder")
                dsb.ok("backup", disk.label, "-u")
        nasty.lose_catalogue()
        said = dsb.ok("recover", "--yes", two.device)
        assert "Took the copy of the catalogue on two" in said
        assert "one: looked through" in said  # the copy knows its file system, and it is plugged in
        with mounted_at(two.device, tmp_path / "mnt"):
            dsb.ok("restore", "two", tmp_path / "restored")
        assert_same_tree(nasty.source, tmp_path / "restored")
        nasty.lose_catalogue()
        with mounted_at(two.device, tmp_path / "mnt"):
            assert "Took the copy of the catalogue on" in dsb.ok("recover", "--yes", "--from", "two")
        assert time.time() - dsb.catalogue.stat().st_mtime < 60
