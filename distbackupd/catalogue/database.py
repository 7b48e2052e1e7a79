"""Opening the catalogue: versions, transactions, copies, and what to say when it cannot be used.

WAL with ``synchronous=FULL``: a committed transaction survives a power cut. Every write transaction is IMMEDIATE: a
deferred one that reads and then writes fails at once when another process writes meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import peewee

from distbackupd.catalogue import schema
from distbackupd.catalogue.encoding import teach_hash_xattrs
from distbackupd.model.errors import CatalogueTrouble, EngineBusy
from distbackupd.model.text import printable

FILE_NAME = "distbackup.sqlite"
_COMMIT_PAGES = 2048


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
        with errors_in_words(path), place_in_words(path), _quotes_in_words(path):
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
        for pragma in ("busy_timeout=30000", "foreign_keys=0", "cache_size=-65536", "mmap_size=268435456"):
            self.connection.execute(f"PRAGMA {pragma}")
        _check_version(self.connection, self.path, self.read_only)
        if self.read_only:
            self.connection.execute("PRAGMA query_only=1")
        else:
            teach_hash_xattrs(self.connection)
            _migrate(self.connection, self.path)
            self.connection.executescript(schema.WAITING)

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

    def bound(self, *models: type[peewee.Model]) -> contextlib.AbstractContextManager[None]:
        """Use these peewee models on this catalogue while the context lasts."""
        context: contextlib.AbstractContextManager[None] = self.peewee.bind_ctx(models)
        return context

    def grow_generation(self) -> None:
        """Note that files, objects or disks changed; part of the open transaction."""
        self.connection.execute("UPDATE fact SET value = value + 1 WHERE key = 'generation'")

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
            code = code_of_target(error.sqlite_errorname or "")
            if code is None:
                raise
            raise OSError(code, os.strerror(code), path) from error


def code_of_target(name: str) -> int | None:
    """What SQLite's error means when it is the place of a copy that failed; None where it may be the catalogue."""
    codes = {"SQLITE_FULL": errno.ENOSPC, "SQLITE_READONLY": errno.EROFS, "SQLITE_CANTOPEN": errno.EIO}
    return errno.EIO if name.startswith("SQLITE_IOERR") else codes.get(name)


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
        raise CatalogueTrouble(f"{_said(path)} is no file, so it cannot be a catalogue; it was left as it is")
    # With a -wal the newest state is not in the file itself.
    if path.exists() and path.stat().st_size and not Path(f"{path}-wal").exists():
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as looked_at:
            _check_version(looked_at, path, read_only)


def _open(path: Path, read_only: bool) -> peewee.SqliteDatabase:
    there = path.exists()
    if there and not path.stat().st_size:
        raise CatalogueTrouble(
            f"the catalogue {_said(path)} is empty, so what it knew is lost; it was left as it is: "
            "mount the backup disk used last and say 'dsb recover', or remove it to begin anew"
        )
    if read_only:
        if path.parent.exists() and not path.parent.is_dir():
            raise NotADirectoryError
        if not there:
            raise CatalogueTrouble(
                f"there is no catalogue at {_said(path)}; run 'dsb source map' to start one, or 'dsb recover' if it was lost"
            )
        # Without a -wal nobody is writing, and a read-only folder could not hold one.
        writable = os.access(path.parent, os.W_OK)
        mode = "mode=ro" if writable or Path(f"{path}-wal").exists() else "immutable=1"
        target = f"{path.absolute().as_uri()}?{mode}"
    else:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = path.absolute().as_uri()
    _refuse_link(path)
    database = peewee.SqliteDatabase(target, uri=True, autoconnect=False, timeout=30)
    database.connect()
    connection: sqlite3.Connection = database.connection()
    connection.isolation_level = None
    opened = connection.execute("PRAGMA database_list").fetchone()[2]
    if _is_of_another_user(path) and os.fsencode(opened) != os.path.join(
        os.path.realpath(os.fsencode(path.parent)), os.fsencode(path.name)
    ):
        database.close()
        raise CatalogueTrouble(_LINK.format(_said(path)))
    return database


_LINK = "{} is a link in a folder of another user's, it was not followed: remove it"


def _refuse_link(path: Path) -> None:
    """Root works in the service's folder too, where whoever got hold of the service may have put a link. (SQLite itself
    follows links to the catalogue only, and not to what lies beside it.) Raises CatalogueTrouble."""
    if path.is_symlink() and _is_of_another_user(path):
        raise CatalogueTrouble(_LINK.format(_said(path)))


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
                f"{_said(path)} is the database of distbackup, not of distbackupd; it was left as it is: "
                "choose another folder with -d or DISTBACKUP_PATH, and take it over there with 'dsb import-distbackup'"
            )
        raise CatalogueTrouble(
            f"{_said(path)} is no catalogue of distbackupd; it was left as it is: choose another folder with -d"
        )
    if version > schema.VERSION:
        raise CatalogueTrouble(
            f"{_said(path)} was written by a newer distbackupd (its version is {version}, this program knows "
            f"{schema.VERSION}); it was left as it is: install the newer program"
        )
    if read_only and version < schema.VERSION:
        raise CatalogueTrouble(
            f"{_said(path)} was written by an older distbackupd; it is brought up to date when the "
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
            with contextlib.closing(sqlite3.connect(former)) as kept:
                connection.backup(kept)
        script = (
            f"BEGIN IMMEDIATE; {schema.MIGRATIONS[version]} PRAGMA application_id={schema.APPLICATION_ID}; "
            f"PRAGMA user_version={version + 1}; COMMIT;"
        )
        try:
            connection.executescript(script)
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            current: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if current <= version:
                raise
        version = connection.execute("PRAGMA user_version").fetchone()[0]


@contextlib.contextmanager
def errors_in_words(path: Path) -> Iterator[None]:
    """Turn what SQLite says of the catalogue at ``path`` into one sentence."""
    try:
        yield
    except (sqlite3.Error, peewee.PeeweeException) as error:
        raise _in_words(str(error), path) from error


@contextlib.contextmanager
def _quotes_in_words(path: Path) -> Iterator[None]:
    """The same where SQLite quotes what it cannot read, and Python cannot read that either."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise _in_words("its tables are unreadable", path) from error


@contextlib.contextmanager
def place_in_words(path: Path) -> Iterator[None]:
    """Turn what the system says of the folder and the files of the catalogue at ``path`` into one sentence."""
    try:
        yield
    except PermissionError as error:
        raise CatalogueTrouble(
            f"the catalogue's folder {_said(path.parent)} may not be used: {error.strerror}; nothing was changed: "
            "ask as root, or choose another folder with -d"
        ) from error
    except (NotADirectoryError, FileExistsError) as error:
        raise CatalogueTrouble(f"{_said(path.parent)} is no folder, so no catalogue can lie there") from error
    except OSError as error:
        raise CatalogueTrouble(f"the catalogue {_said(path)} cannot be used: {error.strerror}") from error


def _in_words(message: str, path: Path) -> CatalogueTrouble | EngineBusy:
    lowered = message.lower()
    if "locked" in lowered:
        return EngineBusy(f"the catalogue {_said(path)} is being written by another program; try again in a moment")
    if "readonly" in lowered or "read-only" in lowered or "unable to open" in lowered:
        verb = "opened" if "unable to open" in lowered else "written"
        return CatalogueTrouble(
            f"the catalogue {_said(path)} cannot be {verb} by this user; nothing was changed: "
            "ask as root, and see that its disk is not mounted read-only"
        )
    if "full" in lowered:
        return CatalogueTrouble(f"there is no room left for the catalogue {_said(path)}; what was committed is safe")
    return CatalogueTrouble(
        f"the catalogue {_said(path)} is damaged ({message}); it was left as it is: "
        "mount the backup disk used last and say 'dsb recover'"
    )


def _said(path: Path) -> str:
    return printable(os.fsencode(path))
