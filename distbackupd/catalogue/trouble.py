"""What SQLite and the system say of the catalogue, as one sentence: told by their codes, never by their words.

A full, failing or read-only disk says nothing about the catalogue on it, and no copy from a backup disk helps there. SQLite
hides which of them it was: where it cannot make its ``-shm``, a full disk is "disk I/O error". So who wants to know
tries to write a little beside the catalogue.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import peewee

from distbackupd.model.errors import (
    CatalogueDamaged,
    CatalogueFull,
    CataloguePlaceTrouble,
    CatalogueTrouble,
    DistbackupError,
    EngineBusy,
)
from distbackupd.model.text import printable

LAST_GOOD = ".last-good"
"""After the catalogue's name: the copy beside it that was found sound last."""
_PROBE_BYTES = 128 << 10
_LEAST_ROOM = 1 << 20
"""Bytes on the catalogue's disk below which no work is begun: it would only fail in the middle."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
_BROKEN = frozenset(
    {errno.EIO, errno.ENXIO, errno.ENODEV, errno.EUCLEAN, errno.ESHUTDOWN, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ENOTCONN}
)
_BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGE_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_PLACE_CODES = frozenset(
    {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOLFS}
)
_T = TypeVar("_T")
_Items = TypeVar("_Items")


def said(path: Path) -> str:
    """The path as people read it."""
    return printable(os.fsencode(path))


# --- SQLite ---


@contextlib.contextmanager
def errors_in_words(path: Path) -> Iterator[None]:
    """Turn what SQLite says of the catalogue at ``path`` into one sentence; what no code explains passes as it is."""
    try:
        yield
    except (sqlite3.Error, peewee.PeeweeException, UnicodeDecodeError) as error:
        trouble = told(error, path)
        if trouble is None:
            raise
        raise trouble from error


def told(error: BaseException, path: Path) -> DistbackupError | None:
    """The sentence for an error of SQLite; None: its code is no trouble with the file or its disk."""
    if isinstance(error, UnicodeDecodeError):
        # SQLite quotes what it cannot read, and Python cannot read that either.
        return damaged(path, "its tables are unreadable")
    code, name, text = _code_of(error)
    match code & 0xFF:
        case kind if kind in _BUSY_CODES:
            return EngineBusy(f"the catalogue {said(path)} is being written by another program; try again in a moment")
        case kind if kind in _DAMAGE_CODES:
            return damaged(path, text)
        case sqlite3.SQLITE_FULL:
            return _full(path, beside=_what_fails(path.parent) in _FULL)
        case sqlite3.SQLITE_IOERR:
            return trouble_of_place(path, _what_fails(path.parent), name) or _failing(path, name)
        case kind if kind in _PLACE_CODES:
            return trouble_of_place(path, _what_fails(path.parent), name) or _forbidden(
                path, kind == sqlite3.SQLITE_CANTOPEN
            )
        case sqlite3.SQLITE_NOMEM:
            return CataloguePlaceTrouble(f"there is not enough memory to read the catalogue {said(path)}; try again later")
    return None


def is_damage(error: BaseException) -> bool:
    """Whether an error of SQLite means that what is in the file is not what SQLite wrote there."""
    return isinstance(error, UnicodeDecodeError) or _code_of(error)[0] & 0xFF in _DAMAGE_CODES


def code_of_target(error: sqlite3.Error, target: Path) -> int | None:
    """The system's error number when it is the place of a copy that failed; None where it may be the catalogue."""
    code = _code_of(error)[0] & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return errno.ENOSPC
    if code == sqlite3.SQLITE_IOERR or code in _PLACE_CODES:
        fails = _what_fails(target.parent)
        return fails if fails in (*_FULL, *_FORBIDDEN, errno.EROFS) else errno.EIO
    return None


def damaged(path: Path, reason: str) -> CatalogueDamaged:
    """The sentence for a catalogue that is not what it was, with the ways that lead out of it."""
    return CatalogueDamaged(
        f"the catalogue {said(path)} is damaged ({printable(reason)}); it was left as it is: {_way_back(path)}"
        "mount the backup disk used last and say 'dsb recover'"
    )


def _way_back(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError, OverflowError):
        written = time.strftime("%Y-%m-%d %H:%M", time.localtime(Path(f"{path}{LAST_GOOD}").stat().st_mtime))
        return f"'dsb recover --last-good' puts back the copy of {written} that lies beside it; or "
    return ""


def _code_of(error: BaseException) -> tuple[int, str, str]:
    """SQLite's extended code, its name, and what it says; 0: it has none. Peewee keeps the error it wraps."""
    for found in (error, getattr(error, "orig", None), error.__context__):
        code = getattr(found, "sqlite_errorcode", None)
        if isinstance(found, sqlite3.Error) and code is not None:
            return code, found.sqlite_errorname, str(found)
    return 0, "", str(error)


def _full(path: Path, beside: bool) -> CatalogueFull:
    if not beside:
        # SQLite sorts in files elsewhere.
        return CatalogueFull(
            f"there is no room for temporary files of the catalogue {said(path)} in {printable(tempfile.gettempdir())}; "
            "nothing that was recorded is lost: make room there, or name another folder in TMPDIR"
        )
    return CatalogueFull(
        f"the disk with the catalogue {said(path)} is full; nothing more was recorded, and what was recorded is safe: make "
        "room there"
    )


def _failing(path: Path, name: str) -> CataloguePlaceTrouble:
    return CataloguePlaceTrouble(
        f"the disk with the catalogue {said(path)} cannot be read or written any more ({name}), so this is no damage of the "
        "catalogue's own and no copy helps yet; nothing more was recorded: look at 'dmesg' and at that disk's SMART values, "
        f"and copy {said(path.parent)} to another disk before anything else"
    )


def _read_only(path: Path) -> CataloguePlaceTrouble:
    return CataloguePlaceTrouble(
        f"the catalogue {said(path)} cannot be written, for its disk is read-only; nothing more was recorded: mount it "
        "for writing, and look at 'dmesg' if nobody mounted it so, for a disk that fails turns read-only too"
    )


def _forbidden(path: Path, opening: bool) -> CatalogueTrouble:
    return CatalogueTrouble(
        f"the catalogue {said(path)} cannot be {'opened' if opening else 'written'} by this user; nothing was changed: "
        "ask as root, and see that its disk is not mounted read-only"
    )


def trouble_of_place(path: Path, code: int | None, name: str = "") -> CataloguePlaceTrouble | None:
    """The sentence for what the system says of the catalogue's disk; None: it says nothing against it."""
    if code in _FULL:
        return _full(path, beside=True)
    if code == errno.EROFS:
        return _read_only(path)
    if code in _BROKEN:
        return _failing(path, f"{name}, {os.strerror(code or 0)}" if name else os.strerror(code or 0))
    return None


def refuse_without_room(path: Path) -> None:
    """Raises CataloguePlaceTrouble where there is no room to record anything, or none may be: before work is begun."""
    state = os.statvfs(path.parent)
    if state.f_flag & os.ST_RDONLY:
        raise _read_only(path)
    free = state.f_bavail if os.geteuid() else state.f_bfree
    if free * state.f_frsize < _LEAST_ROOM and state.f_blocks:
        raise _full(path, beside=True)


def _what_fails(folder: Path) -> int | None:
    """The system's error number when a little is written to this folder; None: it can be written. Nothing is left there."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".distbackup-probe-", buffering=0) as probe:
            probe.write(bytes(_PROBE_BYTES))
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno
    return None


# --- the system ---


@contextlib.contextmanager
def place_in_words(path: Path) -> Iterator[None]:
    """Turn what the system says of the folder and the files of the catalogue at ``path`` into one sentence."""
    try:
        yield
    except PermissionError as error:
        if os.access(path.parent, os.R_OK | os.X_OK, effective_ids=True) and path.exists():
            raise _forbidden(path, opening=True) from error
        raise CatalogueTrouble(
            f"the catalogue's folder {said(path.parent)} may not be used: {error.strerror}; nothing was changed: "
            "ask as root, or choose another folder with -d"
        ) from error
    except (NotADirectoryError, FileExistsError) as error:
        raise CatalogueTrouble(f"{said(path.parent)} is no folder, so no catalogue can lie there") from error
    except OSError as error:
        if (trouble := trouble_of_place(path, error.errno)) is not None:
            raise trouble from error
        raise CatalogueTrouble(f"the catalogue {said(path)} cannot be used: {error.strerror}") from error


# --- tables ---


def speaking(cls: type[_T]) -> type[_T]:
    """Let all public methods of a table speak in sentences, also while somebody takes what they give.

    The table has its ``_database``. A class decorator, for the engine must never meet an error of SQLite's, whichever
    method it calls.
    """
    for name, method in list(vars(cls).items()):
        if not name.startswith("_") and inspect.isfunction(method):
            setattr(cls, name, _speaking(method))
    return cls


def _speaking(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def speaking_method(self: Any, *arguments: Any, **named: Any) -> Any:
        # No context manager: this is called a million times.
        try:
            found = method(self, *arguments, **named)
        except (sqlite3.Error, peewee.PeeweeException, UnicodeDecodeError) as error:
            trouble = told(error, self._database.path)
            if trouble is None:
                raise
            raise trouble from error
        return _spoken(found, self._database.path) if isinstance(found, Iterator) else found

    return speaking_method


def _spoken(items: Iterator[_Items], path: Path) -> Iterator[_Items]:
    with errors_in_words(path):
        yield from items
