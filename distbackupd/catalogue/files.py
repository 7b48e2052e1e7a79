"""Versions of files, and the queue of what waits to be hashed.

A row of ``file`` is only ever a whole truth: a regular file becomes a current version when its content is hashed, and
until then its former version stays current. So a source that cannot be read keeps its last good copy alive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from distbackupd.catalogue.accounts import AccountTable
from distbackupd.catalogue.database import Database
from distbackupd.catalogue.encoding import encode_xattrs, hash_xattrs
from distbackupd.catalogue.history import HistoryTable
from distbackupd.catalogue.places import below, join
from distbackupd.catalogue.problems import RESTLESS_TRIES
from distbackupd.catalogue.schema import NOBODY
from distbackupd.catalogue.trouble import speaking
from distbackupd.engine.ports import FolderChanges
from distbackupd.model.files import (
    INODE_FLAGS_SHIFT,
    Attributes,
    Entry,
    EntryFlag,
    HashedFile,
    KnownEntry,
    ListedFile,
    Namesake,
    ProblemKind,
    RestoreEntry,
    SourceFile,
    WaitingFile,
)

_RESTLESS = int(EntryFlag.RESTLESS)
_CACHED_ATTRIBUTES = 100_000
_CACHED_BYTES = 1024
"""Larger extended attributes are hardly ever shared, and many of them would fill the memory."""
_KNOWN = (
    "id, name, kind, size, mtime_ns, ctime_ns, device, inode, flags, attributes, target, priority, maxcopies, object, copies"
)
_TOUCH = "INSERT OR IGNORE INTO touched_object (id) SELECT object FROM file WHERE"
STORED = "name, kind, size, mtime_ns, ctime_ns, device, inode, flags, attributes, target, priority, maxcopies, copies"
"""Columns of a version that an entry gives."""
_EVER_UNCOPIED = (
    "SELECT 1 FROM problem WHERE problem.folder = file.folder AND problem.name = file.name "
    f"AND kind = {int(ProblemKind.UNCOPIED)} AND tries >= {RESTLESS_TRIES}"
)
"""Whether a version's file was another one whenever it was to be copied."""
_STORED_MARKS = ", ".join("?" * 13)
_SOURCE = (
    "file.size, file.mtime_ns, file.inode, file.id, file.ctime_ns, "
    "NOT EXISTS (SELECT 1 FROM unconfirmed WHERE unconfirmed.file = file.id), "
    f"file.flags & {_RESTLESS} OR EXISTS ({_EVER_UNCOPIED}), (SELECT uid FROM attributes WHERE id = file.attributes)"
)
"""The end of a SourceFile."""
AS_WE_READ = (
    "DO UPDATE SET orphaned_at = 0, size = excluded.size, "
    f"holders = CASE object.size WHEN excluded.size THEN object.holders ELSE {NOBODY} END"
)
"""What becomes of an object that is known already when we have read it: it has this size, whatever somebody else told, and
with another one no disk was seen to hold it."""
_NAMESAKES = 8


@speaking
class FileTable:
    """See :class:`distbackupd.engine.ports.FileTable`."""

    def __init__(self, database: Database, history: HistoryTable, accounts: AccountTable) -> None:
        self._database = database
        self._accounts = accounts
        self._history = history
        self._attributes: dict[Attributes, int] = {}
        self._owners: dict[int, int] = {}
        database.when_rolled_back(self._attributes.clear)
        database.when_rolled_back(self._owners.clear)

    def folder(self, path: bytes, after: bytes | None = None, until: bytes | None = None) -> list[KnownEntry]:
        """Current entries of the virtual folder, by name. See the port."""
        condition, values = "", [path]
        for operator, name in ((">", after), ("<=", until)):
            if name is not None:
                condition += f" AND name {operator} ?"
                values.append(name)
        rows = self._database.execute(
            f"SELECT {_KNOWN} FROM file WHERE folder = (SELECT id FROM folder WHERE path = ?) AND gone = 0{condition} "
            "ORDER BY name",
            values,
        )
        return [KnownEntry._make(row) for row in rows]

    def attributes_id(self, entry: Entry) -> int:
        """The id under which the entry's attributes are interned."""
        attributes = entry.attributes
        known = self._attributes.get(attributes)
        if known is not None:
            return known
        if len(self._attributes) >= _CACHED_ATTRIBUTES:
            self._attributes.clear()
        xattrs = encode_xattrs(attributes.xattrs)
        values = (*attributes[:4], hash_xattrs(xattrs))
        select = "SELECT id FROM attributes WHERE mode = ? AND uid = ? AND gid = ? AND rdev = ? AND xattrs_hash = ?"
        row = self._database.execute(select, values).fetchone()
        if row is None:
            self._database.begin()
            row = self._database.execute(
                "INSERT INTO attributes (mode, uid, gid, rdev, xattrs_hash, xattrs) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                (*values, xattrs),
            ).fetchone()
        if len(xattrs) <= _CACHED_BYTES:
            self._attributes[attributes] = row[0]
        self._accounts.meet(attributes)
        return int(row[0])

    def owner(self, attributes: int) -> int:
        """The uid in the attributes with this id."""
        known = self._owners.get(attributes)
        if known is None:
            if len(self._owners) >= _CACHED_ATTRIBUTES:
                self._owners.clear()
            row = self._database.execute("SELECT uid FROM attributes WHERE id = ?", (attributes,)).fetchone()
            known = self._owners[attributes] = int(row[0])
        return known

    def namesakes(self, entry: Entry, now: int) -> list[Namesake]:
        """Files with this device, inode, size, mtime and owner, the newest first; some, if there are many."""
        rows = self._database.execute(
            "SELECT object, path, name, gone FROM file JOIN folder ON folder.id = folder "
            "JOIN attributes ON attributes.id = attributes WHERE inode = ? AND device = ? AND size = ? AND mtime_ns = ? "
            f"AND uid = ? AND object IS NOT NULL AND inode <> 0 AND NOT flags & {_RESTLESS} "
            "AND (gone IN (0, ?) OR (ctime_ns = ? AND ctime_ns <> 0)) "
            f"ORDER BY file.id DESC LIMIT {_NAMESAKES}",
            (entry.inode, entry.device, entry.size, entry.mtime_ns, entry.attributes.uid, now, entry.ctime_ns),
        )
        return [Namesake(row[0], join(row[1], row[2]), bool(row[3])) for row in rows]

    def claimed_object(self, digest: bytes, size: int) -> int | None:
        """The id of an object that somebody else tells of, made if it is new; None: we know that it has another size."""
        row = self._database.execute("SELECT id, size FROM object WHERE hash = ?", (digest,)).fetchone()
        if row is None:
            self._database.begin()
            row = self._database.execute(
                "INSERT INTO object (hash, size) VALUES (?, ?) RETURNING id, size", (digest, size)
            ).fetchone()
        return int(row[0]) if row[1] == size else None

    def read_object(self, digest: bytes, size: int) -> int:
        """The id of an object that we have read, alive from now on. Joins the open transaction."""
        row = self._database.execute(
            f"INSERT INTO object (hash, size) VALUES (?, ?) ON CONFLICT (hash) {AS_WE_READ} RETURNING id", (digest, size)
        ).fetchone()
        return int(row[0])

    def record_folder(self, path: bytes, changes: FolderChanges, now: int) -> None:
        """Record one folder's changes; not yet committed."""
        self._database.begin()
        folder = self._folder_id(path)
        closed = [*changes.gone, *(row for row, _, _ in changes.changed)]
        if closed:
            self._close(closed, now)
        opened = [*changes.added, *((entry, content) for _, entry, content in changes.changed)]
        if opened:
            self._open((folder, *self._values(entry), content, now) for entry, content in opened)
        if changes.touched:
            self._database.connection.executemany(
                "UPDATE OR FAIL file SET ctime_ns = ?, device = ?, inode = ?, flags = ?, priority = ?, maxcopies = ?, "
                "copies = ? WHERE id = ?",
                [
                    (e.ctime_ns, e.device, e.inode, e.flags, e.priority, e.maxcopies, e.copies, row)
                    for row, e in changes.touched
                ],
            )
            self._touch(row for row, _ in changes.touched)
        if changes.waiting:
            self._database.connection.executemany(
                f"INSERT INTO waiting (folder, replaces, {STORED}) VALUES (?, ?, {_STORED_MARKS})",
                [(folder, row, *self._values(entry)) for entry, row in changes.waiting],
            )
        if changes.kept:
            self._database.connection.executemany(
                "INSERT INTO unconfirmed VALUES (?, 0) ON CONFLICT (file) DO UPDATE SET was_read = 0 WHERE was_read",
                [(row,) for row in changes.kept],
            )
        if changes.believed:
            self._database.connection.executemany(
                "INSERT INTO unconfirmed SELECT id, 0 FROM file WHERE folder = ? AND name = ? AND gone = 0 "
                "AND object IS NOT NULL ON CONFLICT (file) DO UPDATE SET was_read = 0 WHERE was_read",
                [(folder, name) for name in changes.believed],
            )

    def forget_below(self, path: bytes, keep: Sequence[bytes], now: int) -> int:
        """Mark all in and below the virtual folder as gone, but for the subtrees in ``keep``; how many it was."""
        self._database.begin()
        condition, parameters = below("path", path)
        for kept in keep:
            spared, more = below("path", kept)
            condition += f" AND NOT ({spared})"
            parameters += more
        lost = f"gone = 0 AND folder IN (SELECT id FROM folder WHERE {condition})"
        self._database.execute(f"{_TOUCH} {lost} AND object IS NOT NULL", parameters)
        return self._database.execute(f"UPDATE file SET gone = ? WHERE {lost}", (now, *parameters)).rowcount

    def disown(self, folder: bytes, names: Collection[bytes], keep: Sequence[bytes]) -> None:
        """What has these names in the folder, and all below, never was a source. See the port."""
        self._database.begin()
        for name in names:
            condition, parameters = below("path", join(folder, name))
            for kept in keep:
                spared, more = below("path", kept)
                condition += f" AND NOT ({spared})"
                parameters += more
            own = (
                f"gone = 0 AND (folder IN (SELECT id FROM folder WHERE {condition}) "
                "OR (folder = (SELECT id FROM folder WHERE path = ?) AND name = ?))"
            )
            values = (*parameters, folder, name)
            self._database.execute(f"{_TOUCH} {own} AND object IS NOT NULL", values)
            # A life without length: no moment lies in it, so nothing was lost at any.
            self._database.execute(f"UPDATE file SET gone = seen WHERE {own}", values)

    def scanned_sources(self) -> list[bytes]:
        """Virtual folders that were scanned as sources and are still known: they have an entry of their own."""
        own = "SELECT 1 FROM file WHERE file.folder = folder.id AND name = x'' AND gone = 0"
        return [row[0] for row in self._database.execute(f"SELECT path FROM folder WHERE EXISTS ({own}) ORDER BY path")]

    def start_scan(self) -> None:
        """Empty the queue of files that wait to be hashed."""
        self._database.execute("DELETE FROM waiting")

    def waiting_total(self) -> tuple[int, int]:
        """How many files wait, and their bytes; names of one inode count once."""
        row = self._database.execute(
            "SELECT count(*), CAST(total(size) AS INTEGER) FROM (SELECT size FROM waiting WHERE inode = 0 "
            "UNION ALL SELECT max(size) FROM waiting WHERE inode <> 0 GROUP BY device, inode)"
        ).fetchone()
        return int(row[0]), int(row[1])

    def waiting(self) -> Iterator[WaitingFile]:
        """Files to hash, by device and inode; of the names of one inode the first."""
        rows = self._database.execute(
            "SELECT ticket, path, name, size, mtime_ns, ctime_ns, device, inode, flags, attributes FROM waiting "
            "JOIN folder ON folder.id = folder ORDER BY device, inode, ticket"
        )
        last = None
        for ticket, folder, name, size, mtime_ns, ctime_ns, device, inode, flags, attributes in rows:
            identity = (device, inode, size, mtime_ns, ctime_ns)
            if inode and identity == last:
                continue
            # Only of these are other names recorded too; sources that overlap show one name of a file twice.
            last = identity if flags & EntryFlag.LINKED else None
            restless = bool(flags & _RESTLESS)
            path, owner = join(folder, name), self.owner(attributes)
            yield WaitingFile(ticket, path, size, mtime_ns, ctime_ns, device, inode, restless, owner)

    def note_inode_flags(self, flags: Mapping[int, int]) -> None:
        """What ``chattr`` set of waiting files and their other names, by ticket; part of :meth:`record_hashes`."""
        self._database.begin()
        for ticket, found in flags.items():
            self._database.execute(
                "UPDATE waiting SET flags = flags | :flags WHERE ticket = :ticket OR (inode <> 0 AND (device, inode) = "
                "(SELECT device, inode FROM waiting WHERE ticket = :ticket))",
                {"flags": int(found) << INODE_FLAGS_SHIFT, "ticket": ticket},
            )

    def record_hashes(self, hashed: Sequence[HashedFile], now: int) -> None:
        """Turn waiting files (and their other names) into current versions, durably."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM hashed")
            connection.executemany("INSERT INTO hashed (ticket, hash, settled) VALUES (?, ?, ?)", hashed)
            connection.execute(
                "INSERT OR IGNORE INTO hashed SELECT other.ticket, hash, settled FROM hashed "
                "JOIN waiting AS one USING (ticket) JOIN waiting AS other ON other.device = one.device "
                "AND other.inode = one.inode AND other.size = one.size AND other.mtime_ns = one.mtime_ns "
                "AND other.ctime_ns = one.ctime_ns WHERE one.inode <> 0 AND one.flags & ?",
                (int(EntryFlag.LINKED),),
            )
            connection.execute(
                "INSERT INTO object (hash, size) SELECT hash, size FROM hashed JOIN waiting USING (ticket) WHERE TRUE "
                f"ON CONFLICT (hash) {AS_WE_READ}"
            )
            replaced = "SELECT replaces FROM hashed JOIN waiting USING (ticket) WHERE replaces IS NOT NULL"
            connection.execute(f"{_TOUCH} id IN ({replaced}) AND object IS NOT NULL")
            connection.execute(f"UPDATE file SET gone = ? WHERE gone = 0 AND id IN ({replaced})", (now,))
            stored = ", ".join(f"waiting.{column}" for column in STORED.split(", "))
            connection.execute(
                f"INSERT INTO file (folder, {STORED}, object, seen) SELECT folder, {stored}, object.id, ? "
                "FROM hashed JOIN waiting USING (ticket) JOIN object ON object.hash = hashed.hash",
                (now,),
            )
            connection.execute(
                "INSERT OR IGNORE INTO touched_object (id) SELECT object.id FROM hashed JOIN object USING (hash)"
            )
            if not all(file.settled for file in hashed):
                connection.execute(
                    "INSERT INTO unconfirmed SELECT file.id, 1 FROM hashed JOIN waiting USING (ticket) JOIN file "
                    "ON file.folder = waiting.folder AND file.name = waiting.name AND gone = 0 WHERE NOT settled"
                )
            self._database.grow_generation()

    def finish_scan(self, now: int, whole: bool) -> None:
        """Recount which objects live, with which priority, maxcopies and copies, and since when the others are orphans."""
        living = "EXISTS (SELECT 1 FROM file WHERE file.object = touched_object.id AND file.gone = 0)"
        with self._database.transaction() as connection:
            connection.execute(
                f"""
                UPDATE object SET (priority, maxcopies, copies) = (
                    SELECT max(priority), CASE WHEN min(maxcopies) = 0 THEN 0 ELSE max(maxcopies) END, max(copies)
                    FROM file WHERE file.object = object.id AND file.gone = 0)
                WHERE id IN (SELECT id FROM touched_object WHERE {living})
                """
            )
            changed = connection.execute(f"DELETE FROM touched_object WHERE {living}").rowcount
            if whole:
                connection.execute(
                    "UPDATE object SET orphaned_at = ? WHERE orphaned_at = 0 AND id IN (SELECT id FROM touched_object)",
                    (now,),
                )
                changed += connection.execute("DELETE FROM touched_object").rowcount
            if changed:
                self._database.grow_generation()

    def commit(self) -> None:
        """Make what was recorded durable."""
        if self._database.changed:
            self._database.grow_generation()
        self._database.commit()

    def rollback(self) -> None:
        """Forget what was recorded since the last commit."""
        self._database.rollback()

    def count(self) -> tuple[int, int]:
        """Current entries, and bytes of current regular files; kept until something changes."""
        entries, _, size = self._counted()
        return entries, size

    def contents(self) -> tuple[int, int]:
        """Current regular files with content, and their bytes; kept until something changes."""
        _, contents, size = self._counted()
        return contents, size

    def _counted(self) -> tuple[int, int, int]:
        generation = str(self._database.execute("SELECT value FROM fact WHERE key = 'generation'").fetchone()[0])
        kept = self._database.execute("SELECT value FROM fact WHERE key = 'counted'").fetchone()
        if kept and kept[0].split()[0] == generation:
            _, entries, contents, size = map(int, kept[0].split())
            return entries, contents, size
        entries, contents, size = self._database.execute(
            "SELECT count(*), count(object), coalesce(sum(size), 0) FROM file WHERE gone = 0"
        ).fetchone()
        counted = f"{generation} {entries} {contents} {size}"
        self._database.keep_if_possible(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO fact (key, value) SELECT 'counted', ? FROM fact WHERE key = 'generation' "
                "AND value = ?",
                (counted, generation),
            )
        )
        return entries, contents, size

    def has_entries_below(self, path: bytes) -> bool:
        """Whether any current entry but the folder itself is known in or below the virtual folder."""
        condition, parameters = below("path", path)
        row = self._database.execute(
            "SELECT 1 FROM folder JOIN file ON file.folder = folder.id AND file.gone = 0 "
            f"WHERE name <> x'' AND {condition} LIMIT 1",
            parameters,
        ).fetchone()
        return row is not None

    def sources_of(self, objects: Sequence[int]) -> list[SourceFile]:
        """Living files whose content is one of the objects, ordered by path; none that is known to be rotten."""
        rows = self._database.execute(
            f"SELECT object, path, name, {_SOURCE} FROM file JOIN folder ON folder.id = file.folder "
            f"WHERE gone = 0 AND object IN ({', '.join('?' * len(objects))}) "
            "AND NOT EXISTS (SELECT 1 FROM rotten_file WHERE rotten_file.file = file.id) ORDER BY path, name",
            objects,
        )
        return [
            SourceFile._make((row[0], join(row[1], row[2]), *row[3:8], bool(row[8]), bool(row[9]), row[10])) for row in rows
        ]

    def restore_entries(self, prefix: bytes, at: int | None = None) -> Iterator[RestoreEntry]:
        """Every entry below (and at) the virtual path, folders before what they hold."""
        return self._history.entries(prefix, at)

    def listing(self, prefix: bytes) -> Iterator[ListedFile]:
        """Current entries below (and at) the virtual path, by folder and name."""
        return self._history.listing(prefix)

    def path_of_object(self, object_id: int) -> bytes:
        """One virtual path that has or had this content; empty where none is known."""
        row = self._database.execute(
            "SELECT path, name FROM file JOIN folder ON folder.id = file.folder WHERE object = ? ORDER BY gone LIMIT 1",
            (object_id,),
        ).fetchone()
        return b"" if row is None else join(row[0], row[1])

    def _folder_id(self, path: bytes) -> int:
        row = self._database.execute("SELECT id FROM folder WHERE path = ?", (path,)).fetchone()
        if row is None:
            row = self._database.execute("INSERT INTO folder (path) VALUES (?) RETURNING id", (path,)).fetchone()
        return int(row[0])

    def _values(self, entry: Entry) -> tuple[Any, ...]:
        return (
            entry.name,
            int(entry.kind),
            entry.size,
            entry.mtime_ns,
            entry.ctime_ns,
            entry.device,
            entry.inode,
            int(entry.flags),
            self.attributes_id(entry),
            entry.target,
            entry.priority,
            entry.maxcopies,
            entry.copies,
        )

    def _open(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert current versions. What they refer to lives from now on, whatever the rest of the scan brings."""
        inserted = list(rows)
        connection = self._database.connection
        connection.executemany(
            # OR FAIL: no savepoint for each row, as its trigger would ask for; the transaction is undone as a whole.
            f"INSERT OR FAIL INTO file (folder, {STORED}, object, seen) VALUES (?, {_STORED_MARKS}, ?, ?)",
            inserted,
        )
        contents = {(row[-2],) for row in inserted if row[-2] is not None}
        if contents:
            connection.executemany("UPDATE OR FAIL object SET orphaned_at = 0 WHERE id = ? AND orphaned_at <> 0", contents)
            connection.executemany("INSERT OR IGNORE INTO touched_object (id) VALUES (?)", contents)

    def _close(self, rows: Iterable[int], now: int) -> None:
        """End versions. Whether their objects are orphans is counted when a whole scan ends: they may be renamed."""
        closed = [(row,) for row in rows]
        self._touch(row for (row,) in closed)
        self._database.connection.executemany(f"UPDATE OR FAIL file SET gone = {int(now)} WHERE id = ? AND gone = 0", closed)

    def _touch(self, rows: Iterable[int]) -> None:
        self._database.connection.executemany(f"{_TOUCH} id = ? AND object IS NOT NULL", [(row,) for row in rows])
