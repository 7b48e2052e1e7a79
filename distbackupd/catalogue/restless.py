"""Files that never rest: what was read of them takes the place of what was meant to be read."""

from __future__ import annotations

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.files import AS_WE_READ, STORED
from distbackupd.catalogue.schema import NOBODY
from distbackupd.catalogue.trouble import speaking
from distbackupd.model.files import EntryFlag, TakenContent, TakenFile

_RESTLESS = int(EntryFlag.RESTLESS)
_OTHERWISE = {"size": ":size", "mtime_ns": ":mtime_ns", "flags": f"(flags & ~{_RESTLESS}) | :flag"}
_AS_TAKEN = ", ".join(_OTHERWISE.get(column, column) for column in STORED.split(", "))


@speaking
class RestlessTable:
    """See :class:`distbackupd.engine.ports.RestlessTable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def amend_waiting(self, ticket: int, content: TakenContent) -> None:
        """A file that was taken as it is, and all names of its inode, wait as what was read of it."""
        self._database.execute(
            f"UPDATE waiting SET size = :size, mtime_ns = :mtime_ns, flags = {_OTHERWISE['flags']} "
            f"WHERE ticket = :ticket OR (inode <> 0 AND flags & {int(EntryFlag.LINKED)} AND (device, inode) = "
            "(SELECT device, inode FROM waiting WHERE ticket = :ticket))",
            {**_values(content), "ticket": ticket},
        )

    def record_taken(self, taken: TakenFile, now: int) -> int:
        """The restless file, and all names of its inode, are as they were taken: the id of that object. See the port."""
        content = taken.content
        with self._database.transaction() as connection:
            row = connection.execute(
                f"INSERT INTO object (hash, size) VALUES (?, ?) ON CONFLICT (hash) {AS_WE_READ} RETURNING id",
                (content.digest, content.size),
            ).fetchone()
            connection.executemany("INSERT OR IGNORE INTO touched_object VALUES (?)", [row, (taken.planned,)])
            for ended in self._names(taken):
                connection.execute("UPDATE file SET gone = ? WHERE id = ?", (now, ended))
                connection.execute(
                    f"INSERT INTO file (folder, {STORED}, object, seen) SELECT folder, {_AS_TAKEN}, :object, :now "
                    "FROM file WHERE id = :ended",
                    {**_values(content), "object": row[0], "now": now, "ended": ended},
                )
            living = "SELECT 1 FROM file WHERE object = object.id AND gone = 0"
            connection.execute(
                "UPDATE object SET (priority, maxcopies, copies) = (SELECT max(priority), "
                "CASE WHEN min(maxcopies) = 0 THEN 0 ELSE max(maxcopies) END, max(copies) FROM file "
                f"WHERE object = object.id AND gone = 0) WHERE id = ? AND EXISTS ({living})",
                row,
            )
            # Nobody ever held what was planned, and nobody can: to wait for a scan that says so would help nobody.
            connection.execute(
                f"UPDATE object SET orphaned_at = ? WHERE id = ? AND holders = ? AND NOT EXISTS ({living})",
                (now, taken.planned, NOBODY),
            )
            self._database.grow_generation()
        return int(row[0])

    def _names(self, taken: TakenFile) -> list[int]:
        """The rows of the file and of all names of its inode; none if it is not as it was planned any more."""
        folder, _, name = taken.path.rpartition(b"/")
        own = (
            "SELECT file.id, device, inode FROM file JOIN folder ON folder.id = folder WHERE path = :folder "
            "AND name = :name AND gone = 0 AND object = :planned"
        )
        rows = self._database.execute(
            f"SELECT file.id FROM ({own}) AS own JOIN file ON file.object = :planned AND (file.id = own.id OR "
            "(file.inode <> 0 AND file.inode = own.inode AND file.device = own.device)) "
            "WHERE gone = 0",
            {"folder": folder or b"/", "name": name, "planned": taken.planned},
        )
        return [row[0] for row in rows]


def _values(content: TakenContent) -> dict[str, int]:
    return {"size": content.size, "mtime_ns": content.mtime_ns, "flag": 0 if content.at_rest else _RESTLESS}
