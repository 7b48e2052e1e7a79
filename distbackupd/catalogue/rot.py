"""Living files that hold something else than what is known of them, and the order in which files are read again."""

from __future__ import annotations

from collections.abc import Sequence

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.files import FileTable
from distbackupd.catalogue.holders import HolderSets
from distbackupd.catalogue.places import join
from distbackupd.catalogue.trouble import speaking
from distbackupd.model.files import Entry, EntryFlag
from distbackupd.model.rot import KnownContent, Reading, RottenFile

_COPIED = (
    "folder, name, kind, size, mtime_ns, ctime_ns, device, inode, flags, attributes, target, priority, maxcopies, copies"
)


@speaking
class RotTable:
    """See :class:`distbackupd.engine.ports.RotTable`."""

    def __init__(self, database: Database, holders: HolderSets, files: FileTable) -> None:
        self._database = database
        self._holders = holders
        self._files = files

    def to_read(self, after: int, limit: int) -> list[KnownContent]:
        """Living files whose content is confirmed by row, from behind ``after``; of the names of one inode the first."""
        earlier = (
            "SELECT 1 FROM file AS name WHERE name.inode = file.inode AND name.device = file.device "
            "AND name.object = file.object AND name.gone = 0 AND name.id < file.id AND name.inode <> 0"
        )
        rows = self._database.execute(
            "SELECT file.id, path, name, file.size, mtime_ns, file.ctime_ns, device, inode, object, hash, "
            "rotten_file.file IS NOT NULL "
            "FROM file JOIN folder ON folder.id = folder JOIN object ON object.id = object "
            "LEFT JOIN rotten_file ON rotten_file.file = file.id WHERE file.id > ? AND gone = 0 "
            # What was taken while it was written says nothing of what should be there.
            f"AND NOT flags & {int(EntryFlag.RESTLESS)} "
            "AND NOT EXISTS (SELECT 1 FROM unconfirmed WHERE unconfirmed.file = file.id) "
            f"AND NOT (flags & {int(EntryFlag.LINKED)} AND EXISTS ({earlier})) ORDER BY file.id LIMIT ?",
            (after, limit),
        )
        return [KnownContent._make((row[0], join(row[1], row[2]), *row[3:10], bool(row[10]))) for row in rows]

    def total(self) -> int:
        """Bytes of all living files."""
        row = self._database.execute("SELECT coalesce(sum(size), 0) FROM file WHERE gone = 0").fetchone()
        return int(row[0])

    def record(self, path: bytes, object_id: int, reading: Reading, now: int) -> RottenFile | None:
        """The living file, and all names of its inode, hold this instead of the object; None: that is no news."""
        folder, _, name = path.rpartition(b"/")
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT file.id, device, inode FROM file JOIN folder ON folder.id = folder "
                "WHERE path = ? AND name = ? AND gone = 0 AND object = ?",
                (folder or b"/", name, object_id),
            ).fetchone()
            if row is None:
                return None
            file, device, inode = row
            known = connection.execute("SELECT found FROM rotten_file WHERE file = ?", (file,)).fetchone()
            connection.execute(
                "INSERT OR REPLACE INTO rotten_file (file, found_at, found, ctime_ns) SELECT id, ?, ?, ? FROM file "
                "WHERE id = ? OR (inode = ? AND device = ? AND inode <> 0 AND object = ? AND gone = 0)",
                (now, reading.digest, reading.entry.ctime_ns, file, inode, device, object_id),
            )
        return None if known is not None and known[0] == reading.digest else self._some("file.id = ?", (file,))[0]

    def all(self) -> list[RottenFile]:
        """What is not resolved, by folder and name. A file that changed or went since is none."""
        return self._some("TRUE", ())

    def _some(self, condition: str, values: Sequence[int]) -> list[RottenFile]:
        sets = self._holders.all()
        rows = self._database.execute(
            "SELECT file.id, path, name, file.size, mtime_ns, device, inode, object, hash, holders, seen, found_at, found, "
            "rotten_file.ctime_ns FROM rotten_file CROSS JOIN file ON file.id = rotten_file.file "
            "JOIN folder ON folder.id = folder JOIN object ON object.id = object "
            f"WHERE gone = 0 AND {condition} ORDER BY path, name",
            values,
        )
        return [RottenFile._make((row[0], join(row[1], row[2]), *row[3:9], sets[row[9]], *row[10:])) for row in rows]

    def resolve(self, files: Sequence[int]) -> None:
        """These rows hold what they should."""
        with self._database.transaction() as connection:
            connection.executemany("DELETE FROM rotten_file WHERE file = ?", [(file,) for file in files])
            # Of versions that ended nobody asks any more.
            connection.execute(
                "DELETE FROM rotten_file WHERE NOT EXISTS (SELECT 1 FROM file WHERE file.id = rotten_file.file AND gone = 0)"
            )

    def moved(self, files: Sequence[int], entry: Entry) -> None:
        """These rows are resolved, and names of another inode now."""
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE file SET device = ?, inode = ?, ctime_ns = ? WHERE id = ? AND gone = 0",
                [(entry.device, entry.inode, entry.ctime_ns, file) for file in files],
            )
            # It was written just now: a write that is yet to come may leave no trace.
            connection.executemany(
                "INSERT OR IGNORE INTO unconfirmed SELECT id, 1 FROM file WHERE id = ? AND gone = 0",
                [(file,) for file in files],
            )
            connection.executemany("DELETE FROM rotten_file WHERE file = ?", [(file,) for file in files])

    def accept(self, files: Sequence[int], digest: bytes, now: int) -> None:
        """These rows, names of one file, end; the same files with this content take their place."""
        marks = ", ".join("?" * len(files))
        with self._database.transaction() as connection:
            size = connection.execute(f"SELECT max(size) FROM file WHERE id IN ({marks})", files).fetchone()[0]
            content = self._files.read_object(digest, size)
            connection.execute(f"INSERT OR IGNORE INTO touched_object SELECT object FROM file WHERE id IN ({marks})", files)
            connection.execute("INSERT OR IGNORE INTO touched_object VALUES (?)", (content,))
            connection.execute(f"UPDATE file SET gone = ? WHERE id IN ({marks}) AND gone = 0", (now, *files))
            connection.execute(
                f"INSERT INTO file ({_COPIED}, object, seen) SELECT {_COPIED}, ?, ? FROM file WHERE id IN ({marks})",
                (content, now, *files),
            )
            connection.execute(f"DELETE FROM rotten_file WHERE file IN ({marks})", files)
            self._database.grow_generation()
