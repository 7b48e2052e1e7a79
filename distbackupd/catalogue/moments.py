"""The recorded moments as a whole, for when the clock they were taken from was wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.trouble import speaking
from distbackupd.planning.timekeeping import SetBack

_RECORDED = (
    ("file", "seen"),
    ("file", "gone"),
    ("rotten_file", "found_at"),
    ("problem", "since"),
    ("account", "since"),
    ("disk", "added_at"),
    ("disk", "last_session_at"),
    ("verified_folder", "verified_at"),
    ("listed_folder", "listed_at"),
)
"""Where moments lie, but for those at which objects became orphans."""


@speaking
class MomentTable:
    """See :class:`distbackupd.engine.ports.MomentTable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """The newest recorded moment, but for facts and the history of sessions; 0: there is none."""
        # Versions are recorded in the order of time, and former ones have an index.
        queries = (
            "SELECT seen FROM file ORDER BY id DESC LIMIT 1",
            "SELECT max(gone) FROM file INDEXED BY file_gone WHERE gone <> 0 AND object IS NOT NULL",
            "SELECT max(max(added_at, coalesce(last_session_at, 0))) FROM disk",
        )
        rows = [self._database.execute(query).fetchone() for query in queries]
        return max((int(row[0]) for row in rows if row and row[0] is not None), default=0)

    def push_graces(self, seconds: int, now: int, facts: Mapping[str, str]) -> None:
        """The grace of all orphans begins so much later, but not after ``now``; keep the facts in the same step."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE object SET orphaned_at = max(orphaned_at, min(orphaned_at + ?, ?)) WHERE orphaned_at <> 0",
                (seconds, now),
            )
            _keep(connection, facts)
            self._database.grow_generation()

    def set_back(self, back: SetBack, now: int, facts: Mapping[str, str]) -> None:
        """Do so to all moments but facts and the history of sessions; keep the facts in the same step."""
        with self._database.transaction() as connection:
            for table, column in _RECORDED:
                connection.execute(
                    f"UPDATE OR REPLACE {table} SET {column} = min(max(:since, {column} - :seconds), :now) "
                    f"WHERE {column} > :since",
                    {"since": back.since, "seconds": back.seconds, "now": now},
                )
            connection.execute(
                "UPDATE object SET orphaned_at = CASE WHEN orphaned_at >= :landed "
                "THEN min(max(:since, orphaned_at - :seconds), :now) ELSE max(1, orphaned_at - :pushed) END "
                "WHERE orphaned_at <> 0",
                {**back._asdict(), "now": now},
            )
            _keep(connection, facts)
            self._database.grow_generation()


def _keep(connection: sqlite3.Connection, facts: Mapping[str, str]) -> None:
    connection.executemany("INSERT OR REPLACE INTO fact (key, value) VALUES (?, ?)", list(facts.items()))
