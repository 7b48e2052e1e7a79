"""Copies of the catalogue on disks: what they say of themselves, whether they are sound, and how one takes its place.

A copy is only ever read here, and through ``immutable``, so that nothing appears beside it on a disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from distbackupd.catalogue import schema
from distbackupd.catalogue.database import FILE_NAME, place_in_words
from distbackupd.model.copies import CatalogueCopy, DamagedCopy
from distbackupd.model.errors import CatalogueTrouble
from distbackupd.model.text import printable


def look_at(path: bytes, live: bool = False) -> CatalogueCopy | None:
    """What a copy says of itself, without reading all of it; None where there is none.

    ``live``: others may be writing to it. Raises CatalogueTrouble: it is damaged, foreign or of a newer program.
    """
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedCopy(f"{printable(path)} cannot be read: {error.strerror}") from error
    with _opened(path, live) as connection:
        application: int = connection.execute("PRAGMA application_id").fetchone()[0]
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != schema.APPLICATION_ID:
            raise CatalogueTrouble(f"{printable(path)} is no catalogue of distbackupd")
        if version > schema.VERSION:
            raise CatalogueTrouble(f"{printable(path)} was written by a newer distbackupd: install that to use it")
        generation = connection.execute("SELECT value FROM fact WHERE key = 'generation'").fetchone()
        session = connection.execute("SELECT id, started FROM session ORDER BY id DESC LIMIT 1").fetchone()
        known = "SELECT EXISTS (SELECT 1 FROM source) OR EXISTS (SELECT 1 FROM file) OR EXISTS (SELECT 1 FROM disk)"
        empty = not connection.execute(known).fetchone()[0]
        if generation is None or not str(generation[0]).isdigit():
            raise DamagedCopy(f"{printable(path)} is damaged: its generation is missing")
    return CatalogueCopy(path, version, int(generation[0]), session or (0, 0), int(state.st_mtime), empty)


def check(path: bytes, live: bool = False) -> None:
    """Read all of a copy and compare its tables with their indexes. Raises DamagedCopy."""
    with _opened(path, live) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise DamagedCopy(f"{printable(path)} is damaged ({printable(str(found))})")


class CatalogueCopies:
    """See :class:`distbackupd.engine.ports.CatalogueCopies`. ``folder`` is the lost catalogue's, made if it is missing."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def present(self) -> CatalogueCopy | None:
        """The catalogue that is in place; None: it is lost, that is missing, empty or damaged.

        Raises CatalogueTrouble: it is foreign, of a newer program, or may not be read.
        """
        with place_in_words(self._path):
            if not self._path.exists() or not self._path.stat().st_size:
                return None
        path = os.fsencode(self._path)
        try:
            check(path, live=True)
        except DamagedCopy:
            return None
        return look_at(path, live=True)

    def look_at(self, path: bytes) -> CatalogueCopy | None:
        """What a copy says of itself; None where there is none. Raises CatalogueTrouble."""
        return look_at(path)

    def take(self, copy: CatalogueCopy) -> bytes:
        """Put a sound copy in the catalogue's place; where what was there is kept (empty: nothing was). See the port."""
        beside = self._path.with_name(self._path.name + ".new")
        with place_in_words(self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                _copy_durably(copy.path, beside)
                # What was copied is checked, so that the disk is read once.
                check(os.fsencode(beside))
                _make_hearsay(beside)
                kept = self.put_aside()
                beside.rename(self._path)
                _flush_folder(self._path.parent)
            finally:
                beside.unlink(missing_ok=True)
        return kept

    def put_aside(self) -> bytes:
        """Give the catalogue's file, if there is one, another name beside it: which (empty: there is none)."""
        if not self._path.exists():
            return b""
        number = 1
        while (kept := self._path.with_name(f"{self._path.name}.kept-{number}")).exists():
            number += 1
        # What is in its -wal belongs to it; SQLite finds that by its name.
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._path}{suffix}", f"{kept}{suffix}")
        return os.fsencode(kept)


@contextlib.contextmanager
def _opened(path: bytes, live: bool = False) -> Iterator[sqlite3.Connection]:
    mode = "mode=ro" if live else "mode=ro&immutable=1"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{Path(os.fsdecode(path)).absolute().as_uri()}?{mode}", uri=True)
        ) as opened:
            yield opened
    except (sqlite3.Error, UnicodeError) as error:  # SQLite quotes what it cannot read
        raise DamagedCopy(f"{printable(path)} is damaged ({printable(str(error))})") from error


def _copy_durably(source: bytes, target: Path) -> None:
    """Raises DamagedCopy if the source cannot be read, OSError if the target cannot be written."""
    with open(target, "wb") as writing:
        try:
            reading = open(source, "rb")  # noqa: SIM115 - what fails here is not what fails below
        except OSError as error:
            raise DamagedCopy(f"{printable(source)} cannot be read: {error.strerror}") from error
        with reading:
            while content := _read(reading, source):
                writing.write(content)
        writing.flush()
        os.fsync(writing.fileno())


def _read(file: BinaryIO, path: bytes) -> bytes:
    try:
        return file.read(1 << 20)
    except OSError as error:
        raise DamagedCopy(f"{printable(path)} cannot be read to its end: {error.strerror}") from error


def _make_hearsay(path: Path) -> None:
    """What was known when the copy was written need not be so any more."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE disk SET catalogue_generation = -1")
        connection.execute(
            "UPDATE session SET outcome = 'interrupted', sentence = disk_name || ': ended when this copy of the catalogue "
            "was written already' WHERE outcome = 'running'"
        )


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
