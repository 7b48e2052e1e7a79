"""Copies of the catalogue on disks: what they say of themselves, and how one takes the lost catalogue's place.

A disk may come from anybody, so its copy is read in a process of its own (:mod:`distbackupd.catalogue.confined`), and what
takes a catalogue's place is made anew of what passed (:mod:`distbackupd.catalogue.rebuilding`). Nothing appears on the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distbackupd.catalogue import schema
from distbackupd.catalogue.confined import GLANCE, LARGEST_FILE, Question, ask
from distbackupd.catalogue.database import FILE_NAME
from distbackupd.catalogue.encoding import teach_hash_xattrs
from distbackupd.catalogue.hearsay import FACTS, Column, rows_of
from distbackupd.catalogue.lock import SUCCESSOR_SUFFIX
from distbackupd.catalogue.rebuilding import rebuild
from distbackupd.catalogue.soundness import find_damage
from distbackupd.catalogue.trouble import LAST_GOOD, place_in_words, told
from distbackupd.model.copies import CatalogueCopy, CopyKnowledge, DamagedCopy
from distbackupd.model.errors import CatalogueDamaged, CatalogueTrouble
from distbackupd.model.sources import FolderSettings, Source
from distbackupd.model.text import printable

_MAGIC = b"SQLite format 3\0"
_HEADER = struct.Struct(">16sH42sI4sI")
"""Magic, page size, ..., user version, ..., application id."""
_SESSIONS_KNOWN = 100_000
_GENERATION = "SELECT json_array(value) FROM fact NOT INDEXED WHERE key = 'generation'"
_SESSIONS = f"SELECT json_array(id, started) FROM session NOT INDEXED ORDER BY id DESC LIMIT {_SESSIONS_KNOWN}"
_NEWEST = "SELECT json_array(id, started) FROM session NOT INDEXED ORDER BY id DESC LIMIT 1"
_ANYTHING = (
    "SELECT json_array(EXISTS (SELECT 1 FROM source) OR EXISTS (SELECT 1 FROM file) OR EXISTS (SELECT 1 FROM disk), "
    "coalesce((SELECT max(id) FROM file), 0))"
)
_DISKS = "SELECT json_array(uuid, name) FROM disk NOT INDEXED"
_TOKENS = "SELECT json_array(uuid, token, next_token) FROM disk NOT INDEXED"
_TOKENS_SINCE = 5
_SOURCES = "SELECT json_array(hex(virtual_path), hex(real_path)) FROM source NOT INDEXED"
_SETTINGS = "SELECT json_array(hex(virtual_path), settings) FROM folder_setting NOT INDEXED"
_COLUMNS = {
    _GENERATION: [Column("fact", "value", "TEXT", False)],
    _SESSIONS: [Column("session", "id", "INTEGER", False), Column("session", "started", "INTEGER", False)],
    _NEWEST: [Column("session", "id", "INTEGER", False), Column("session", "started", "INTEGER", False)],
    _ANYTHING: [Column("", "anything", "INTEGER", False), Column("", "versions", "INTEGER", False)],
    _DISKS: [Column("disk", "uuid", "TEXT", False), Column("disk", "name", "TEXT", False)],
    _TOKENS: [Column("disk", name, "TEXT", False) for name in ("uuid", "token", "next_token")],
    _SOURCES: [Column("source", "virtual_path", "BLOB", False), Column("source", "real_path", "BLOB", False)],
    _SETTINGS: [
        Column("folder_setting", "virtual_path", "BLOB", False),
        Column("folder_setting", "settings", "TEXT", False),
    ],
}
_LOOKED_INTO = {
    "fact": [("key", "TEXT"), ("value", "TEXT")],
    "session": [("id", "INTEGER"), ("started", "INTEGER")],
    "source": [("virtual_path", "BLOB"), ("real_path", "BLOB")],
    "folder_setting": [("virtual_path", "BLOB"), ("settings", "TEXT")],
    "disk": [("uuid", "TEXT"), ("name", "TEXT")],
    "file": [("id", "INTEGER")],
}
_TOKEN_COLUMNS = [("token", "TEXT"), ("next_token", "TEXT")]


def look_at(descriptor: int, path: bytes, closely: bool = False) -> CatalogueCopy:
    """What a copy says of itself, without reading all of it. ``path`` is what to call it; ``closely``: with its knowledge.

    ``descriptor``: it is open for reading, whatever it is. Raises CatalogueTrouble: it is damaged, foreign, or newer than
    this program.
    """
    version, written_at = _version_in(descriptor, path)
    with _damage_in_words(path):
        said = _ask_for(descriptor, [_GENERATION, _ANYTHING, _NEWEST, *(_knowledge_of(version) if closely else ())])
        if len(said[_GENERATION]) != 1 or len(said[_ANYTHING]) != 1:
            raise DamagedCopy("its generation is missing")
        generation = int(FACTS["generation"](said[_GENERATION][0][0]))
    number, started = said[_NEWEST][0] if said[_NEWEST] else (0, 0)
    empty = not said[_ANYTHING][0][0]
    knowledge = _knowledge(said) if closely else None
    return CatalogueCopy(path, version, generation, (number, started), written_at, empty, knowledge)


def _knowledge_of(version: int) -> tuple[str, ...]:
    """The statements that ask for what a copy of this version knows."""
    return (_SESSIONS, _DISKS, _SOURCES, _SETTINGS, *((_TOKENS,) if version >= _TOKENS_SINCE else ()))


def _ask_for(descriptor: int, statements: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
    """The rows that each statement gives. Raises DamagedCopy and ValueError with the reason alone."""
    tables = {**_LOOKED_INTO, "disk": [*_LOOKED_INTO["disk"], *(_TOKEN_COLUMNS if _TOKENS in statements else ())]}
    rows: dict[str, list[tuple[Any, ...]]] = {statement: [] for statement in statements}
    with contextlib.closing(ask(descriptor, Question(tables, statements), GLANCE)) as answers:
        for number, content in answers:
            rows[statements[number]] += rows_of(_COLUMNS[statements[number]])(content)
    return rows


def _knowledge(said: dict[str, list[tuple[Any, ...]]]) -> CopyKnowledge:
    follows = [path for path, text in said[_SETTINGS] if FolderSettings.from_mapping(json.loads(text)).follow_symlinks]
    return CopyKnowledge(
        disks=dict(said[_DISKS]),
        tokens={uuid: frozenset(filter(None, tokens)) for uuid, *tokens in said.get(_TOKENS, ())},
        sources=tuple(Source(*row) for row in said[_SOURCES]),
        following=tuple(follows),
        settings=len(said[_SETTINGS]),
        sessions=frozenset((number, started) for number, started in said[_SESSIONS]),
        versions=said[_ANYTHING][0][1],
    )


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
        try:
            return _live(self._path)
        except DamagedCopy:
            return None

    def last_good(self) -> Path:
        """Where the copy lies that was found sound last, if there is one: beside the catalogue."""
        return Path(f"{self._path}{LAST_GOOD}")

    def look_at(self, descriptor: int, path: bytes) -> CatalogueCopy:
        """What an open copy says of itself, and what it would bring. See the port."""
        return look_at(descriptor, path, closely=True)

    def take(self, descriptor: int, copy: CatalogueCopy) -> bytes:
        """Put a sound copy in the catalogue's place; where what was there is kept (empty: nothing was). See the port."""
        beside = self._path.with_name(self._path.name + SUCCESSOR_SUFFIX)
        with place_in_words(self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.unlink(missing_ok=True)
            try:
                _rebuild(descriptor, copy, beside)
                kept = self.put_aside()
                beside.rename(self._path)
                _flush(self._path.parent)
            finally:
                for suffix in ("", "-journal"):
                    Path(f"{beside}{suffix}").unlink(missing_ok=True)
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


# --- files of strangers ---


def _version_in(descriptor: int, path: bytes) -> tuple[int, int]:
    """Version of the copy, which SQLite keeps at a fixed place, and when it was written.

    Raises CatalogueTrouble: it is none of ours, or newer.
    """
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise DamagedCopy(f"{printable(path)} cannot be read: it is no file")
        header = os.pread(descriptor, _HEADER.size, 0)
    except OSError as error:
        raise DamagedCopy(f"{printable(path)} cannot be read: {error.strerror}") from error
    if not header:
        raise CatalogueTrouble(f"{printable(path)} is no catalogue of distbackupd")
    if state.st_size > LARGEST_FILE:
        raise DamagedCopy(f"{printable(path)} is damaged (it is larger than any catalogue)")
    magic, page_size, _, version, _, application = _HEADER.unpack(header.ljust(_HEADER.size, b"\0"))
    if magic != _MAGIC or page_size == 0:
        raise DamagedCopy(f"{printable(path)} is damaged (it is no database)")
    _refuse_foreign(application, version, path)
    return version, max(0, int(state.st_mtime))


def _refuse_foreign(application: int, version: int, path: bytes) -> None:
    if application != schema.APPLICATION_ID or not version:
        raise CatalogueTrouble(f"{printable(path)} is no catalogue of distbackupd")
    if version > schema.VERSION:
        raise CatalogueTrouble(f"{printable(path)} was written by a newer distbackupd: install that to use it")


@contextlib.contextmanager
def _damage_in_words(path: bytes) -> Iterator[None]:
    try:
        yield
    except (DamagedCopy, ValueError) as error:
        raise DamagedCopy(f"{printable(path)} is damaged ({printable(str(error))})") from error


def _rebuild(descriptor: int, copy: CatalogueCopy, target: Path) -> None:
    """Write what the copy holds to ``target``, durably. Raises DamagedCopy; OSError if the target cannot be written."""
    version, _ = _version_in(descriptor, copy.path)
    with _damage_in_words(copy.path):
        rebuild(descriptor, version, target)
        _refuse_other(copy, target)
    _make_hearsay(target)
    _flush(target)


def _refuse_other(copy: CatalogueCopy, rebuilt: Path) -> None:
    """Raises DamagedCopy unless what was rebuilt is what was shown before somebody agreed to it."""
    if copy.knowledge is None:
        return
    with contextlib.closing(sqlite3.connect(rebuilt)) as connection:
        disks = dict(connection.execute("SELECT uuid, name FROM disk"))
        sources = {Source(*row) for row in connection.execute("SELECT virtual_path, real_path FROM source")}
        generation = int(connection.execute("SELECT value FROM fact WHERE key = 'generation'").fetchone()[0])
    if (disks, sources, generation) != (copy.knowledge.disks, set(copy.knowledge.sources), copy.generation):
        raise DamagedCopy("it is another one now than when it was looked at")


# --- our own file ---


def _live(path: Path) -> CatalogueCopy:
    """What our own catalogue says of itself, to which others may be writing. Raises DamagedCopy."""
    try:
        log = Path(f"{path}-wal")
        mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as connection:
            application: int = connection.execute("PRAGMA application_id").fetchone()[0]
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            _refuse_foreign(application, version, os.fsencode(path))
            found = _damage(connection, version)
            if found is not None:
                raise DamagedCopy(found)
            generation = connection.execute("SELECT value FROM fact WHERE key = 'generation'").fetchone()
            session = connection.execute("SELECT id, started FROM session ORDER BY id DESC LIMIT 1").fetchone()
            known = "SELECT EXISTS (SELECT 1 FROM source) OR EXISTS (SELECT 1 FROM file) OR EXISTS (SELECT 1 FROM disk)"
            empty = not connection.execute(known).fetchone()[0]
            if generation is None:
                raise DamagedCopy("its generation is missing")
            number = int(FACTS["generation"](str(generation[0])))
    except (sqlite3.Error, UnicodeError, ValueError) as error:  # SQLite quotes what it cannot read
        # A full or failing disk is no damage: a sound catalogue must not be taken for a lost one.
        if (trouble := told(error, path)) is not None and not isinstance(trouble, CatalogueDamaged):
            raise trouble from error
        raise DamagedCopy(str(error)) from error
    return CatalogueCopy(os.fsencode(path), version, number, session or (0, 0), int(path.stat().st_mtime), empty)


def _damage(connection: sqlite3.Connection, version: int) -> str | None:
    if version == schema.VERSION:
        teach_hash_xattrs(connection)
        return find_damage(connection)
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    return None if found == "ok" else str(found)


def _make_hearsay(path: Path) -> None:
    """What was known when the copy was written need not be so any more."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE disk SET catalogue_generation = -1")
        connection.execute(
            "UPDATE session SET outcome = 'interrupted', sentence = disk_name || ': ended when this copy of the catalogue "
            "was written already' WHERE outcome = 'running'"
        )


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
