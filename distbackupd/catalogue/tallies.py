"""Rows and sums of the tables that a session believes, kept by triggers, so that a page that changed by itself shows.

SQLite has no checksums of its pages: its integrity check compares tables with their indexes, and sees nothing where a number
that no index holds became another one, as which disks hold an object. Each row adds a number made of its
own numbers and of the lengths of its texts, as any SQLite can make it: whoever writes to a catalogue keeps the sums right.
It is 32 bits wide, so that ten million rows do not overflow. A row costs some microseconds (3 in an insert of 11).
"""

from __future__ import annotations

from typing import NamedTuple

_MASK = 0xFFFFFFFF
_FACTORS = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103)
"""Odd, so that no change of one number leaves the sum as it was."""


class _Tallied(NamedTuple):
    """Columns of a table: small numbers, numbers of up to 64 bits, and texts of which the length counts."""

    small: str
    large: str = ""
    texts: str = ""


TALLIED = {
    "file": _Tallied(
        "id folder kind flags attributes priority maxcopies copies object seen gone",
        "size mtime_ns ctime_ns device inode",
        "name target",
    ),
    "object": _Tallied("id holders priority maxcopies copies orphaned_at", "size"),
    "holder_set": _Tallied("id", "", "members"),
    "folder": _Tallied("id", "", "path"),
    "attributes": _Tallied("id mode uid gid", "rdev", "xattrs"),
    "disk": _Tallied("id clean block_size overhead", "capacity catalogue_generation", "uuid name relative_path"),
}
"""The tables with a tally. All of their rows are also held by indexes, which tell of texts."""


def term(table: str, row: str = "") -> str:
    """The SQL that gives a row's number. ``row``: ``new.`` or ``old.`` in a trigger."""
    columns = TALLIED[table]
    parts = [f"ifnull({row}{name}, 0)" if name == "object" else f"{row}{name}" for name in columns.small.split()]
    for name in columns.large.split():
        parts += [f"({row}{name} & {_MASK})", f"({row}{name} >> 32)"]
    parts += [f"length({row}{name})" for name in columns.texts.split()]
    return f"(({' + '.join(f'{part} * {factor}' for part, factor in zip(parts, _FACTORS, strict=False))}) & {_MASK})"


def counted(table: str) -> str:
    """The SQL that gives a table's rows and sum as they are."""
    return f"SELECT count(*), coalesce(sum({term(table)}), 0) FROM {table} NOT INDEXED"


def fill() -> str:
    """The SQL that makes all tallies anew."""
    return "DELETE FROM tally;\n" + "\n".join(
        f"INSERT INTO tally SELECT '{table}', * FROM ({counted(table)});" for table in TALLIED
    )


def _triggers(table: str) -> str:
    new, old = term(table, "new."), term(table, "old.")
    change = {
        "more AFTER INSERT": f"rows = rows + 1, total = total + {new}",
        "less AFTER DELETE": f"rows = rows - 1, total = total - {old}",
        "other AFTER UPDATE": f"total = total - {old} + {new}",
    }
    return "\n".join(
        f"CREATE TRIGGER {table}_{when} ON {table} BEGIN UPDATE tally SET {what} WHERE name = '{table}'; END;"
        for when, what in change.items()
    )


MAKE = (
    "CREATE TABLE tally (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, total INTEGER NOT NULL) STRICT, WITHOUT ROWID;\n"
    + fill()
    + "\n"
    + "\n".join(map(_triggers, TALLIED))
    + "\n"
)
"""For a migration: the table, its rows, and the triggers that keep them."""
