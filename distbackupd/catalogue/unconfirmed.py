"""Living files whose content is believed and still to be read again. Triggers keep their number and their bytes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.files import FileTable
from distbackupd.catalogue.places import join
from distbackupd.catalogue.trouble import speaking
from distbackupd.model.files import EntryFlag, UnconfirmedFile
from distbackupd.model.rot import Confirmation

_KEPT = "folder, name, kind, flags, target, priority, maxcopies, copies"


@speaking
class UnconfirmedTable:
    """See :class:`distbackupd.engine.ports.UnconfirmedTable`."""

    def __init__(self, database: Database, files: FileTable) -> None:
        self._database = database
        self._files = files

    def total(self) -> tuple[int, int]:
        """How many there are, and their bytes."""
        row = self._database.execute("SELECT files, size FROM unconfirmed_total").fetchone()
        return int(row[0]), int(row[1])

    def newest(self) -> int:
        """The row of the newest version of any file; 0: there is none."""
        row = self._database.execute("SELECT coalesce(max(id), 0) FROM file").fetchone()
        return int(row[0])

    def to_read(self, before: int, again: int, again_ns: int, limit: int) -> list[UnconfirmedFile]:
        """Rows below ``before``, the highest first. See the port."""
        rows = self._database.execute(
            "SELECT file.id, path, name, file.size, mtime_ns, device, inode, flags, object, hash FROM unconfirmed "
            "CROSS JOIN file ON file.id = unconfirmed.file JOIN folder ON folder.id = folder "
            "JOIN object ON object.id = object WHERE unconfirmed.file < ? AND (was_read = 0 OR unconfirmed.file <= ? "
            "OR CASE ctime_ns WHEN 0 THEN mtime_ns ELSE ctime_ns END < ?) ORDER BY unconfirmed.file DESC LIMIT ?",
            (before, again, again_ns, limit),
        )
        return [
            UnconfirmedFile._make((row[0], join(row[1], row[2]), *row[3:7], bool(row[7] & EntryFlag.LINKED), *row[8:]))
            for row in rows
        ]

    def doubt(self, rows: Sequence[int]) -> None:
        """These, if they are current, have to be read again. Durable."""
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT INTO unconfirmed SELECT id, 0 FROM file WHERE id = ? AND gone = 0 AND object IS NOT NULL "
                "ON CONFLICT (file) DO UPDATE SET was_read = 0 WHERE was_read",
                [(row,) for row in rows],
            )

    def record(self, confirmations: Iterable[Confirmation], now: int) -> list[bytes]:
        """What was read of them, durably; virtual paths of those that hold something else than was believed."""
        with self._database.transaction() as connection:
            changed = [item.file.path for item in confirmations if self._record(connection, item, now)]
            if changed:
                self._database.grow_generation()
        return changed

    def _record(self, connection: sqlite3.Connection, confirmation: Confirmation, now: int) -> bool:
        file, reading = confirmation
        entry = reading.entry
        attributes = self._files.attributes_id(entry)
        is_believed = reading.digest == file.digest or self._rotted_so(connection, confirmation)
        content = file.object_id if is_believed else self._files.read_object(reading.digest, file.size)
        for row, known_attributes in self._names(connection, confirmation):
            current = row
            if not is_believed or known_attributes != attributes:
                connection.execute("INSERT OR IGNORE INTO touched_object SELECT object FROM file WHERE id = ?", (row,))
                connection.execute("UPDATE file SET gone = ? WHERE id = ?", (now, row))
                current = connection.execute(
                    f"INSERT INTO file ({_KEPT}, size, mtime_ns, ctime_ns, device, inode, attributes, object, seen) "
                    f"SELECT {_KEPT}, size, mtime_ns, ?, ?, ?, ?, ?, ? FROM file WHERE id = ? RETURNING id",
                    (entry.ctime_ns, entry.device, entry.inode, attributes, content, now, row),
                ).fetchone()[0]
                connection.execute("INSERT OR IGNORE INTO touched_object VALUES (?)", (content,))
            else:
                connection.execute(
                    "UPDATE file SET ctime_ns = ?, device = ?, inode = ? WHERE id = ?",
                    (entry.ctime_ns, entry.device, entry.inode, row),
                )
            if reading.digest == file.digest or not is_believed:
                connection.execute("DELETE FROM rotten_file WHERE file = ?", (row,))
            else:
                # It rotted before something was done to it, and still is rotten.
                connection.execute("DELETE FROM rotten_file WHERE file IN (?, ?)", (row, current))
                connection.execute(
                    "INSERT INTO rotten_file (file, found_at, found, ctime_ns) VALUES (?, ?, ?, ?)",
                    (current, now, reading.digest, entry.ctime_ns),
                )
            if reading.settled:
                connection.execute("DELETE FROM unconfirmed WHERE file = ?", (current,))
            else:
                connection.execute(
                    "INSERT INTO unconfirmed VALUES (?, 1) ON CONFLICT (file) DO UPDATE SET was_read = 1", (current,)
                )
        return not is_believed

    def _names(self, connection: sqlite3.Connection, confirmation: Confirmation) -> list[tuple[int, int]]:
        """Rows and attributes of the file, and of names that were seen to be the same inode in the same state."""
        file, reading = confirmation
        entry = reading.entry
        known = "SELECT id, attributes FROM file WHERE gone = 0 AND object = ? AND size = ? AND mtime_ns = ?"
        same = (file.object_id, file.size, file.mtime_ns)
        names = connection.execute(f"{known} AND id = ?", (*same, file.row)).fetchall()
        if names and file.is_linked and entry.inode:
            names += connection.execute(
                f"{known} AND inode = ? AND device = ? AND ctime_ns = ? AND id <> ?",
                (*same, entry.inode, entry.device, entry.ctime_ns, file.row),
            ).fetchall()
        return names

    def _rotted_so(self, connection: sqlite3.Connection, confirmation: Confirmation) -> bool:
        """Whether this very content was found before, as what became of the known one by a fault of the medium."""
        row = connection.execute(
            "SELECT 1 FROM rotten_file CROSS JOIN file ON file.id = rotten_file.file WHERE found = ? AND object = ? LIMIT 1",
            (confirmation.reading.digest, confirmation.file.object_id),
        ).fetchone()
        return row is not None
