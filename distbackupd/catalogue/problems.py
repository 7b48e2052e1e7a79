"""What could not be backed up as it is, and why: rows that a scan of their folder replaces."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.places import below, below_or_at, join
from distbackupd.catalogue.schema import NOBODY
from distbackupd.catalogue.trouble import speaking
from distbackupd.model.files import ProblemKind
from distbackupd.model.problems import FailedReading, FoundProblem, Problem, Unread

RESTLESS_TRIES = 2
"""After so many scans in which a file changed while it was read, or sessions in which it was another one than the scan
had seen, it is taken as it is."""

_COLUMNS = "folder, name, kind, size, since, tries, changing, reason"
_UNREAD = int(ProblemKind.UNREAD)
_UNCOPIED = int(ProblemKind.UNCOPIED)


@speaking
class ProblemTable:
    """See :class:`distbackupd.engine.ports.ProblemTable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, folder: bytes, found: Sequence[FoundProblem], waiting: Collection[bytes], now: int) -> None:
        """This is all that is the matter in the folder. See the port."""
        if not found and self._is_empty():
            return
        rows = self._database.execute(
            "SELECT folder, name, kind, size, reason FROM problem WHERE folder = (SELECT id FROM folder WHERE path = ?)",
            (folder,),
        ).fetchall()
        listed = {(item.name, int(item.kind)): item for item in found if item.kind is not None}
        if not rows and not listed:
            return
        self._database.begin()
        gone = []
        for folder_id, name, kind, size, reason in rows:
            item = listed.pop((name, kind), None)
            if item is None:
                # What sessions met is for them to forget.
                if kind != _UNCOPIED and (kind != _UNREAD or name not in waiting):
                    gone.append((folder_id, name, kind))
            elif kind == _UNREAD or (item.size, item.reason) != (size, reason):
                self._update(folder_id, item, kind == _UNREAD)
        connection = self._database.connection
        connection.executemany("DELETE FROM problem WHERE folder = ? AND name = ? AND kind = ?", gone)
        if listed:
            folder_id = self._folder_id(folder)
            connection.executemany(
                f"INSERT INTO problem ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, 1, 0, ?)",
                [(folder_id, name, kind, item.size, now, item.reason) for (name, kind), item in listed.items()],
            )

    def close_off(self, folder: bytes, reason: str, now: int) -> None:
        """The folder cannot be looked into. See the port."""
        self._database.begin()
        self._database.execute(
            f"INSERT INTO problem ({_COLUMNS}) VALUES (?, x'', ?, 0, ?, 1, 0, ?) "
            "ON CONFLICT (folder, name, kind) DO UPDATE SET tries = tries + 1, reason = excluded.reason",
            (self._folder_id(folder), _UNREAD, now, reason),
        )

    def forget_below(self, path: bytes, keep: Sequence[bytes]) -> None:
        """Nothing is the matter in and below the folder. See the port."""
        if self._is_empty():
            return
        self._database.begin()
        condition, parameters = below("path", path)
        for kept in keep:
            spared, more = below("path", kept)
            condition += f" AND NOT ({spared})"
            parameters += more
        self._database.execute(f"DELETE FROM problem WHERE folder IN (SELECT id FROM folder WHERE {condition})", parameters)

    def record_failures(self, failures: Sequence[FailedReading], now: int) -> None:
        """These waiting files could not be read in this scan. Durable when it returns."""
        with self._database.transaction() as connection:
            connection.executemany(
                f"INSERT INTO problem ({_COLUMNS}) "
                f"SELECT folder, name, {_UNREAD}, size, :now, 1, :changing, :reason FROM waiting WHERE ticket = :ticket "
                "ON CONFLICT (folder, name, kind) DO UPDATE SET size = excluded.size, reason = excluded.reason, "
                "tries = CASE changing WHEN excluded.changing THEN tries + 1 ELSE 1 END, changing = excluded.changing",
                [{**item._asdict(), "now": now} for item in failures],
            )

    def forget_read(self) -> None:
        """What ``record_hashes`` was given last could be read. Durable when it returns."""
        if self._is_empty():
            return
        with self._database.transaction() as connection:
            connection.execute(
                f"DELETE FROM problem WHERE kind = {_UNREAD} AND (folder, name) IN "
                "(SELECT folder, name FROM hashed JOIN waiting USING (ticket))"
            )

    def record_uncopied(self, paths: Sequence[tuple[bytes, str]], now: int) -> None:
        """These living files were others, for a reason, when they were to be copied. Durable when it returns."""
        with self._database.transaction() as connection:
            for path, reason in paths:
                folder, _, name = path.rpartition(b"/")
                connection.execute(
                    f"INSERT INTO problem ({_COLUMNS}) SELECT folder, name, {_UNCOPIED}, size, ?, 1, 1, ? FROM file "
                    "JOIN folder ON folder.id = folder WHERE path = ? AND name = ? AND gone = 0 "
                    "ON CONFLICT (folder, name, kind) DO UPDATE SET size = excluded.size, tries = tries + 1",
                    (now, reason, folder or b"/", name),
                )

    def forget_copied(self, objects: Sequence[int]) -> None:
        """The files with these contents were copied as they are known. Durable when it returns."""
        if self._is_empty():
            return
        with self._database.transaction() as connection:
            connection.execute(
                f"DELETE FROM problem WHERE kind = {_UNCOPIED} AND EXISTS (SELECT 1 FROM file WHERE "
                "file.folder = problem.folder AND file.name = problem.name AND gone = 0 AND object IN "
                f"({', '.join(str(int(number)) for number in objects)}))"
            )

    def forget_gone(self) -> None:
        """What sessions met with files that are no more. Part of the scan's transaction."""
        if self._is_empty():
            return
        self._database.begin()
        self._database.execute(
            f"DELETE FROM problem WHERE kind = {_UNCOPIED} AND NOT EXISTS (SELECT 1 FROM file WHERE "
            "file.folder = problem.folder AND file.name = problem.name AND gone = 0)"
        )

    def restless(self, folder: bytes) -> set[bytes]:
        """Names of files in the folder that changed whenever they were read, in two scans or more."""
        rows = self._database.execute(
            "SELECT name FROM problem WHERE folder = (SELECT id FROM folder WHERE path = ?) AND kind = ? AND changing "
            "AND tries >= ?",
            (folder, _UNREAD, RESTLESS_TRIES),
        )
        return {row[0] for row in rows}

    def listing(self, prefix: bytes) -> Iterator[Problem]:
        """All that is known below (and at) the virtual path, by folder and name."""
        condition, parameters = below_or_at(prefix)
        kept = (
            "SELECT 1 FROM file WHERE file.folder = problem.folder AND file.name = problem.name AND gone = 0 "
            "AND object IS NOT NULL"
        )
        held = (
            "SELECT 1 FROM file JOIN object ON object.id = file.object WHERE file.folder = problem.folder "
            f"AND file.name = problem.name AND gone = 0 AND holders <> {NOBODY}"
        )
        rows = self._database.execute(
            f"SELECT path, name, kind, size, since, tries, reason, EXISTS ({kept}) FROM folder "
            f"CROSS JOIN problem ON problem.folder = folder.id WHERE {condition} AND NOT (kind = {_UNCOPIED} "
            f"AND EXISTS ({held})) ORDER BY path, name, kind",
            parameters,
        )
        for path, name, kind, size, since, tries, reason, is_kept in rows:
            yield Problem(join(path, name), ProblemKind(kind), size, since, tries, reason, not name, bool(is_kept))

    def unread(self) -> Unread:
        """How much could not be read."""
        # Sizes are what entries say, 8 EiB too: a sum of integers could overflow.
        row = self._database.execute(
            "SELECT coalesce(sum(name <> x''), 0), CAST(total(size) AS INTEGER), coalesce(sum(name = x''), 0) FROM problem "
            f"WHERE kind = {_UNREAD}"
        ).fetchone()
        return Unread(*row)

    def _update(self, folder: int, item: FoundProblem, again: bool) -> None:
        self._database.execute(
            "UPDATE problem SET size = ?, reason = ?, tries = tries + ? WHERE folder = ? AND name = ? AND kind = ?",
            (item.size, item.reason, again, folder, item.name, item.kind),
        )

    def _is_empty(self) -> bool:
        return self._database.execute("SELECT 1 FROM problem LIMIT 1").fetchone() is None

    def _folder_id(self, path: bytes) -> int:
        self._database.execute("INSERT OR IGNORE INTO folder (path) VALUES (?)", (path,))
        return int(self._database.execute("SELECT id FROM folder WHERE path = ?", (path,)).fetchone()[0])
