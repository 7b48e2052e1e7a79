"""A catalogue made anew from a copy that somebody else may have written: our own tables, and in them only what passed.

our migrations up to the copy's version -> its rows, each value checked -> indexes, triggers, what can be told from others
-> what must hold between rows -> the migrations that the copy lacks
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from distbackupd.catalogue import schema, tallies
from distbackupd.catalogue.confined import Question, allowance_for, ask
from distbackupd.catalogue.encoding import teach_hash_xattrs
from distbackupd.catalogue.hearsay import CONTRADICTIONS, DERIVED, LOOSE, Column, rows_of, taken_facts
from distbackupd.catalogue.trouble import code_of_target
from distbackupd.model.copies import DamagedCopy

_SEQUENCE = "sqlite_sequence"
_CACHE_KIB = 262_144


def rebuild(descriptor: int, version: int, target: Path) -> None:
    """Write to ``target``, which is not there, the catalogue that the file of ``descriptor`` holds; it is not flushed yet.

    Raises:
        DamagedCopy: the copy is not sound; the sentence is the reason alone.
        OSError: ``target`` cannot be written.
    """
    with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as connection:
        try:
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{_CACHE_KIB}"):
                connection.execute(f"PRAGMA {pragma}")
            teach_hash_xattrs(connection)
            _migrate(connection, 0, version)
            tables = _tables(connection)
            with _without_indexes(connection):
                for table in tables:
                    connection.execute(f"DELETE FROM {table}")
                _fill(connection, descriptor, tables)
                _drop_what_is_loose(connection, version)
            _refuse_contradictions(connection, version)
            _derive(connection, version)
            _migrate(connection, version, schema.VERSION)
        except sqlite3.IntegrityError as error:
            raise DamagedCopy(f"it contradicts itself ({error})") from error
        except sqlite3.Error as error:
            code = code_of_target(error, target)
            if code is None:
                raise DamagedCopy(str(error)) from error
            raise OSError(code, os.strerror(code), os.fspath(target)) from error


def _migrate(connection: sqlite3.Connection, version: int, until: int) -> None:
    for migration in schema.MIGRATIONS[version:until]:
        connection.executescript(f"BEGIN; {migration} COMMIT;")
    connection.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={until}")


def _tables(connection: sqlite3.Connection) -> dict[str, list[Column]]:
    """What is to be taken over: our own tables, by name, and their columns."""
    names = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
        if name not in DERIVED and name != _SEQUENCE
    ]
    return {
        table: [
            Column(table, name, kind, not is_filled and not key)
            for _, name, kind, is_filled, _, key in connection.execute(f"PRAGMA table_info({table})")
        ]
        for table in names
    }


@contextlib.contextmanager
def _without_indexes(connection: sqlite3.Connection) -> Iterator[None]:
    """Without those, and without triggers, while the context lasts: made once at the end they take a tenth of the time."""
    ours = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
    ).fetchall()
    for kind, name, _ in ours:
        connection.execute(f"DROP {kind} {name}")
    yield
    for _, _, statement in ours:
        connection.execute(statement)


def _fill(connection: sqlite3.Connection, descriptor: int, tables: dict[str, list[Column]]) -> None:
    statements = [
        f"SELECT json_array({', '.join(column.as_json for column in columns)}) FROM {table} NOT INDEXED"
        for table, columns in tables.items()
    ]
    statements.append(f"SELECT json_array(coalesce(max(seq), 0)) FROM {_SEQUENCE} WHERE name = 'disk'")
    columns_of = {table: [(column.name, column.kind) for column in columns] for table, columns in tables.items()}
    question = Question(columns_of | {_SEQUENCE: [("name", ""), ("seq", "")]}, statements, list(tables))
    readers = [rows_of(columns) for columns in tables.values()]
    readers.append(rows_of([Column(_SEQUENCE, "seq", "INTEGER", False)]))
    inserts = [
        f"INSERT INTO {table} ({', '.join(column.name for column in columns)}) VALUES ({', '.join('?' * len(columns))})"
        for table, columns in tables.items()
    ]
    # What was taken out is never given to another disk.
    inserts.append(f"UPDATE {_SEQUENCE} SET seq = max(seq, ?) WHERE name = 'disk'")
    names = [*tables, _SEQUENCE]
    connection.execute("BEGIN")
    connection.execute(f"INSERT INTO {_SEQUENCE} SELECT 'disk', 0 WHERE NOT EXISTS (SELECT 1 FROM {_SEQUENCE})")
    with contextlib.closing(ask(descriptor, question, allowance_for(os.fstat(descriptor).st_size))) as answers:
        for number, content in answers:
            try:
                rows = readers[number](content)
                if names[number] == "fact":
                    rows = taken_facts(rows)
            except ValueError as error:
                raise DamagedCopy(f"in its table '{names[number]}': {error}") from error
            connection.executemany(inserts[number], rows)
    connection.execute("COMMIT")


def _drop_what_is_loose(connection: sqlite3.Connection, version: int) -> None:
    for since, table, column, other in LOOSE:
        if version >= since:
            connection.execute(f"DELETE FROM {table} WHERE {column} NOT IN (SELECT id FROM {other})")


def _derive(connection: sqlite3.Connection, version: int) -> None:
    """What is kept beside other rows, so that it need not be counted each time."""
    if version >= 5:
        connection.execute("DELETE FROM unconfirmed_total")
        connection.execute(
            "INSERT INTO unconfirmed_total SELECT count(*), coalesce(sum(size), 0) "
            "FROM unconfirmed JOIN file ON file.id = unconfirmed.file"
        )
        connection.executescript(tallies.fill())


def _refuse_contradictions(connection: sqlite3.Connection, version: int) -> None:
    loose = connection.execute("PRAGMA foreign_key_check").fetchone()
    if loose is not None:
        raise DamagedCopy(f"its table '{loose[0]}' refers to what is not in '{loose[2]}'")
    disks = {number for (number,) in connection.execute("SELECT id FROM disk")}
    for (members,) in connection.execute("SELECT members FROM holder_set WHERE id IN (SELECT holders FROM object)"):
        if not disks.issuperset(map(int, members.split())):
            raise DamagedCopy("it has copies on a disk that it does not know")
    for since, query, reason in CONTRADICTIONS:
        if version >= since and connection.execute(f"{query} LIMIT 1").fetchone() is not None:
            raise DamagedCopy(reason)
