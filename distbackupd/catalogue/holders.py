"""Interned sets of disks: the same holders have the same id."""

from __future__ import annotations

from distbackupd.catalogue import schema
from distbackupd.catalogue.database import Database


class HolderSets:
    """All holder sets, kept in memory: there are at most as many as combinations that ever occurred."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sets: dict[int, frozenset[int]] = {}
        self._ids: dict[frozenset[int], int] = {}
        database.when_rolled_back(self._forget)

    def all(self) -> dict[int, frozenset[int]]:
        """Every set by id. Read again at each call: another process may have added some."""
        rows = self._database.execute("SELECT id, members FROM holder_set WHERE id > ?", (max(self._sets, default=0),))
        for identifier, members in rows:
            self._add(identifier, frozenset(map(int, members.split())))
        return self._sets

    def identifier(self, members: frozenset[int]) -> int:
        """The id of a set, made (in the open transaction) if it is new."""
        if members not in self._ids:
            self.all()
        if members not in self._ids:
            text = " ".join(map(str, sorted(members)))
            row = self._database.execute("INSERT INTO holder_set (members) VALUES (?) RETURNING id", (text,)).fetchone()
            self._add(row[0], members)
        return self._ids[members]

    def with_disk(self, disk: int) -> list[int]:
        """Ids of all sets that hold the disk."""
        return [identifier for identifier, members in self.all().items() if disk in members]

    def added(self, holders: int, disk: int) -> int:
        """The id of the set with the disk added."""
        return self.identifier(self.all()[holders] | {disk})

    def removed(self, holders: int, disk: int) -> int:
        """The id of the set without the disk."""
        return self.identifier(self.all()[holders] - {disk})

    def _forget(self) -> None:
        self._sets, self._ids = {}, {}

    def _add(self, identifier: int, members: frozenset[int]) -> None:
        self._sets[identifier] = members
        self._ids[members] = identifier


NOBODY = schema.NOBODY
