"""Copies of the catalogue: what they say of themselves, which of two knows more, and taking one's place."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from distbackupd.catalogue import copies
from distbackupd.catalogue.catalogue import Catalogue, open_catalogue
from distbackupd.catalogue.copies import CatalogueCopies
from distbackupd.model.copies import CatalogueCopy, DamagedCopy
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import CatalogueTrouble


def add_disk(catalogue: Catalogue, name: str) -> BackupDisk:
    uuid = f"00000000-0000-4000-8000-{len(catalogue.disks.all()):012d}"
    return catalogue.disks.add(BackupDisk(0, uuid, name, 10**9, b"", None, None, b"", 0))


def look_at(path: bytes) -> CatalogueCopy:
    with open(path, "rb") as file:
        return copies.look_at(file.fileno(), path)


def take(folder: Path, copy: CatalogueCopy) -> bytes:
    with open(copy.path, "rb") as file:
        return CatalogueCopies(folder).take(file.fileno(), copy)


def ahead(catalogue: Catalogue, path: bytes) -> CatalogueCopy | None:
    with open(path, "rb") as file:
        return catalogue.ahead(file.fileno())


@pytest.fixture
def copy(tmp_path: Path) -> bytes:
    """A copy of a catalogue with a disk and a session that began at 100."""
    path = os.fsencode(tmp_path / "copy of it.sqlite")
    with open_catalogue(tmp_path / "first") as catalogue:
        disk = add_disk(catalogue, "one")
        catalogue.disks.update(replace(disk, catalogue_generation=1))
        catalogue.sessions.start(disk, 100)
        catalogue.write_copy(path)
    return path


def test_look_at_tells_what_it_knows_and_leaves_nothing_beside_it(copy: bytes, tmp_path: Path) -> None:
    before = sorted(os.listdir(tmp_path))
    found = look_at(copy)
    assert (found.path, found.generation, found.session, found.empty) == (copy, 1, (1, 100), False)
    assert abs(found.written_at - os.stat(copy).st_mtime) < 1
    assert sorted(os.listdir(tmp_path)) == before


def test_look_at_what_is_no_file_is_told_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "copy")
    descriptor = os.open(tmp_path / "copy", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(DamagedCopy, match="it is no file"):
            copies.look_at(descriptor, b"copy")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no catalogue of distbackupd"),
        (b"garbage" * 1000, "is damaged"),
        (b"SQLite format 3\0" + bytes(4000), "is damaged"),
    ],
)
def test_look_at_what_is_none_is_told(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "copy").write_bytes(content)
    with pytest.raises(CatalogueTrouble, match=sentence):
        look_at(os.fsencode(tmp_path / "copy"))


def test_look_at_a_newer_one_is_told(copy: bytes) -> None:
    with closing(sqlite3.connect(os.fsdecode(copy))) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(CatalogueTrouble, match="newer distbackupd"):
        look_at(copy)


def test_take_finds_what_a_glance_does_not(copy: bytes, tmp_path: Path) -> None:
    with closing(sqlite3.connect(os.fsdecode(copy))) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'file_object'").fetchone()[0]
    with open(copy, "r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xaa" * 4096)
    found = look_at(copy)
    with pytest.raises(DamagedCopy):
        take(tmp_path / "place", found)


def test_ahead_its_own_copy_is_not_however_much_was_recorded_since(tmp_path: Path, copy: bytes) -> None:
    with open_catalogue(tmp_path / "first") as catalogue:
        assert ahead(catalogue, copy) is None
        catalogue.sessions.start(add_disk(catalogue, "two"), 200)
        assert ahead(catalogue, copy) is None


def test_ahead_is_a_copy_of_a_later_generation(tmp_path: Path, copy: bytes) -> None:
    """Without any session: a scan recorded more than the catalogue that was set back knows."""
    later = os.fsencode(tmp_path / "later")
    shutil.copytree(tmp_path / "first", tmp_path / "set back")
    with open_catalogue(tmp_path / "first") as catalogue:
        add_disk(catalogue, "two")
        catalogue.write_copy(later)
    with open_catalogue(tmp_path / "set back") as catalogue:
        assert ahead(catalogue, copy) is None
        found = ahead(catalogue, later)
        assert found is not None
        catalogue.raise_generation(found.generation)
        assert catalogue.generation() == found.generation + 1
        assert ahead(catalogue, later) is None


@pytest.mark.parametrize("started", [None, 199, 201])
def test_ahead_is_a_copy_with_a_session_that_is_not_known(tmp_path: Path, copy: bytes, started: int | None) -> None:
    """Also if the catalogue has one of the same number, of another moment."""
    later = os.fsencode(tmp_path / "later")
    shutil.copytree(tmp_path / "first", tmp_path / "set back")
    with open_catalogue(tmp_path / "first") as catalogue:
        catalogue.sessions.start(catalogue.disks.all()[0], 200)
        catalogue.write_copy(later)
    with open_catalogue(tmp_path / "set back") as catalogue:
        catalogue.raise_generation(1000)
        if started:
            catalogue.sessions.start(catalogue.disks.all()[0], started)
        assert ahead(catalogue, copy) is None
        assert ahead(catalogue, later) is not None


def test_take_puts_it_in_place_and_keeps_what_was_there_with_its_wal(tmp_path: Path, copy: bytes) -> None:
    folder = tmp_path / "place"
    found = look_at(copy)
    assert take(folder, found) == b""
    for suffix, content in (("", b"former"), ("-wal", b"its wal"), ("-shm", b"its shm")):
        (folder / f"distbackup.sqlite{suffix}").write_bytes(content)
    (folder / "distbackup.sqlite.kept-1").write_bytes(b"older")
    assert take(folder, found) == os.fsencode(folder / "distbackup.sqlite.kept-2")
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "distbackup.sqlite"} == {
        "distbackup.sqlite.kept-1": b"older",
        "distbackup.sqlite.kept-2": b"former",
        "distbackup.sqlite.kept-2-wal": b"its wal",
        "distbackup.sqlite.kept-2-shm": b"its shm",
    }
    with open_catalogue(folder) as catalogue:
        assert [(disk.name, disk.catalogue_generation) for disk in catalogue.disks.all()] == [("one", -1)]
        assert [session.outcome for session in catalogue.sessions.recent(9)] == ["interrupted"]


def test_take_a_damaged_one_changes_nothing(tmp_path: Path, copy: bytes) -> None:
    found = look_at(copy)
    os.truncate(copy, os.path.getsize(copy) // 2)
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "distbackup.sqlite").write_bytes(b"former")
    with pytest.raises(DamagedCopy):
        take(tmp_path / "place", found)
    assert os.listdir(tmp_path / "place") == ["distbackup.sqlite"]
    assert (tmp_path / "place" / "distbackup.sqlite").read_bytes() == b"former"


def test_take_where_nothing_can_be_written_is_no_damage(tmp_path: Path, copy: bytes) -> None:
    """Else the next copy would be tried, and in the end a catalogue of nothing be made."""
    found = look_at(copy)
    (tmp_path / "place").write_bytes(b"a file")
    with pytest.raises(CatalogueTrouble) as caught:
        take(tmp_path / "place", found)
    assert not isinstance(caught.value, DamagedCopy)


def test_present_a_catalogue_in_use_is_seen_with_what_is_in_its_wal(tmp_path: Path) -> None:
    place = CatalogueCopies(tmp_path / "place")
    assert place.present() is None
    with open_catalogue(tmp_path / "place") as catalogue:
        found = place.present()
        assert found is not None
        assert found.empty
        add_disk(catalogue, "one")
        found = place.present()
        assert found is not None
        assert not found.empty
