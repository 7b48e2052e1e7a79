"""The database of distbackup 1.0.20, which is only read, and of which not a byte is changed.

Its tables: ``path_map`` sources, ``path_config`` settings, ``file_tree`` files (times in milliseconds), ``symbolic_link``,
``disk``, and ``object``, whose ``nexus`` has a 1 at the index of each disk that holds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distbackupd.catalogue.database import FILE_NAME
from distbackupd.model.adoption import FormerDisk, FormerFile
from distbackupd.model.errors import CatalogueTrouble, UsageError
from distbackupd.model.sources import Source, canonical_virtual_path
from distbackupd.model.text import printable

_VERSION = 31
"""The version of its tables that distbackup 1.0.20 writes."""
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
            except ValueError as error:
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
                yield digest, size

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
            connection = stack.enter_context(contextlib.closing(_open(path, stack)))
            connection.text_factory = bytes
            _check(connection, told)
            yield DistbackupDatabase(connection, path)
        except OSError as error:
            raise CatalogueTrouble(f"{told} cannot be read: {error.strerror}; nothing was changed") from error
        except (sqlite3.Error, UnicodeError) as error:
            raise CatalogueTrouble(f"{told} is damaged ({printable(str(error))}); it was left as it is") from error


def _open(path: Path, stack: contextlib.ExitStack) -> sqlite3.Connection:
    """A connection that leaves no trace beside the file, and yet sees what a -wal beside it holds."""
    wal = Path(f"{path}-wal")
    if wal.exists() and wal.stat().st_size:
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="distbackup-")), path.name)
        shutil.copy(path, copy)
        shutil.copy(wal, f"{copy}-wal")
        return sqlite3.connect(copy)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _check(connection: sqlite3.Connection, told: str) -> None:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {b"path_map", b"path_config", b"file_tree", b"disk", b"object"} <= tables:
        raise CatalogueTrouble(f"{told} is no database of distbackup; it was left as it is")
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise CatalogueTrouble(f"{told} was written by a newer distbackup than 1.0.20, so it is not understood here")
    if version < _VERSION:
        raise CatalogueTrouble(
            f"{told} was written by an older distbackup: run 'dsb info' of distbackup 1.0.20 on it once, which brings it up "
            "to date"
        )
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != b"ok":
        raise CatalogueTrouble(f"{told} is damaged ({printable(found)}); it was left as it is")


def _file(row: tuple[Any, ...]) -> FormerFile:
    path, size, mtime, inode, text, priority, maxcopies = row
    digest = _digest(text) if size else None
    return FormerFile(path, size or 0, mtime or 0, inode or 0, digest, max(priority, 1), maxcopies or 0)


def _text(value: bytes | None) -> str | None:
    return None if value is None else os.fsdecode(value)


def _digest(text: bytes | None) -> bytes | None:
    return bytes.fromhex(text.decode("ascii")) if text and _HASH.fullmatch(text) else None
