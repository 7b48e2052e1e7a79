"""The catalogue as the engine sees it: its tables and what concerns all of them."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import peewee

from distbackupd.catalogue.accounts import AccountTable
from distbackupd.catalogue.checked_copy import CheckedCopy
from distbackupd.catalogue.copies import look_at
from distbackupd.catalogue.database import FILE_NAME, Database
from distbackupd.catalogue.disks import DiskTable
from distbackupd.catalogue.files import FileTable
from distbackupd.catalogue.finding import FindingTable
from distbackupd.catalogue.history import HistoryTable
from distbackupd.catalogue.holders import HolderSets
from distbackupd.catalogue.lock import COPY_SUFFIX
from distbackupd.catalogue.moments import MomentTable
from distbackupd.catalogue.objects import ObjectTable
from distbackupd.catalogue.problems import ProblemTable
from distbackupd.catalogue.restless import RestlessTable
from distbackupd.catalogue.rot import RotTable
from distbackupd.catalogue.sessions import SessionTable
from distbackupd.catalogue.sources import SourceTable
from distbackupd.catalogue.trouble import place_in_words, speaking, told
from distbackupd.catalogue.unconfirmed import UnconfirmedTable
from distbackupd.catalogue.upheavals import UpheavalTable
from distbackupd.model.copies import CatalogueCopy
from distbackupd.model.errors import DistbackupError

_SPOKEN = (sqlite3.Error, peewee.PeeweeException, UnicodeDecodeError)


@speaking
class Catalogue:
    """See :class:`distbackupd.engine.ports.Catalogue`. Not to be shared between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        holders = HolderSets(database)
        self.sources = SourceTable(database)
        self.history = HistoryTable(database, holders)
        self.accounts = AccountTable(database)
        self.files = FileTable(database, self.history, self.accounts)
        self.objects = ObjectTable(database, holders)
        self.unconfirmed = UnconfirmedTable(database, self.files)
        self.rot = RotTable(database, holders, self.files)
        self.restless = RestlessTable(database)
        self.problems = ProblemTable(database)
        self.finding = FindingTable(database)
        self.disks = DiskTable(database, self.objects)
        self.sessions = SessionTable(database)
        self.moments = MomentTable(database)
        self.upheavals = UpheavalTable(database, self.files)

    def generation(self) -> int:
        """A number that grows with every recorded change of files, objects or disks."""
        return int(self._database.execute("SELECT value FROM fact WHERE key = 'generation'").fetchone()[0])

    def write_copy(self, path: bytes) -> None:
        """A consistent copy that opens on a read-only place, with none of our software but SQLite.

        Raises OSError: the place does not take it; nothing is written where there is no room for all of it, for others, and
        the catalogue itself, may need what there is.
        """
        place = os.statvfs(os.path.dirname(path))
        if place.f_blocks and self.size() > place.f_bavail * place.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        self._database.write_copy(path)

    def rest(self) -> None:
        """Nothing is asked of it for a while: keep no memory for that."""
        self._database.rest()

    def checked_copy(self) -> CheckedCopy:
        """A copy that is found sound before it is used. See the port."""
        return CheckedCopy(self._database, self.write_copy)

    def keep_before(self, step: str) -> bytes:
        """Keep a sound copy beside it, as it is before a step that changes much. See the port."""
        known = "SELECT EXISTS (SELECT 1 FROM source) OR EXISTS (SELECT 1 FROM file) OR EXISTS (SELECT 1 FROM disk)"
        if not self._database.execute(known).fetchone()[0]:
            return b""
        kept = Path(f"{self._database.path}.before-{step}")
        beside = Path(f"{kept}.new")
        with place_in_words(self._database.path), self.checked_copy() as copy:
            try:
                beside.unlink(missing_ok=True)
                copy.write(bytes(beside))
                copy.assure()
                beside.rename(kept)
            finally:
                beside.unlink(missing_ok=True)
        return bytes(kept)

    def must_be_sound(self) -> None:
        """Look at all of it. Raises CatalogueDamaged."""
        self._database.must_be_sound()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """What nobody can explain may come of values that cannot be: then the damage is told. See the port."""
        try:
            yield
        except (DistbackupError, OSError):
            raise
        except Exception as error:
            trouble = told(error, self._database.path) if isinstance(error, _SPOKEN) else None
            if trouble is None:
                self._database.look_for_damage(error)
                raise
            raise trouble from error

    def size(self) -> int:
        """Bytes that a copy of it takes, at the most."""
        return self._database.size()

    def spare_place(self) -> bytes:
        """A path where a copy may lie for a while: in the catalogue's own folder."""
        return os.fsencode(f"{self._database.path}{COPY_SUFFIX}")

    def raise_generation(self, above: int) -> None:
        """Let the generation be greater than this one. Durable when it returns."""
        with self._database.transaction() as connection:
            value = str(max(self.generation(), above) + 1)
            connection.execute("UPDATE fact SET value = ? WHERE key = 'generation'", (value,))

    def ahead(self, descriptor: int) -> CatalogueCopy | None:
        """The catalogue's copy that is open there if it knows what this catalogue does not; None: it is no newer.

        Sessions tell, for each writes a copy; and the generation, for it only ever grows. Raises CatalogueTrouble.
        """
        copy = look_at(descriptor, os.fsencode(FILE_NAME))
        if copy.generation > self.generation():
            return copy
        number, started = copy.session
        known = self._database.execute("SELECT started FROM session WHERE id = ?", (number,)).fetchone()
        return None if not number or known == (started,) else copy


@contextlib.contextmanager
def open_catalogue(folder: Path, read_only: bool = False) -> Iterator[Catalogue]:
    """The catalogue in ``folder``, made if it is missing (unless ``read_only``), closed at the end.

    Raises:
        CatalogueTrouble: it cannot be used, at any moment while the context lasts; the sentence says what to do.
    """
    path = folder / FILE_NAME
    database = Database(path, read_only)
    catalogue = Catalogue(database)
    with catalogue.explained():
        try:
            yield catalogue
        finally:
            database.close()
