"""Opening the catalogue: versions, transactions, copies, and what to say when it cannot be used.

WAL with ``synchronous=FULL``: a committed transaction survives a power cut. Every write transaction is IMMEDIATE: a
deferred one that reads and then writes fails at once when another process writes meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import peewee

from distbackupd.catalogue import schema
from distbackupd.catalogue.encoding import teach_hash_xattrs
from distbackupd.catalogue.soundness import find_damage, find_damage_in, glance, is_cut_off
from distbackupd.catalogue.trouble import code_of_target, damaged, errors_in_words, is_damage, place_in_words, said, told
from distbackupd.model.errors import CatalogueTrouble

FILE_NAME = "distbackup.sqlite"
_COMMIT_PAGES = 2048
_libc = ctypes.CDLL(None)
# No memory map: where the disk fails, a page that cannot be read would end the process with a signal, not with an error.
_PRAGMAS = ("busy_timeout=30000", "foreign_keys=0", "cache_size=-65536", "mmap_size=0", "journal_size_limit=67108864")


class Database:
    """One open catalogue file. Not to be shared between threads."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        """Open ``path``, creating it if it is missing and ``read_only`` is not set, and bring it to this version.

        Raises:
            CatalogueTrouble: it is broken, foreign, newer, unreadable, or cannot be written; it is left as it was.
        """
        self.path = path
        self.read_only = read_only
        self._caches: list[Callable[[], None]] = []
        self._changes_before = 0
        self._damage: str | None = None
        with errors_in_words(path), place_in_words(path):
            if read_only and _is_older(path) and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
                # Whoever only reads must be able to read it too, on the first day after an upgrade.
                Database(path).close()
            _look_at(path, read_only)
            self.peewee = _open(path, read_only)
            self.connection: sqlite3.Connection = self.peewee.connection()
            try:
                self._prepare()
            except BaseException:
                self.peewee.close()
                raise

    def _prepare(self) -> None:
        for pragma in _PRAGMAS:
            self.connection.execute(f"PRAGMA {pragma}")
        _check_version(self.connection, self.path, self.read_only)
        if self.read_only:
            self.connection.execute("PRAGMA query_only=1")
        else:
            teach_hash_xattrs(self.connection)
            _migrate(self.connection, self.path)
            self.connection.executescript(schema.WAITING)
        if (found := glance(self.connection)) is not None:
            raise damaged(self.path, found)

    def close(self) -> None:
        """Roll back what was not committed and close."""
        if not self.peewee.is_closed():
            with contextlib.suppress(sqlite3.Error, peewee.PeeweeException):
                self.rollback()
            self.peewee.close()

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """Run one statement on a plain cursor."""
        return self.connection.execute(sql, parameters)

    def begin(self) -> None:
        """Start a write transaction unless one is open."""
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")
            self._changes_before = self.connection.total_changes

    @property
    def changed(self) -> bool:
        """Whether the open transaction changed any row."""
        return self.connection.in_transaction and self.connection.total_changes > self._changes_before

    def commit(self) -> None:
        """Make the open transaction, if any, durable."""
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Forget the open transaction, if any, and what tables remember of it."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        for forget in self._caches:
            forget()

    def when_rolled_back(self, forget: Callable[[], None]) -> None:
        """Call ``forget`` whenever rows may be gone again: their ids will be given to others."""
        self._caches.append(forget)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A durable write transaction; joins one that is open, which then is committed too."""
        self.begin()
        try:
            yield self.connection
        except BaseException:
            self.rollback()
            raise
        self.commit()

    def keep_if_possible(self, keep: Callable[[sqlite3.Connection], object]) -> None:
        """Keep what can be told from other rows, so that it need not be told again. On a full disk it is not kept."""
        if not self.read_only and not self.connection.in_transaction:
            with contextlib.suppress(sqlite3.OperationalError), self.transaction() as connection:
                keep(connection)

    def bound(self, *models: type[peewee.Model]) -> contextlib.AbstractContextManager[None]:
        """Use these peewee models on this catalogue while the context lasts."""
        context: contextlib.AbstractContextManager[None] = self.peewee.bind_ctx(models)
        return context

    def grow_generation(self) -> None:
        """Note that files, objects or disks changed; part of the open transaction."""
        self.connection.execute("UPDATE fact SET value = value + 1 WHERE key = 'generation'")

    def rest(self) -> None:
        """Give back memory that only makes the next query quicker: pages read before, and what the C library keeps."""
        self.connection.execute("PRAGMA shrink_memory")
        if trim := getattr(_libc, "malloc_trim", None):
            trim(0)

    def must_be_sound(self) -> None:
        """Look at all of it. Raises CatalogueDamaged, and from then on at once."""
        if self._damage is None:
            self._damage = find_damage(self.connection)
        if self._damage is not None:
            raise damaged(self.path, self._damage)

    def look_for_damage(self, error: Exception) -> None:
        """Raises CatalogueDamaged if there is any, for then it is the cause of this error. The connection may be closed."""
        with contextlib.suppress(sqlite3.Error, OSError):
            found = find_damage_in(self.path)
            if found is not None:
                raise damaged(self.path, found) from error

    def confirm_written(self, copy: Path) -> None:
        """Raises CatalogueDamaged unless the copy says what this catalogue says of itself."""
        query = "SELECT name, rows, total FROM tally UNION ALL SELECT key, value, 0 FROM fact WHERE key = 'generation'"
        with contextlib.closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro", uri=True)) as written:
            if written.execute(query).fetchall() != self.execute(query).fetchall():
                raise damaged(self.path, "a copy of it says something else than it does")

    def size(self) -> int:
        """Bytes of all pages."""
        pages: int = self.execute("PRAGMA page_count").fetchone()[0]
        each: int = self.execute("PRAGMA page_size").fetchone()[0]
        return pages * each

    def write_copy(self, path: bytes) -> None:
        """Write a consistent copy of the committed state to ``path``, which opens on a read-only place.

        Raises:
            OSError: the place of the copy does not take it.
        """
        self.commit()
        try:
            with contextlib.closing(sqlite3.connect(os.fsdecode(path))) as target:
                target.execute("PRAGMA synchronous=OFF")  # whoever needs it durable flushes it
                self.connection.backup(target, pages=_COMMIT_PAGES)
                # A file in WAL mode cannot be opened where its -wal cannot be made: on a write-protected disk.
                target.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.Error as error:
            code = code_of_target(error, Path(os.fsdecode(path)))
            if code is None:
                raise
            raise OSError(code, os.strerror(code), path) from error


def _is_older(path: Path) -> bool:
    """Whether it is a catalogue of ours from before the last migration; what cannot be read is not judged here."""
    if not path.is_file() or not path.stat().st_size:
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as looked_at:
            version: int = looked_at.execute("PRAGMA user_version").fetchone()[0]
            application: int = looked_at.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.Error:
        return False
    return application == schema.APPLICATION_ID and version < schema.VERSION


def _look_at(path: Path, read_only: bool) -> None:
    """Refuse what cannot be a catalogue of ours without leaving files beside it, as opening it would in WAL mode."""
    if path.exists() and not path.is_file():
        raise CatalogueTrouble(f"{said(path)} is no file, so it cannot be a catalogue; it was left as it is")
    # With a -wal the newest state is not in the file itself.
    if path.exists() and path.stat().st_size and not Path(f"{path}-wal").exists():
        if is_cut_off(path):
            raise damaged(path, "its end is missing")
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as looked_at:
            _check_version(looked_at, path, read_only)


def _open(path: Path, read_only: bool) -> peewee.SqliteDatabase:
    there = path.exists()
    if there and not path.stat().st_size:
        raise CatalogueTrouble(
            f"the catalogue {said(path)} is empty, so what it knew is lost; it was left as it is: "
            "mount the backup disk used last and say 'dsb recover', or remove it to begin anew"
        )
    if read_only:
        if path.parent.exists() and not path.parent.is_dir():
            raise NotADirectoryError
        if not there:
            raise CatalogueTrouble(
                f"there is no catalogue at {said(path)}; run 'dsb source map' to start one, or 'dsb recover' if it was lost"
            )
        # With nothing in a -wal nobody is writing, and a folder that is read-only, or has no room, could not hold one.
        log = Path(f"{path}-wal")
        has_log = log.exists() and log.stat().st_size > 0
        modes = ["mode=ro"] if has_log or os.access(path.parent, os.W_OK) else []
        modes += [] if has_log else ["immutable=1"]
    else:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        modes = ["mode=rwc"]
    _refuse_link(path)
    database = _connect(path, modes)
    connection: sqlite3.Connection = database.connection()
    connection.isolation_level = None
    opened = connection.execute("PRAGMA database_list").fetchone()[2]
    if _is_of_another_user(path) and os.fsencode(opened) != os.path.join(
        os.path.realpath(os.fsencode(path.parent)), os.fsencode(path.name)
    ):
        database.close()
        raise CatalogueTrouble(_LINK.format(said(path)))
    return database


def _connect(path: Path, modes: Sequence[str]) -> peewee.SqliteDatabase:
    """In the first of these modes in which it can be read; the error is that of the first one."""
    trouble: sqlite3.Error | None = None
    for mode in modes:
        database = peewee.SqliteDatabase(f"{path.absolute().as_uri()}?{mode}", uri=True, autoconnect=False, timeout=30)
        database.connect()
        try:
            database.connection().execute("PRAGMA schema_version")
        except sqlite3.Error as error:
            database.close()
            if is_damage(error):
                raise
            trouble = trouble or error
        else:
            return database
    assert trouble is not None
    raise trouble


_LINK = "{} is a link in a folder of another user's, it was not followed: remove it"


def _refuse_link(path: Path) -> None:
    """Root works in the service's folder too, where whoever got hold of the service may have put a link. (SQLite itself
    follows links to the catalogue only, and not to what lies beside it.) Raises CatalogueTrouble."""
    if path.is_symlink() and _is_of_another_user(path):
        raise CatalogueTrouble(_LINK.format(said(path)))


def _is_of_another_user(path: Path) -> bool:
    """Whether the folder belongs to somebody who is neither root nor the one who runs this."""
    return path.parent.stat().st_uid not in (0, os.geteuid())


def _check_version(connection: sqlite3.Connection, path: Path, read_only: bool) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if empty and version == 0 and not read_only:
        return
    if application != schema.APPLICATION_ID:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        if {"file_tree", "nexus"} <= tables:
            raise CatalogueTrouble(
                f"{said(path)} is the database of distbackup, not of distbackupd; it was left as it is: "
                "choose another folder with -d or DISTBACKUP_PATH, and take it over there with 'dsb import-distbackup'"
            )
        raise CatalogueTrouble(
            f"{said(path)} is no catalogue of distbackupd; it was left as it is: choose another folder with -d"
        )
    if version > schema.VERSION:
        raise CatalogueTrouble(
            f"{said(path)} was written by a newer distbackupd (its version is {version}, this program knows "
            f"{schema.VERSION}); it was left as it is: install the newer program"
        )
    if read_only and version < schema.VERSION:
        raise CatalogueTrouble(
            f"{said(path)} was written by an older distbackupd; it is brought up to date when the "
            "daemon starts, or when somebody asks who may write it"
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    fresh = version == 0
    while version < schema.VERSION:
        if not fresh:
            former = Path(f"{path}.before-version-{version + 1}")
            _refuse_link(former)
            try:
                with contextlib.closing(sqlite3.connect(former)) as kept:
                    connection.backup(kept)
            except sqlite3.Error:
                former.unlink(missing_ok=True)
                raise
        script = (
            f"BEGIN IMMEDIATE; {schema.MIGRATIONS[version]} PRAGMA application_id={schema.APPLICATION_ID}; "
            f"PRAGMA user_version={version + 1}; COMMIT;"
        )
        try:
            connection.executescript(script)
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            current: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if current <= version:
                raise told(error, path) or damaged(path, str(error)) from error
        version = connection.execute("PRAGMA user_version").fetchone()[0]
