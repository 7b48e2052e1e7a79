"""Errors of SQLite and of the system, told by their codes; on disks that are really full, read-only or failing."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peewee
import pytest

from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.catalogue.lock import engine_lock
from distbackupd.catalogue.trouble import LAST_GOOD, errors_in_words, told, trouble_of_place
from distbackupd.daemon.presence import presence
from distbackupd.model.errors import CatalogueDamaged, CataloguePlaceTrouble, CatalogueTrouble, EngineBusy
from tests.bed.fault_disk import fault_disk
from tests.bed.loop_disks import run
from tests.unit.catalogue.making import add_files, living

NAME = "distbackup.sqlite"


def error_of(name: str, text: str = "some words that tell nothing") -> sqlite3.OperationalError:
    """An error as SQLite gives it, with this code."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = getattr(sqlite3, name)
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("SQLITE_BUSY", EngineBusy, "being written by another program"),
        ("SQLITE_BUSY_SNAPSHOT", EngineBusy, "being written by another program"),
        ("SQLITE_LOCKED", EngineBusy, "being written by another program"),
        ("SQLITE_FULL", CataloguePlaceTrouble, "no room for temporary files"),  # for beside the catalogue there is room
        ("SQLITE_IOERR", CataloguePlaceTrouble, "cannot be read or written any more"),
        ("SQLITE_IOERR_READ", CataloguePlaceTrouble, r"SQLITE_IOERR_READ.*dmesg"),
        ("SQLITE_IOERR_FSYNC", CataloguePlaceTrouble, "no damage of the catalogue's own"),
        ("SQLITE_READONLY", CatalogueTrouble, "cannot be written by this user; nothing was changed"),
        ("SQLITE_CANTOPEN", CatalogueTrouble, "cannot be opened by this user; nothing was changed"),
        ("SQLITE_CORRUPT", CatalogueDamaged, "is damaged .*mount the backup disk used last and say 'dsb recover'"),
        ("SQLITE_CORRUPT_INDEX", CatalogueDamaged, "is damaged"),
        ("SQLITE_NOTADB", CatalogueDamaged, "is damaged"),
        ("SQLITE_NOMEM", CataloguePlaceTrouble, "not enough memory"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_told_goes_by_the_code_whatever_the_words(
    tmp_path: Path, name: str, kind: type[Exception], sentence: str, wrapped: bool
) -> None:
    error: Exception = error_of(name, "database disk image is malformed, full, locked and readonly")
    if wrapped:
        error = peewee.OperationalError(error, *error.args)
    with pytest.raises(kind, match=sentence) as caught, errors_in_words(tmp_path / NAME):
        raise error
    assert str(tmp_path / NAME) in str(caught.value)
    assert ("is damaged" in str(caught.value)) == (kind is CatalogueDamaged)


def test_told_without_a_code_of_the_file_is_left_to_whoever_finds_bugs(tmp_path: Path) -> None:
    assert told(error_of("SQLITE_ERROR", "no such table: nothing"), tmp_path / NAME) is None
    with pytest.raises(sqlite3.ProgrammingError), errors_in_words(tmp_path / NAME):
        raise sqlite3.ProgrammingError("Cannot operate on a closed database.")


def test_told_damage_names_the_copy_beside_it_if_there_is_one(tmp_path: Path) -> None:
    assert "--last-good" not in str(told(error_of("SQLITE_CORRUPT"), tmp_path / NAME))
    (tmp_path / f"{NAME}{LAST_GOOD}").write_bytes(b"x")
    assert "'dsb recover --last-good' puts back the copy of 20" in str(told(error_of("SQLITE_CORRUPT"), tmp_path / NAME))


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(errno.ENOSPC, "is full"), (errno.EDQUOT, "is full"), (errno.EROFS, "read-only"), (errno.EIO, "dmesg")],
)
def test_trouble_of_place_by_the_systems_number(tmp_path: Path, number: int, sentence: str) -> None:
    assert sentence in str(trouble_of_place(tmp_path / NAME, number))
    assert trouble_of_place(tmp_path / NAME, errno.ENOENT) is None


# --- disks that are so -----------------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, *, size: str = "3M") -> Iterator[Path]:
    """A folder on a disk of its own that has little room, with a catalogue."""
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place)
    try:
        with open_catalogue(place / "catalogue") as catalogue:
            add_files(catalogue, b"/", b"a", b"b")
        yield place / "catalogue"
    finally:
        run("umount", "--lazy", place)


def fill(folder: Path, leaving: int = 0) -> Path:
    """Take all room but ``leaving`` bytes; the file that does."""
    ballast = folder.parent / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    os.truncate(ballast, ballast.stat().st_size - leaving)
    return ballast


@pytest.mark.needs("root", "mount")
@pytest.mark.parametrize("leaving", [0, 20_000])
def test_open_on_a_full_disk_reads_and_says_that_it_is_full_and_goes_on_when_there_is_room(
    tmp_path: Path, leaving: int
) -> None:
    with small_disk(tmp_path / "disk") as folder:
        ballast = fill(folder, leaving)
        with (
            pytest.raises(CataloguePlaceTrouble, match=r"with the catalogue .* is full; .*make room there"),
            open_catalogue(folder),
            engine_lock(folder, "dsb update"),
        ):
            pass
        with open_catalogue(folder, read_only=True) as catalogue:
            assert len(living(catalogue)) == 2
        ballast.unlink()
        with open_catalogue(folder) as catalogue, engine_lock(folder, "dsb update"):
            add_files(catalogue, b"/", b"c")
            assert len(living(catalogue)) == 3


@pytest.mark.needs("root", "mount")
def test_tables_on_a_disk_that_fills_up_speak_in_sentences_and_know_what_they_knew(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder, open_catalogue(folder) as catalogue:
        fill(folder, 20_000)
        with pytest.raises(CataloguePlaceTrouble, match="is full"):
            add_files(catalogue, b"/", *(b"file %d" % number for number in range(3000)))
        catalogue.files.rollback()
        assert len(living(catalogue)) == 2
        catalogue.files.count()  # what is only kept to be quick is done without
        assert list(catalogue.files.listing(b"/"))


@pytest.mark.needs("root", "mount")
def test_locks_on_a_full_disk_hold_all_the_same(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        with presence(folder):
            pass
        (folder / "distbackupd.lock").write_text("")
        ballast = fill(folder)
        with presence(folder), pytest.raises(EngineBusy), presence(folder):
            pass
        with pytest.raises(CataloguePlaceTrouble, match="is full"), engine_lock(folder, "dsb update"):
            pass
        ballast.unlink()
        with engine_lock(folder, "dsb update"), pytest.raises(EngineBusy, match="dsb update"), engine_lock(folder, "x"):
            pass


@pytest.mark.needs("root", "mount")
def test_open_on_a_disk_that_turned_read_only_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        run("mount", "-o", "remount,ro", folder.parent)
        with open_catalogue(folder, read_only=True) as catalogue:
            assert len(living(catalogue)) == 2
        with (
            pytest.raises(CataloguePlaceTrouble, match="its disk is read-only; nothing more was recorded"),
            open_catalogue(folder),
        ):
            pass
        with pytest.raises(CatalogueTrouble, match="Read-only file system; nothing was done"), presence(folder):
            pass


@pytest.mark.needs("root", "loop", "nbd")
def test_open_on_a_disk_that_cannot_be_read_is_no_damage_of_the_catalogue(tmp_path: Path) -> None:
    with fault_disk(tmp_path / "failing") as disk:
        place = tmp_path / "mounted"
        place.mkdir()
        run("mount", disk.volume.device, place)
        try:
            with open_catalogue(place) as catalogue:
                add_files(catalogue, b"/", *(b"file %d" % number for number in range(2000)))
            run("umount", place)
            run("mount", disk.volume.device, place)
            (place / NAME).stat()
            disk.break_reads()
            with (
                pytest.raises(CataloguePlaceTrouble, match=r"cannot be read or written any more .*dmesg"),
                open_catalogue(place, read_only=True) as catalogue,
            ):
                living(catalogue)
            disk.mend()
            with open_catalogue(place, read_only=True) as catalogue:
                assert len(living(catalogue)) == 2000
        finally:
            disk.mend()
            run("umount", "--lazy", place)
