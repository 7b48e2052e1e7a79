"""Copies of the catalogue as somebody would make them who wants to hang, fill, crash or deceive whoever reads them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

ENDLESS = "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless)"


def executing(*statements: str) -> Callable[[Path], None]:
    """What does this to a copy."""

    def harm(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    return harm


def in_place_of(table: str, made: str) -> Callable[[Path], None]:
    """What leaves the table's rows where they are, and says something else of them: as a writable schema lets anybody do."""

    def harm(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ? AND type = 'table'", (made, table))

    return harm


def _with_pages_that_go_round(path: Path) -> None:
    """An inner page of the files' tree leads to itself."""
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'file'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    page = bytearray(size)
    # An inner page of a table with one cell, whose left child and whose rightmost child are the page itself.
    page[0] = 5
    page[3:5] = (1).to_bytes(2, "big")
    page[5:7] = (size - 8).to_bytes(2, "big")
    page[8:12] = root.to_bytes(4, "big")
    page[12:14] = (size - 8).to_bytes(2, "big")
    page[size - 8 : size - 4] = root.to_bytes(4, "big")
    page[size - 4] = 1
    with open(path, "r+b") as file:
        file.seek((root - 1) * size)
        file.write(page)


def _fact(value: str) -> Callable[[Path], None]:
    return executing(
        "DROP TABLE fact", "CREATE TABLE fact (key TEXT, value TEXT)", f"INSERT INTO fact VALUES ('generation', {value})"
    )


SEEN_AT_ONCE: dict[str, Callable[[Path], None]] = {
    "an endless view": executing(
        "DROP TABLE fact", f"CREATE VIEW fact AS {ENDLESS} SELECT 'generation' AS key, n AS value FROM endless"
    ),
    "an endless view of sessions": executing(
        "DROP TABLE session", f"CREATE VIEW session AS {ENDLESS} SELECT n AS id, n AS started FROM endless"
    ),
    "a virtual table": executing("DROP TABLE session", "CREATE VIRTUAL TABLE session USING fts4(id, started)"),
    "a computed column": executing(
        "DROP TABLE session",
        "CREATE TABLE session (id INTEGER PRIMARY KEY, started INTEGER AS (abs(-9223372036854775808)) VIRTUAL)",
    ),
    "a table that is said to be virtual": in_place_of("session", "CREATE VIRTUAL TABLE session USING dbstat"),
    "a table that is said to be a view": in_place_of(
        "session", f"CREATE VIEW session AS {ENDLESS} SELECT n AS id, n AS started FROM endless"
    ),
    "a schema that is none": in_place_of("session", "CREATE TABLE session (" + "(" * 50_000),
    "no session table": executing("DROP TABLE session"),
    "a superscript as generation": _fact("'²'"),
    "a generation of 5,000 digits": _fact("'" + "9" * 5000 + "'"),
    "a generation beyond all": _fact("'99999999999999999'"),
    "a negative generation": _fact("'-1'"),
    "a fraction as generation": _fact("1.5"),
    "an endless fraction as generation": _fact("9e999"),
    "bytes as generation": _fact("x'ff00'"),
    "no UTF-8 as generation": _fact("CAST(x'31ff' AS TEXT)"),
    "a generation of 100 MB": _fact("hex(zeroblob(50000000))"),
    "two generations": executing(
        "DROP TABLE fact",
        "CREATE TABLE fact (key TEXT, value TEXT)",
        "INSERT INTO fact VALUES ('generation', '1'), ('generation', '2')",
    ),
    "a session in the year 300,000": executing("UPDATE session SET started = 9223372036854775807"),
}
"""By a glance."""

SEEN_CLOSELY: dict[str, Callable[[Path], None]] = {
    "a disk with escapes in its name": executing("UPDATE disk SET name = char(27) || '[2J' || name"),
    "a disk called like an option": executing("UPDATE disk SET name = '--yes'"),
    "a UUID that is none": executing("UPDATE disk SET uuid = 'A/../B'"),
    "a source above all": executing("UPDATE source SET real_path = CAST('/srv/../etc' AS BLOB)"),
    "a relative source": executing("UPDATE source SET real_path = CAST('etc' AS BLOB)"),
    "a source with NUL": executing("UPDATE source SET real_path = x'2f00'"),
    "settings that are none": executing("INSERT INTO folder_setting VALUES (x'2f', '[1]')"),
    "settings nested deeply": executing("INSERT INTO folder_setting VALUES (x'2f', '" + "[" * 90_000 + "')"),
    "a priority of 5,000 digits": executing(
        "INSERT INTO folder_setting VALUES (x'2f', '{\"priority\": " + "9" * 5000 + "}')"
    ),
    "a pattern that is none": executing("INSERT INTO folder_setting VALUES (x'2f', '{\"rules\": [\"/(\"]}')"),
}
"""When it is asked what it would bring."""

SEEN_AT_THE_END: dict[str, Callable[[Path], None]] = {
    "a disk above its mount": executing("UPDATE disk SET relative_path = CAST('../../etc' AS BLOB)"),
    "a disk at the root": executing("UPDATE disk SET relative_path = CAST('/etc' AS BLOB)"),
    "a disk without blocks": executing("UPDATE disk SET block_size = 0"),
    "a disk kept at a terminal": executing("UPDATE disk SET location = char(27) || ']0;gone' || char(7)"),
    "a folder above the root": executing("INSERT INTO folder (path) VALUES (CAST('/../etc' AS BLOB))"),
    "a relative folder": executing("INSERT INTO folder (path) VALUES (CAST('etc' AS BLOB))"),
    "a folder with a doubled slash": executing("INSERT INTO folder (path) VALUES (CAST('/a//b' AS BLOB))"),
    "a name with a slash": executing(
        "UPDATE file SET name = CAST('../../etc/passwd' AS BLOB) WHERE id = (SELECT max(id) FROM file)"
    ),
    "a name that is the folder above": executing(
        "UPDATE file SET name = CAST('..' AS BLOB) WHERE id = (SELECT max(id) FROM file)"
    ),
    "a name with NUL": executing("UPDATE file SET name = x'6100' WHERE id = (SELECT max(id) FROM file)"),
    "a mode beyond all": executing("UPDATE attributes SET mode = 33261 + 4294967296"),
    "an owner below nobody": executing("UPDATE attributes SET uid = -1"),
    "attributes cut off": executing("UPDATE attributes SET xattrs = x'ffff'"),
    "attributes under the hash of others": executing("UPDATE attributes SET xattrs_hash = zeroblob(32) WHERE id = 1"),
    "an unknown kind": executing("UPDATE file SET kind = 99"),
    "a folder with content": executing("UPDATE file SET kind = 1 WHERE object IS NOT NULL"),
    "a size below nothing": executing("UPDATE file SET size = -1"),
    "sizes that no sum can hold": executing("UPDATE file SET size = 9223372036854775807"),
    "a hash of one byte": executing("UPDATE object SET hash = x'00' WHERE id = 1"),
    "a content that is not there": executing("DELETE FROM object"),
    "holders that are none": executing("UPDATE holder_set SET members = '1 x' WHERE id = 2"),
    "holders that are not known": executing("UPDATE holder_set SET members = '77' WHERE id = 2"),
    "nobody is somebody": executing("UPDATE holder_set SET members = '5' WHERE id = 1"),
    "a brake of another form": executing("INSERT OR REPLACE INTO fact VALUES ('brake', '[1, 2]')"),
    "a brake of 5,000 digits": executing(
        "INSERT OR REPLACE INTO fact VALUES ('brake', '{\"baseline\": " + "9" * 5000 + "}')"
    ),
    "a clock of another form": executing("INSERT OR REPLACE INTO fact VALUES ('clock', '{\"moment\": \"x\"}')"),
    "a scan that ended at no time": executing("INSERT OR REPLACE INTO fact VALUES ('last_scan', '²')"),
    "a version in the year 300,000": executing("UPDATE file SET seen = 9223372036854775807"),
    "a target of 20 MB": executing("UPDATE file SET target = zeroblob(20000000)"),
    "a view in a table's place": executing(
        "CREATE TABLE aside AS SELECT * FROM attributes",
        "DROP TABLE attributes",
        "CREATE VIEW attributes AS SELECT * FROM aside",
    ),
    "a column too few": executing("ALTER TABLE session DROP COLUMN deleted_bytes"),
    "pages that go round": _with_pages_that_go_round,
}
"""When all of it is read."""

HARMLESS: dict[str, Callable[[Path], None]] = {
    "an endless check": executing(
        "ALTER TABLE touched_object ADD COLUMN more INTEGER "
        "CHECK (more IS NULL OR like(hex(zeroblob(9000)), hex(zeroblob(9000))))"
    ),
    "an endless view beside": executing(f"CREATE VIEW beside AS {ENDLESS} SELECT n FROM endless"),
    "triggers": executing(
        "CREATE TRIGGER more AFTER INSERT ON disk BEGIN DELETE FROM file; END",
        "CREATE TRIGGER less AFTER UPDATE ON session BEGIN INSERT INTO source VALUES (x'2f78', x'2f657463'); END",
    ),
    "a virtual table beside": executing("CREATE VIRTUAL TABLE beside USING fts4(a)"),
    "an index on an expression": executing("CREATE INDEX beside ON file(hex(name) || hex(target))"),
    "a table of somebody else": executing("CREATE TABLE beside (a)", "INSERT INTO beside VALUES (zeroblob(5000000))"),
    "more columns": executing("ALTER TABLE source ADD COLUMN more TEXT"),
}
"""What is strange and no harm: nothing of it is taken over, and all the rest is."""
