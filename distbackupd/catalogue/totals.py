"""How much each holder set holds: sums over all objects, kept until something changes.

At ten million objects the sums take seconds, so they are stored with the generation they belong to. Whoever may only
read the catalogue makes them anew when they are stale, and keeps them to itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import NamedTuple

from distbackupd.catalogue.database import Database
from distbackupd.model.disks import USUAL_BLOCK_SIZE

_GENERATION = "SELECT value FROM fact WHERE key = ?"
_STAMP = "totals_generation"
_COPIES = (
    "(SELECT CASE WHEN members = '' THEN 0 ELSE 1 + length(members) - length(replace(members, ' ', '')) END "
    "FROM holder_set WHERE id = holders)"
)


class HoldingTotal(NamedTuple):
    """Objects with the same holders that all live or are all orphans.

    ``size`` and ``saturated`` (of what has as many copies as it may get or wants): bytes. ``rounded``: bytes when each
    object takes whole blocks of ``block_size``.
    """

    holders: int
    living: bool
    block_size: int
    objects: int
    size: int
    saturated: int
    rounded: int


class Totals:
    """The sums of one catalogue."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: tuple[str, list[HoldingTotal]] | None = None
        database.when_rolled_back(self._forget)

    def living(self) -> list[HoldingTotal]:
        """One for each holder set of living objects."""
        return [total for total in self._all({USUAL_BLOCK_SIZE}) if total.living and total.block_size == USUAL_BLOCK_SIZE]

    def within(self, sets: Collection[int], block_size: int) -> tuple[int, int, int]:
        """Of all objects with one of these holder sets: how many, their bytes, and their bytes in whole blocks."""
        found = [total for total in self._all({block_size}) if total.block_size == block_size and total.holders in sets]
        return (
            sum(total.objects for total in found),
            sum(total.size for total in found),
            sum(total.rounded for total in found),
        )

    def _all(self, block_sizes: set[int]) -> list[HoldingTotal]:
        generation = self._fact("generation")
        if self._kept and self._kept[0] == generation and block_sizes <= {total.block_size for total in self._kept[1]}:
            return self._kept[1]
        wanted = block_sizes | {row[0] for row in self._database.execute("SELECT DISTINCT block_size FROM disk")}
        if self._fact(_STAMP) == generation:
            rows = self._database.execute("SELECT * FROM holding_total").fetchall()
            totals = [HoldingTotal._make((row[0], bool(row[1]), *row[2:])) for row in rows]
            if not totals or wanted <= {total.block_size for total in totals}:
                self._kept = (generation, totals)
                return totals
        totals = self._summed(sorted(wanted))
        self._database.keep_if_possible(lambda connection: self._store(connection, generation, totals))
        self._kept = (generation, totals)
        return totals

    def _summed(self, block_sizes: list[int]) -> list[HoldingTotal]:
        rounded = ", ".join(f"sum((size + {size - 1}) / {size} * {size})" for size in block_sizes)
        rows = self._database.execute(
            "SELECT holders, orphaned_at = 0, count(*), sum(size), sum(CASE WHEN "
            f"(maxcopies > 0 AND maxcopies <= {_COPIES}) OR (copies > 0 AND copies <= {_COPIES}) THEN size ELSE 0 END), "
            f"{rounded} FROM object GROUP BY holders, orphaned_at = 0"
        )
        return [
            HoldingTotal._make((row[0], bool(row[1]), block_size, *row[2:5], row[5 + place]))
            for row in rows
            for place, block_size in enumerate(block_sizes)
        ]

    def _store(self, connection: sqlite3.Connection, generation: str, totals: list[HoldingTotal]) -> None:
        if self._fact("generation") != generation:
            return  # somebody else recorded something meanwhile
        connection.execute("DELETE FROM holding_total")
        connection.executemany("INSERT INTO holding_total VALUES (?, ?, ?, ?, ?, ?, ?)", totals)
        connection.execute("INSERT OR REPLACE INTO fact (key, value) VALUES (?, ?)", (_STAMP, generation))

    def _fact(self, key: str) -> str:
        row = self._database.execute(_GENERATION, (key,)).fetchone()
        return str(row[0]) if row else ""

    def _forget(self) -> None:
        self._kept = None
