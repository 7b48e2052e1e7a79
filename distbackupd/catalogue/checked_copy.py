"""A copy of the catalogue that is found sound before it takes the place of another one.

The look at it takes as long as writing it onto a USB disk; so it goes on in a thread while that is done. A copy that
was found sound stays beside the catalogue, if there is much room, until the next day's: one file, no larger than the
catalogue, made without writing anything twice.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.soundness import find_damage_in
from distbackupd.catalogue.trouble import LAST_GOOD, damaged, told

_KEPT_SECONDS = 20 * 3600
"""Once a day is enough, unless it has grown by an eighth: it is written to the system's disk."""
_SMALL = 16 << 20
"""Bytes: so much may be written as often as there are sessions."""
_SPARED = 4
"""So many times its size stays free beside the copy that is kept, or none is."""


class CheckedCopy:
    """See :class:`distbackupd.engine.ports.CheckedCopy`. A context manager; the look ends with it."""

    def __init__(self, database: Database, write_copy: Callable[[bytes], None]) -> None:
        self._database = database
        self._write_copy = write_copy
        self._path: Path | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._is_sound = False
        self._damage: str | None = None
        self._error: Exception | None = None

    def __enter__(self) -> CheckedCopy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped = True
        if self._thread is not None:
            self._thread.join()

    def write(self, path: bytes) -> None:
        """Write a copy to this path, and begin to look at it."""
        self._write_copy(path)
        self._path = Path(os.fsdecode(path))
        self._thread = threading.Thread(target=self._look, args=[self._path], name="copy")
        self._thread.start()

    def assure(self) -> None:
        """Wait until the copy was looked at. Raises CatalogueDamaged: it is not sound, so the catalogue is not."""
        assert self._thread is not None
        assert self._path is not None
        if self._is_sound:
            return
        self._thread.join()
        if self._error is not None:
            raise told(self._error, self._path) or self._error
        if self._damage is not None:
            raise damaged(self._database.path, self._damage)
        self._database.confirm_written(self._path)
        self._is_sound = True
        with contextlib.suppress(OSError):
            self._keep(self._path)

    def _look(self, path: Path) -> None:
        try:
            self._damage = find_damage_in(path, lambda: self._stopped)
        except (sqlite3.Error, OSError, ValueError) as error:
            self._error = error

    def _keep(self, copy: Path) -> None:
        """Let it be the good copy beside the catalogue. Raises OSError."""
        kept = Path(f"{self._database.path}{LAST_GOOD}")
        if copy.parent != kept.parent:
            return
        size = copy.stat().st_size
        with contextlib.suppress(FileNotFoundError):
            former = kept.stat()
            is_fresh = 0 <= time.time() - former.st_mtime < _KEPT_SECONDS
            if is_fresh and size > _SMALL and size < former.st_size + former.st_size // 8:
                return
        state = os.statvfs(copy.parent)
        if state.f_bavail * state.f_frsize < _SPARED * size:
            kept.unlink(missing_ok=True)
            return
        with copy.open("rb") as file:
            os.fsync(file.fileno())
        beside = Path(f"{kept}.new")
        beside.unlink(missing_ok=True)
        os.link(copy, beside)
        beside.rename(kept)
