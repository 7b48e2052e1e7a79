"""The database of distbackup 1.0.20, which is only read, and of which not a byte is changed.

Its tables: ``path_map`` sources, ``path_config`` settings, ``file_tree`` files (times in milliseconds), ``symbolic_link``,
``disk``, and ``object``, whose ``nexus`` has a 1 at the index of each disk that holds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from distbackupd.catalogue.confined import GLANCE, Question, allowance_for, ask
from distbackupd.catalogue.database import FILE_NAME
from distbackupd.catalogue.hearsay import Column, rows_of
from distbackupd.catalogue.write_ahead import fold
from distbackupd.model.adoption import FormerDisk, FormerFile
from distbackupd.model.copies import DamagedCopy
from distbackupd.model.errors import CatalogueTrouble, UsageError
from distbackupd.model.sources import Source, canonical_virtual_path
from distbackupd.model.text import printable

_VERSION = 31
"""The version of its tables that distbackup 1.0.20 writes."""
_MAGIC = b"SQLite format 3\0"
_KINDS = {"TEXT": "BLOB", "INTEGER": "INTEGER"}
"""Texts there need not be UTF-8."""
_TABLES: dict[str, list[tuple[str, str, bool]]] = {
    "path_map": [("virtual_path", "TEXT", False), ("real_path", "TEXT", False)],
    "path_config": [("virtual_path", "TEXT", False), ("config", "TEXT", False)],
    "file_tree": [
        ("virtual_path", "TEXT", False),
        ("size", "INTEGER", True),
        ("last_modified", "INTEGER", True),
        ("ino", "INTEGER", True),
        ("hash", "TEXT", True),
        ("priority", "INTEGER", False),
        ("maxcopies", "INTEGER", True),
    ],
    "symbolic_link": [("virtual_path", "TEXT", False), ("target", "TEXT", False)],
    "disk": [
        ("uuid", "TEXT", False),
        ("nexus_index", "INTEGER", False),
        ("name", "TEXT", True),
        ("relative_path", "TEXT", True),
        ("fsuuid", "TEXT", True),
        ("fstype", "TEXT", True),
        ("size", "INTEGER", True),
    ],
    "object": [("hash", "TEXT", False), ("size", "INTEGER", True), ("nexus", "TEXT", False)],
}
"""What we need of its tables: column, declared type, whether it may be NULL. The first column is the key."""
_FILE = "virtual_path, size, last_modified, ino, hash, priority, maxcopies"
_FOLDER = "rtrim(virtual_path, replace(virtual_path, '/', ''))"
"""Of a path everything up to its last slash."""
_HASH = re.compile(rb"[0-9a-fA-F]{64}")


class DistbackupDatabase:
    """See :class:`distbackupd.engine.ports.FormerDatabase`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path

    def sources(self) -> list[Source]:
        """Every source, by virtual path."""
        rows = self._connection.execute("SELECT virtual_path, real_path FROM path_map ORDER BY virtual_path")
        return [Source(canonical_virtual_path(virtual), real.rstrip(b"/") or b"/") for virtual, real in rows]

    def settings(self) -> dict[bytes, dict[str, Any]]:
        """What is set, by virtual path, as it is written there."""
        found = {}
        for virtual, text in self._connection.execute("SELECT virtual_path, config FROM path_config ORDER BY virtual_path"):
            try:
                mapping = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise CatalogueTrouble(f"{self._told()} is damaged: the settings of {printable(virtual)}") from error
            if isinstance(mapping, dict):
                found[canonical_virtual_path(virtual)] = mapping
        return found

    def disks(self) -> list[FormerDisk]:
        """Every disk that was not deleted, by name."""
        rows = self._connection.execute(
            "SELECT nexus_index, uuid, name, relative_path, fsuuid, fstype, size FROM disk WHERE name NOTNULL ORDER BY name"
        )
        found = []
        for number, identity, name, relative, filesystem_uuid, filesystem_type, size in rows:
            try:
                canonical = str(uuid.UUID(identity.decode()))
            except ValueError as error:
                raise CatalogueTrouble(f"{self._told()} is damaged: the UUID of disk '{printable(name)}'") from error
            relative_path = b"" if relative in (None, b".") else relative.strip(b"/")
            found.append(
                FormerDisk(
                    number=number,
                    uuid=canonical,
                    name=os.fsdecode(name),
                    relative_path=relative_path,
                    filesystem_uuid=_text(filesystem_uuid),
                    filesystem_type=_text(filesystem_type),
                    capacity=size or 0,
                )
            )
        return found

    def holdings(self, disk: FormerDisk) -> Iterator[tuple[bytes, int]]:
        """Digest and size of what the disk is said to hold."""
        rows = self._connection.execute(
            "SELECT hash, size FROM object WHERE substr(nexus, ?, 1) = '1' ORDER BY hash", (disk.number + 1,)
        )
        for text, size in rows:
            digest = _digest(text)
            if digest is not None:
                yield digest, size or 0

    def file(self, path: bytes) -> FormerFile | None:
        """The regular file at the virtual path."""
        row = self._connection.execute(
            f"SELECT {_FILE} FROM file_tree WHERE virtual_path = CAST(? AS TEXT)", (path,)
        ).fetchone()
        return None if row is None else _file(row)

    def below(self, path: bytes) -> Iterator[FormerFile]:
        """Regular files and symbolic links at and below the virtual path, those of one folder together."""
        top = path.rstrip(b"/")
        place = "(virtual_path = CAST(? AS TEXT) OR (virtual_path > CAST(? AS TEXT) AND virtual_path < CAST(? AS TEXT)))"
        values = (path, top + b"/", top + b"0")
        rows = self._connection.execute(
            f"SELECT * FROM (SELECT {_FILE}, '' FROM file_tree WHERE {place} UNION ALL "
            f"SELECT virtual_path, 0, 0, 0, NULL, 1, NULL, target FROM symbolic_link WHERE {place}) ORDER BY {_FOLDER}",
            values + values,
        )
        return (_file(row[:7])._replace(target=row[7]) for row in rows)

    def _told(self) -> str:
        return printable(os.fsencode(self.path))


@contextlib.contextmanager
def open_distbackup(folder: Path) -> Iterator[DistbackupDatabase]:
    """distbackup's database in ``folder`` (or that very file), to be read while the context lasts.

    It is read as a stranger's (:mod:`distbackupd.catalogue.confined`), into a database of our own that is gone afterwards.

    Raises:
        UsageError: there is none.
        CatalogueTrouble: it is damaged, or not of distbackup 1.0.20.
    """
    told = printable(os.fsencode(folder))
    with contextlib.ExitStack() as stack:
        try:
            path = folder / FILE_NAME if folder.is_dir() else folder
            if not path.is_file():
                raise UsageError(f"there is no database of distbackup at {told}; name the folder where it lies")
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="distbackup-")))
            with _opened(path, place) as file:
                _check(file.fileno(), told)
                connection = stack.enter_context(contextlib.closing(sqlite3.connect(place / "taken", isolation_level=None)))
                _take(connection, file.fileno())
            connection.text_factory = bytes
            yield DistbackupDatabase(connection, path)
        except OSError as error:
            raise CatalogueTrouble(f"{told} cannot be read: {error.strerror}; nothing was changed") from error
        except (DamagedCopy, sqlite3.Error, UnicodeError) as error:
            raise CatalogueTrouble(f"{told} is damaged ({printable(str(error))}); it was left as it is") from error


def _opened(path: Path, place: Path) -> BinaryIO:
    """The database with what a -wal beside it holds; nothing is left beside it. Raises OSError, DamagedCopy."""
    database = open(path, "rb")  # noqa: SIM115 - whoever asked closes it
    try:
        with open(f"{path}-wal", "rb") as log:
            if not os.fstat(log.fileno()).st_size:
                return database
            with database, open(place / "folded", "wb") as copy:
                fold(database, log, copy)
    except FileNotFoundError:
        return database
    except ValueError as error:
        raise DamagedCopy(str(error)) from error
    return open(place / "folded", "rb")


def _check(descriptor: int, told: str) -> None:
    """Whether it is of distbackup 1.0.20. Raises CatalogueTrouble, DamagedCopy."""
    if os.pread(descriptor, len(_MAGIC), 0) != _MAGIC:
        raise DamagedCopy("file is not a database")
    try:
        list(ask(descriptor, Question({table: [] for table in _TABLES}, []), GLANCE))
    except DamagedCopy as trouble:
        if str(trouble).startswith("it has no table"):
            raise CatalogueTrouble(f"{told} is no database of distbackup; it was left as it is") from trouble
        raise
    version = int.from_bytes(os.pread(descriptor, 4, 60), "big")
    if version > _VERSION:
        raise CatalogueTrouble(f"{told} was written by a newer distbackup than 1.0.20, so it is not understood here")
    if version < _VERSION:
        raise CatalogueTrouble(
            f"{told} was written by an older distbackup: run 'dsb info' of distbackup 1.0.20 on it once, which brings it up "
            "to date"
        )


def _take(connection: sqlite3.Connection, descriptor: int) -> None:
    """Fill a database of our own with what we need of it, each value checked. Raises DamagedCopy."""
    for pragma in ("journal_mode=OFF", "synchronous=OFF"):
        connection.execute(f"PRAGMA {pragma}")
    columns = {
        table: [Column(f"former.{table}", name, _KINDS[kind], may_be_null) for name, kind, may_be_null in _TABLES[table]]
        for table in _TABLES
    }
    for table, described in _TABLES.items():
        names = ", ".join(f"{name} {kind}" for name, kind, _ in described)
        # Its first column is its key there too.
        connection.execute(f"CREATE TABLE {table} ({names}, PRIMARY KEY ({described[0][0]})) WITHOUT ROWID")
    statements = [
        f"SELECT json_array({', '.join(column.as_json for column in columns[table])}) FROM {table} NOT INDEXED"
        for table in _TABLES
    ]
    wanted = {table: [(name, kind) for name, kind, _ in described] for table, described in _TABLES.items()}
    readers = [rows_of(columns[table]) for table in _TABLES]
    inserts = [
        f"INSERT INTO {table} VALUES ({', '.join('CAST(? AS TEXT)' if kind == 'TEXT' else '?' for _, kind, _ in described)})"
        for table, described in _TABLES.items()
    ]
    question = Question(wanted, statements, list(_TABLES))
    connection.execute("BEGIN")
    with contextlib.closing(ask(descriptor, question, allowance_for(os.fstat(descriptor).st_size))) as answers:
        for number, content in answers:
            try:
                rows = readers[number](content)
            except ValueError as error:
                raise DamagedCopy(str(error)) from error
            connection.executemany(inserts[number], rows)
    connection.execute("COMMIT")


def _file(row: tuple[Any, ...]) -> FormerFile:
    path, size, mtime, inode, text, priority, maxcopies = row
    digest = _digest(text) if size else None
    return FormerFile(path, size or 0, mtime or 0, inode or 0, digest, max(priority, 1), maxcopies or 0)


def _text(value: bytes | None) -> str | None:
    return None if value is None else os.fsdecode(value)


def _digest(text: bytes | None) -> bytes | None:
    return bytes.fromhex(text.decode("ascii")) if text and _HASH.fullmatch(text) else None
