"""Objects and who holds them.

What a disk holds is recorded only in transactions that are durable when the call returns, so that the catalogue never
says more than the disks hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import starmap
from typing import TypeVar

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.holders import NOBODY, HolderSets
from distbackupd.catalogue.totals import Totals
from distbackupd.catalogue.trouble import speaking
from distbackupd.model.plans import ObjectFacts

_CHUNK = 500
T = TypeVar("T")


@speaking
class ObjectTable:
    """See :class:`distbackupd.engine.ports.ObjectTable`."""

    def __init__(self, database: Database, holders: HolderSets) -> None:
        self._database = database
        self._holders = holders
        self._totals = Totals(database)

    def holder_sets(self) -> dict[int, frozenset[int]]:
        """Interned sets of disks by id."""
        return dict(self._holders.all())

    def facts(self) -> Iterator[ObjectFacts]:
        """Every object that lives or is held, as the planner sees it."""
        rows = self._database.execute(
            f"SELECT {', '.join(ObjectFacts._fields)} FROM object WHERE holders <> ? OR orphaned_at = 0", (NOBODY,)
        )
        return starmap(ObjectFacts, rows)

    def digests(self, objects: Sequence[int]) -> dict[int, tuple[bytes, int]]:
        """Digest and size by id."""
        found = {}
        for chunk in _chunks(objects):
            rows = self._database.execute(f"SELECT id, hash, size FROM object WHERE id IN ({_marks(chunk)})", chunk)
            found.update({row[0]: (row[1], row[2]) for row in rows})
        return found

    def holders(self, objects: Sequence[int]) -> dict[int, frozenset[int]]:
        """Disks that hold each of the objects."""
        sets = self._holders.all()
        found = {}
        for chunk in _chunks(objects):
            rows = self._database.execute(f"SELECT id, holders FROM object WHERE id IN ({_marks(chunk)})", chunk)
            found.update({identifier: sets[holders] for identifier, holders in rows})
        return found

    def held_in_folder(self, disk: int, folder: int, count: int = 1) -> list[tuple[int, bytes, int]]:
        """Id, digest and size of what the disk holds in a folder (0 to 4095), or ``count`` from it on, by digest."""
        sets = self._holders.with_disk(disk)
        first = (folder << 4).to_bytes(2, "big")
        behind = ((folder + count) << 4).to_bytes(2, "big") if folder + count < 4096 else b"\xff" * 33
        return self._database.execute(
            f"SELECT id, hash, size FROM object WHERE hash >= ? AND hash < ? AND holders IN ({_marks(sets)}) ORDER BY hash",
            (first, behind, *sets),
        ).fetchall()

    def record_copies(self, disk: int, objects: Sequence[int]) -> None:
        """The disk holds these now. Durable when it returns."""
        with self._database.transaction():
            self._change(objects, lambda holders: self._holders.added(holders, disk))

    def record_removals(self, disk: int, objects: Sequence[int]) -> None:
        """The disk does not hold these any more, and their files are still to be removed. Durable when it returns."""
        with self._database.transaction() as connection:
            self._change(objects, lambda holders: self._holders.removed(holders, disk))
            connection.executemany(
                "INSERT OR IGNORE INTO removal (disk, hash) SELECT ?, hash FROM object WHERE id = ?",
                [(disk, identifier) for identifier in objects],
            )

    def strike(self, disk: int, object_id: int) -> None:
        """The disk's copy of the object is bad or missing; no file is to be removed. Durable when it returns."""
        with self._database.transaction():
            self._change([object_id], lambda holders: self._holders.removed(holders, disk))

    def strike_all(self, disk: int, objects: Sequence[int]) -> None:
        """The disk's copies of these objects are gone. Durable when it returns."""
        with self._database.transaction():
            self._change(objects, lambda holders: self._holders.removed(holders, disk))

    def pending_removals(self, disk: int) -> list[bytes]:
        """Digests whose files a crash may have left on the disk after :meth:`record_removals`."""
        return [row[0] for row in self._database.execute("SELECT hash FROM removal WHERE disk = ?", (disk,))]

    def removals_done(self, disk: int) -> None:
        """Of all pending removals nothing is left on the disk but what it is recorded to hold again. Durable."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM removal WHERE disk = ?", (disk,))

    def take_over(self, disk: int, found: Sequence[tuple[bytes, int]], now: int) -> None:
        """The disk holds these (digest, size) too, and none of them is to be removed; what is new is an orphan. Durable."""
        sizes = dict(found)
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO object (hash, size, orphaned_at) VALUES (?, ?, ?)", [(*item, now) for item in found]
            )
            known = self.digests(list(self.identifiers(list(sizes)).values()))
            self._change(
                [identifier for identifier, (digest, size) in known.items() if size == sizes[digest]],
                lambda holders: self._holders.added(holders, disk),
            )
            connection.executemany("DELETE FROM removal WHERE disk = ? AND hash = ?", [(disk, digest) for digest in sizes])

    def replace_holdings(
        self, disk: int, found: Iterable[tuple[bytes, int]], now: int, gains: bool = True
    ) -> tuple[int, int]:
        """The disk holds exactly these (digest, size); what is new is an orphan. How many were gained and lost.

        Without ``gains`` it holds only those of them that it was known to hold.
        """
        # Nothing that grows with the disk is held in memory: it may be ten million objects.
        with self._database.transaction() as connection:
            connection.execute("CREATE TEMP TABLE found (hash BLOB PRIMARY KEY, size INTEGER) WITHOUT ROWID")
            try:
                connection.executemany("INSERT OR REPLACE INTO found VALUES (?, ?)", found)
                is_there = "EXISTS (SELECT 1 FROM found WHERE found.hash = object.hash AND found.size = object.size)"
                lost = self._replace_holders(disk, True, f"NOT {is_there}", self._holders.removed)
                gained = 0
                if gains:
                    connection.execute(
                        "INSERT OR IGNORE INTO object (hash, size, orphaned_at) SELECT hash, size, ? FROM found", (now,)
                    )
                    gained = self._replace_holders(disk, False, is_there, self._holders.added)
                    connection.execute("DELETE FROM removal WHERE disk = ?", (disk,))
            finally:
                connection.execute("DROP TABLE found")
            if lost or gained:
                self._database.grow_generation()
        return gained, lost

    def _replace_holders(self, disk: int, with_disk: bool, condition: str, change: Callable[[int, int], int]) -> int:
        """Change the holders of the objects that fulfil the condition and are held by the disk, or are not; how many."""
        connection = self._database.connection
        sets = self._holders.all()
        used = [row[0] for row in connection.execute("SELECT DISTINCT holders FROM object")]
        concerned = [holders for holders in used if (disk in sets[holders]) is with_disk]
        connection.execute("CREATE TEMP TABLE successor (holders INTEGER PRIMARY KEY, successor INTEGER NOT NULL)")
        try:
            connection.executemany(
                "INSERT INTO successor VALUES (?, ?)", [(holders, change(holders, disk)) for holders in concerned]
            )
            return connection.execute(
                "UPDATE object SET holders = (SELECT successor FROM successor WHERE successor.holders = object.holders) "
                f"WHERE holders IN (SELECT holders FROM successor) AND {condition}"
            ).rowcount
        finally:
            connection.execute("DROP TABLE successor")

    def drop_disk(self, disk: int) -> int:
        """The disk holds nothing any more; how many objects it held. Joins the open transaction."""
        count = 0
        for identifier in self._holders.with_disk(disk):
            remaining = self._holders.removed(identifier, disk)
            cursor = self._database.execute("UPDATE object SET holders = ? WHERE holders = ?", (remaining, identifier))
            count += cursor.rowcount
        return count

    def known_sizes(self, digests: Sequence[bytes]) -> Mapping[bytes, int]:
        """Sizes of those digests that are living objects."""
        found = {}
        for chunk in _chunks(digests):
            rows = self._database.execute(
                f"SELECT hash, size FROM object WHERE orphaned_at = 0 AND hash IN ({_marks(chunk)})", chunk
            )
            found.update({row[0]: row[1] for row in rows})
        return found

    def identifiers(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Ids of those digests that the catalogue knows."""
        found = {}
        for chunk in _chunks(digests):
            rows = self._database.execute(f"SELECT hash, id FROM object WHERE hash IN ({_marks(chunk)})", chunk)
            found.update({row[0]: row[1] for row in rows})
        return found

    def by_holders(self) -> list[tuple[int, int, int, int]]:
        """(holder set id, living objects, their bytes, bytes of those that need no more copies)."""
        return [(total.holders, total.objects, total.size, total.saturated) for total in self._totals.living()]

    def used(self, disk: int, block_size: int) -> tuple[int, int, int]:
        """How many objects the disk holds, their bytes, and their bytes in whole blocks."""
        return self._totals.within(set(self._holders.with_disk(disk)), block_size)

    def _change(self, objects: Sequence[int], change: Callable[[int], int]) -> None:
        """Give each object the holders that ``change`` makes of its present ones."""
        if not objects:
            return
        updates: list[tuple[int, int]] = []
        for chunk in _chunks(objects):
            rows = self._database.execute(f"SELECT id, holders FROM object WHERE id IN ({_marks(chunk)})", chunk).fetchall()
            updates.extend((change(holders), identifier) for identifier, holders in rows)
        self._database.connection.executemany("UPDATE OR FAIL object SET holders = ? WHERE id = ?", updates)
        self._database.grow_generation()


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
