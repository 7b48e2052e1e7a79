"""Whether a catalogue is what was written there: its tables, its pages, its sums, and what must hold between rows.

A whole look reads everything: about 9 s for a million files. It goes before the first write of a day, and before a copy
takes the place of another one. A glance reads what is small: it goes before each work.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from distbackupd.catalogue import schema
from distbackupd.catalogue.encoding import teach_hash_xattrs
from distbackupd.catalogue.hearsay import CONTRADICTIONS, FACTS, LOOSE, NUMBERS, Column, rows_of
from distbackupd.catalogue.tallies import TALLIED, counted
from distbackupd.catalogue.trouble import is_damage

_OPERATIONS = 100_000
"""Whoever waits is asked whether to stop whenever SQLite took so many steps."""
_SMALL = ("holder_set", "disk")
_READ = ("source", "folder_setting", "holder_set")
"""Tables of which each value is looked at, not only numbers."""
_RANGED = ("session", "removal", "verified_folder", "listed_folder", "rotten_file", "unconfirmed", "problem", "account")
_HEADER = struct.Struct(">16sH10xI")
Stopped = Callable[[], bool]


def find_damage(connection: sqlite3.Connection, stopped: Stopped = lambda: False) -> str | None:
    """What is wrong with the catalogue of this connection, in some words; None: it is sound, as far as can be told.

    Nothing is written. Raises sqlite3.OperationalError: the disk fails, or ``stopped`` said so, which is asked a few times a
    second.
    """
    connection.set_progress_handler(stopped, _OPERATIONS)
    try:
        with _in_one_moment(connection):
            return next((found for look in _LOOKS for found in look(connection)), None)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # What is right in an unharmed catalogue, and is refused here, is damage too: a table that is gone.
        if not is_damage(error) and isinstance(error, sqlite3.OperationalError) and not _is_no_sense(error):
            raise
        return str(error)
    finally:
        connection.set_progress_handler(None, 0)


def _is_no_sense(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_ERROR


def find_damage_in(path: Path, stopped: Stopped = lambda: False) -> str | None:
    """The same for a file to which nobody writes. Raises sqlite3.OperationalError."""
    with contextlib.closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    ) as connection:
        teach_hash_xattrs(connection)
        connection.execute("PRAGMA cache_size=-65536")
        return find_damage(connection, stopped)


def glance(connection: sqlite3.Connection) -> str | None:
    """What is wrong at the first look, which takes no time however large the catalogue is; None: nothing was seen."""
    try:
        with _in_one_moment(connection):
            tallies = _tallies(connection)
            return next((found for table in _SMALL for found in _look_at_tally(connection, table, tallies)), None)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if is_damage(error):
            return str(error)
        raise


def is_cut_off(path: Path) -> bool:
    """Whether the file is shorter than it says. Only where nothing waits in a ``-wal``, which may be to make it longer."""
    with path.open("rb") as file:
        magic, page_size, pages = _HEADER.unpack(file.read(_HEADER.size).ljust(_HEADER.size, b"\0"))
        size = file.seek(0, 2)
    return bool(magic == b"SQLite format 3\0" and pages * (65536 if page_size == 1 else page_size) > size)


@contextlib.contextmanager
def _in_one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """So that tables and sums are those of the same moment, whoever writes meanwhile."""
    begun = not connection.in_transaction
    if begun:
        connection.execute("BEGIN")
    try:
        yield
    finally:
        if begun and connection.in_transaction:
            connection.execute("ROLLBACK")


# --- looks, each with what it found -------------------------------------------------------------------------------


@functools.cache
def _expected() -> dict[tuple[str, str], frozenset[tuple[str, str]]]:
    """Tables, indexes and triggers of this version, with columns and their types."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        teach_hash_xattrs(model)
        for migration in schema.MIGRATIONS:
            model.executescript(migration)
        return _described(model)


def _described(connection: sqlite3.Connection) -> dict[tuple[str, str], frozenset[tuple[str, str]]]:
    names = connection.execute("SELECT type, name FROM main.sqlite_master WHERE name NOT LIKE 'sqlite_stat%'").fetchall()
    return {
        (kind, name): frozenset(
            (row[1], row[2]) for row in (connection.execute(f"PRAGMA main.table_info('{name}')") if kind == "table" else ())
        )
        for kind, name in names
    }


def _look_at_schema(connection: sqlite3.Connection) -> Iterator[str]:
    there = _described(connection)
    for (kind, name), columns in _expected().items():
        if (kind, name) not in there:
            yield f"its {kind} '{name}' is gone"
        elif not columns <= there[kind, name]:
            yield f"its table '{name}' has other columns"


def _look_at_pages(connection: sqlite3.Connection) -> Iterator[str]:
    found = connection.execute("PRAGMA main.integrity_check(1)").fetchone()[0]
    if found != "ok":
        yield str(found)


def _look_at_references(connection: sqlite3.Connection) -> Iterator[str]:
    may_be_loose = {(table, other) for _, table, _, other in LOOSE}
    for table, _, other, _ in connection.execute("PRAGMA main.foreign_key_check"):
        if (table, other) not in may_be_loose:
            yield f"its table '{table}' refers to what is not in '{other}'"
            return


def _tallies(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    return {name: (rows, total) for name, rows, total in connection.execute("SELECT name, rows, total FROM tally")}


def _look_at_tally(connection: sqlite3.Connection, table: str, tallies: dict[str, tuple[int, int]]) -> Iterator[str]:
    if table not in tallies:
        yield f"the sum of its table '{table}' is gone"
        return
    found = connection.execute(counted(table)).fetchone()
    if found[0] != tallies[table][0]:
        yield f"its table '{table}' has {found[0]:,} rows, and {tallies[table][0]:,} were written"
    elif found != tallies[table]:
        yield f"its table '{table}' does not hold what was written there"


def _look_at_tallies(connection: sqlite3.Connection) -> Iterator[str]:
    tallies = _tallies(connection)
    for table in TALLIED:
        yield from _look_at_tally(connection, table, tallies)


def _look_at_values(connection: sqlite3.Connection) -> Iterator[str]:
    for table in _READ:
        columns = [
            Column(table, name, kind, not is_filled and not key)
            for _, name, kind, is_filled, _, key in connection.execute(f"PRAGMA main.table_info({table})")
        ]
        rows = connection.execute(f"SELECT json_array({', '.join(column.as_json for column in columns)}) FROM {table}")
        yield from _refused(table, rows_of(columns), [row[0] for row in rows])
    for key, value in connection.execute("SELECT key, value FROM fact"):
        try:
            _ = FACTS[key](value) if value and key in FACTS else value
        except ValueError as error:
            yield f"what it knows as '{key}' cannot be so ({error})"
    for table in _RANGED:
        ranges = [
            f"{full.partition('.')[2]} NOT BETWEEN {low} AND {high}"
            for full, (low, high) in NUMBERS.items()
            if full.partition(".")[0] == table
        ]
        if ranges and connection.execute(f"SELECT 1 FROM {table} WHERE {' OR '.join(ranges)} LIMIT 1").fetchone():
            yield f"its table '{table}' holds what cannot be so"


def _refused(table: str, read: Callable[[bytes], object], rows: Sequence[str]) -> Iterator[str]:
    try:
        if rows:
            read(f"[{','.join(rows)}]".encode())
    except ValueError as error:
        yield f"in its table '{table}': {error}"


def _look_at_rows(connection: sqlite3.Connection) -> Iterator[str]:
    disks = {number for (number,) in connection.execute("SELECT id FROM disk")}
    for (members,) in connection.execute("SELECT members FROM holder_set WHERE id IN (SELECT holders FROM object)"):
        if not disks.issuperset(map(int, members.split())):
            yield "it has copies on a disk that it does not know"
    for _, query, reason in CONTRADICTIONS:
        if connection.execute(f"{query} LIMIT 1").fetchone() is not None:
            yield reason


_LOOKS: Sequence[Callable[[sqlite3.Connection], Iterator[str]]] = (
    _look_at_schema,
    _look_at_pages,
    _look_at_tallies,
    _look_at_references,
    _look_at_values,
    _look_at_rows,
)
