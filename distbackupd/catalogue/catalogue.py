"""The catalogue as the engine sees it: its tables and what concerns all of them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from distbackupd.catalogue.accounts import AccountTable
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
from distbackupd.catalogue.trouble import errors_in_words, speaking
from distbackupd.catalogue.unconfirmed import UnconfirmedTable
from distbackupd.catalogue.upheavals import UpheavalTable
from distbackupd.model.copies import CatalogueCopy


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
    with errors_in_words(path):
        try:
            yield Catalogue(database)
        finally:
            database.close()
