"""The tree as it was known at any moment, read in order and never held as a whole."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.encoding import decode_xattrs
from distbackupd.catalogue.holders import HolderSets
from distbackupd.catalogue.places import alive, below_or_at, join
from distbackupd.catalogue.trouble import speaking
from distbackupd.model.files import Attributes, EntryFlag, EntryKind, ListedFile, RestoreEntry
from distbackupd.model.history import Change, Version

_RESTORED = (
    "path, name, kind, file.size, mtime_ns, device, inode, flags, attributes.mode, uid, gid, rdev, xattrs, target, hash, "
    "holders"
)
_VERSION = "path, name, kind, file.size, mtime_ns, attributes, target, hash, holders, seen, gone, flags"
_BY_FOLDER = "folder CROSS JOIN file ON file.folder = folder.id"


@speaking
class HistoryTable:
    """See :class:`distbackupd.engine.ports.HistoryTable`."""

    def __init__(self, database: Database, holders: HolderSets) -> None:
        self._database = database
        self._holders = holders

    def entries(
        self, prefix: bytes, at: int | None = None, held: Collection[int] | None = None, bare: bool = True
    ) -> Iterator[RestoreEntry]:
        """Every entry below (and at) the virtual path, folders before what they hold. See the port."""
        condition, parameters = below_or_at(prefix)
        if held is not None:
            without = "TRUE" if bare else f"kind = {int(EntryKind.FOLDER)}"
            numbers = ", ".join(str(int(number)) for number in held) or "0"
            condition += f" AND (holders IN ({numbers}) OR (object.id IS NULL AND {without}))"
        rows = self._of_moment(
            f"SELECT {_RESTORED} FROM {_BY_FOLDER} JOIN attributes ON attributes.id = file.attributes "
            f"LEFT JOIN object ON object.id = file.object WHERE {condition}",
            parameters,
            at,
        )
        sets = self._holders.all()
        for row in rows:
            yield RestoreEntry(
                path=join(row[0], row[1]),
                kind=EntryKind(row[2]),
                size=row[3],
                mtime_ns=row[4],
                device=row[5],
                inode=row[6],
                flags=EntryFlag(row[7]),
                attributes=Attributes(row[8], row[9], row[10], row[11], decode_xattrs(row[12])),
                target=row[13],
                digest=row[14],
                holders=frozenset() if row[15] is None else sets[row[15]],
            )

    def listing(self, prefix: bytes, at: int | None = None) -> Iterator[ListedFile]:
        """The same with less of each, by folder and name."""
        condition, parameters = below_or_at(prefix)
        rows = self._of_moment(
            f"SELECT path, name, kind, file.size, mtime_ns, holders, flags FROM {_BY_FOLDER} "
            f"LEFT JOIN object ON object.id = file.object WHERE {condition}",
            parameters,
            at,
        )
        sets = self._holders.all()
        for folder, name, kind, size, mtime_ns, holders, flags in rows:
            held = frozenset() if holders is None else sets[holders]
            yield ListedFile(join(folder, name), EntryKind(kind), size, mtime_ns, held, bool(flags & EntryFlag.RESTLESS))

    def shares(self, prefix: bytes, at: int | None = None) -> dict[frozenset[int], tuple[int, int]]:
        """How many files with content there are, and their bytes, by who holds it; names of one file count once."""
        sets = self._holders.all()
        found: dict[frozenset[int], tuple[int, int]] = {}
        place, parameters = below_or_at(prefix)
        for moment, values in alive(at):
            condition = f"FROM {_BY_FOLDER} JOIN object ON object.id = file.object WHERE {place} AND {moment}"
            every = f"SELECT holders, count(*), sum(file.size) {condition} GROUP BY holders"
            again = (
                f"SELECT holders, 1 - names, (1 - names) * bytes FROM (SELECT holders, count(*) AS names, "
                f"max(file.size) AS bytes {condition} AND flags & {int(EntryFlag.LINKED)} AND inode <> 0 "
                "GROUP BY device, inode, object) WHERE names > 1"
            )
            for query in (every, again):
                for holders, count, size in self._database.execute(query, (*parameters, *values)):
                    before = found.get(sets[holders], (0, 0))
                    found[sets[holders]] = (before[0] + count, before[1] + size)
        return found

    def names_of(self, entry: RestoreEntry, at: int | None = None) -> list[bytes]:
        """All paths that are names of the same regular file, the entry's own among them."""
        found = []
        for moment, values in alive(at):
            rows = self._database.execute(
                "SELECT path, name FROM file JOIN folder ON folder.id = file.folder WHERE inode = ? AND device = ? "
                f"AND inode <> 0 AND object = (SELECT id FROM object WHERE hash = ?) AND {moment}",
                (entry.inode, entry.device, entry.digest, *values),
            )
            found += [join(*row) for row in rows]
        return sorted(found)

    def versions(self, prefix: bytes) -> Iterator[Version]:
        """All that the virtual path, and what is below, ever was: by folder and name, the oldest first."""
        condition, parameters = below_or_at(prefix)
        query = f"SELECT {_VERSION} FROM {_BY_FOLDER} LEFT JOIN object ON object.id = file.object WHERE {condition}"
        rows = self._database.execute(
            f"{query} AND gone = 0 UNION ALL {query} AND gone <> 0 ORDER BY path, name, seen", (*parameters, *parameters)
        )
        sets = self._holders.all()
        return (_version(row, sets) for row in rows)

    def changes(self, before: int, after: int, prefix: bytes = b"/") -> Iterator[Change]:
        """What differs between two moments, by folder and name; what is as it was is left out."""
        condition, parameters = below_or_at(prefix)
        # Of the whole tree most files did not change: to read them in the order in which they lie is faster.
        order = "file CROSS JOIN folder ON folder.id = file.folder" if prefix == b"/" else _BY_FOLDER
        came = "(seen > :before AND seen <= :after AND (gone = 0 OR gone > :after))"
        went = "(seen <= :before AND gone > :before AND gone <= :after)"
        names = {f"place{number}": value for number, value in enumerate(parameters)}
        for name in names:
            condition = condition.replace("?", f":{name}", 1)
        rows = self._database.connection.execute(
            f"SELECT {_VERSION} FROM {order} LEFT JOIN object ON object.id = file.object "
            f"WHERE {condition} AND ({came} OR {went}) ORDER BY path, name",
            {"before": before, "after": after, **names},
        )
        sets = self._holders.all()
        versions = (_version(row, sets) for row in rows)
        for path, group in itertools.groupby(versions, key=operator.attrgetter("path")):
            met = list(group)
            old = next((version for version in met if version.seen <= before), None)
            new = next((version for version in met if version.seen > before), None)
            if old is None or new is None or old[:7] != new[:7]:
                yield Change(path, old, new)

    def began_at(self) -> int | None:
        """Since when anything is known, unix seconds; None: nothing is."""
        row = self._database.execute("SELECT min(seen) FROM file").fetchone()
        return None if row[0] is None else int(row[0])

    def _of_moment(self, query: str, parameters: Sequence[Any], at: int | None) -> Iterator[Any]:
        moments = alive(at)
        sql = " UNION ALL ".join(f"{query} AND {moment}" for moment, _ in moments)
        values = [value for _, more in moments for value in (*parameters, *more)]
        return iter(self._database.execute(f"{sql} ORDER BY path, name", values))


def _version(row: tuple[Any, ...], sets: Mapping[int, frozenset[int]]) -> Version:
    return Version(
        path=join(row[0], row[1]),
        kind=EntryKind(row[2]),
        size=row[3],
        mtime_ns=row[4],
        attributes=row[5],
        target=row[6],
        digest=row[7],
        holders=frozenset() if row[8] is None else sets[row[8]],
        seen=row[9],
        gone=row[10],
        restless=bool(row[11] & EntryFlag.RESTLESS),
    )
