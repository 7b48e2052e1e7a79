"""Reads a database that strangers may have written, and writes rows of it to standard output. It runs by itself.

It imports nothing of ours, so that it starts within some hundredths of a second and has nothing to lose: before the first
page is understood it gives up its user, its privileges, and every file that it could still open. What it is asked comes on
standard input, marshalled by :mod:`distbackupd.catalogue.confined`, which believes nothing that comes back:

    {"seconds": ..., "cpu": ..., "memory": ..., "longest": ..., "warm": ..., "whole": [TABLE ...],
     "tables": {TABLE: [(COLUMN, TYPE) ...]}, "statements": [(SQL, MOST_ROWS) ...]}

Each statement gives one column of JSON arrays. Frames come back: the statement's number and a length (both 32 bits, big
endian), then a JSON array of rows. The last one has the number ENDED, or one of those below and a sentence.
"""

from __future__ import annotations

import _sqlite3  # its wrapper in the standard library takes twice the time to load
import ctypes
import marshal
import os
import resource
import struct
import sys
import time

ENDED, DAMAGED, STRANGE, TOO_MUCH = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC
FRAME = struct.Struct(">II")
SENTENCE_BYTES = 300
_FRAME_BYTES = 1 << 18
_OPERATIONS = 50_000
"""The clock is looked at whenever SQLite took so many steps."""
_NOBODY = 65534
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 4, 38, 47, 4
_CAPABILITY_VERSION = 0x20080522
_SQLITE_LIMITS = {1: 200_000, 2: 200, 3: 100, 4: 10, 5: 100_000, 6: 40, 7: 0, 8: 1000, 9: 100, 10: 1, 11: 0}
"""By SQLite's numbers: length of SQL, columns, depth of expressions, terms, operations, arguments, attached databases,
length of patterns, variables, depth of triggers, worker threads."""
_SETTINGS = {
    1010: True,
    1017: False,
    1009: False,
    1004: False,
    1014: False,
    1013: False,
    1015: False,
    1003: False,
    1005: False,
}
"""Where Python can set them (3.12): defensive; no trust in the schema, and nothing of what is not needed."""
_PRAGMAS = ("trusted_schema=0", "cell_size_check=1", "query_only=1", "temp_store=2", "mmap_size=0", "cache_size=-32768")


class _Strange(Exception):
    """It is whole, but not what it should be."""


def _main() -> None:
    descriptor = int(sys.argv[1])
    # It comes from whoever started this, not from the file.
    wanted = marshal.loads(sys.stdin.buffer.read())  # noqa: S302
    try:
        if wanted["warm"]:
            _warm(descriptor)
        connection = _opened(descriptor, wanted["longest"])
        _lock_up(wanted)
        _answer(connection, wanted)
        _send(ENDED, b"")
    except _Strange as error:
        _complain(STRANGE, error)
    except _sqlite3.OperationalError as error:
        _complain(TOO_MUCH if str(error) == "interrupted" else DAMAGED, error)
    except MemoryError as error:
        _complain(TOO_MUCH, error)
    except (_sqlite3.Error, UnicodeError, OSError, ValueError, OverflowError) as error:
        _complain(DAMAGED, error)
    sys.stdout.buffer.flush()
    os._exit(0)


def _send(number: int, content: bytes) -> None:
    sys.stdout.buffer.write(FRAME.pack(number, len(content)))
    sys.stdout.buffer.write(content)


def _complain(kind: int, error: BaseException) -> None:
    _send(kind, str(error).encode("utf-8", "replace")[:SENTENCE_BYTES])


def _warm(descriptor: int) -> None:
    """All of the file in one sweep, so that a slow disk need not jump about; what cannot be read is found out here."""
    position = 0
    while read := len(os.pread(descriptor, 1 << 20, position)):
        position += read


def _opened(descriptor: int, longest: int) -> _sqlite3.Connection:
    """A connection to the very file of the descriptor, though SQLite only takes names. It has read but the header."""
    before = set(os.listdir("/proc/self/fd"))
    connection = _sqlite3.connect(
        f"file:/proc/self/fd/{descriptor}?mode=ro&immutable=1", uri=True, isolation_level=None, cached_statements=8
    )
    expected = os.fstat(descriptor)
    for name in set(os.listdir("/proc/self/fd")) - before:
        try:
            found = os.fstat(int(name))
        except OSError:
            continue  # with it the folder was listed
        if (found.st_dev, found.st_ino) != (expected.st_dev, expected.st_ino):
            raise _Strange("another file came into its place meanwhile")
    connection.text_factory = bytes
    for number, limit in _SQLITE_LIMITS.items():
        connection.setlimit(number, limit)
    connection.setlimit(0, longest)
    if sys.version_info >= (3, 12):
        for number, value in _SETTINGS.items():
            connection.setconfig(number, value)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()
    return connection


def _lock_up(wanted: dict[str, int]) -> None:
    """From here on nothing but memory, this file and the way back. What the machine or a sandbox refuses is done without."""
    for number, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, wanted["memory"]),
        (resource.RLIMIT_CPU, wanted["cpu"]),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        try:
            resource.setrlimit(number, (limit, limit))
        except (OSError, ValueError):
            continue
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if os.geteuid() == 0:
        # As plain system calls: Python's own raise where a sandbox refuses them.
        libc.setgroups(0, None)
        libc.setresgid(_NOBODY, _NOBODY, _NOBODY)
        libc.setresuid(_NOBODY, _NOBODY, _NOBODY)
    header, nothing = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    libc.capset(ctypes.byref(header), ctypes.byref(nothing))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _answer(connection: _sqlite3.Connection, wanted: dict[str, object]) -> None:
    seconds, tables, whole, statements = (wanted[name] for name in ("seconds", "tables", "whole", "statements"))
    assert isinstance(seconds, int)
    assert isinstance(tables, dict)
    assert isinstance(whole, list)
    assert isinstance(statements, list)
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, _OPERATIONS)
    for table, columns in tables.items():
        _check_table(connection, table, columns)
    for table in whole:
        for (found,) in connection.execute(f"PRAGMA integrity_check({table})"):
            if found != b"ok":
                raise _sqlite3.DatabaseError(found.decode("utf-8", "replace"))
    for number, (statement, most) in enumerate(statements):
        _give(connection.execute(statement), number, most)


def _check_table(connection: _sqlite3.Connection, table: str, columns: list[tuple[str, str]]) -> None:
    """What has the table's name must be a table, with these columns in it as they were declared, none of them computed."""
    found = connection.execute(
        "SELECT type, rootpage, CAST(substr(sql, 1, 80) AS BLOB) FROM sqlite_master WHERE lower(name) = ?", (table,)
    ).fetchall()
    if not found:
        raise _Strange(f"it has no table '{table}'")
    kind, page, made = found[0]
    start = f"CREATE TABLE {table}".encode()
    if len(found) > 1 or kind != b"table" or not isinstance(page, int) or page < 1 or not (made or b"").startswith(start):
        raise _Strange(f"its '{table}' is no table")
    there = {row[1]: (row[2], row[6]) for row in connection.execute(f"PRAGMA table_xinfo({table})")}
    for column, declared in columns:
        if there.get(column.encode()) != (declared.encode(), 0):
            raise _Strange(f"its table '{table}' has no column '{column}' that holds what it should")


def _give(rows: _sqlite3.Cursor, number: int, most: int) -> None:
    size, batch = 0, []
    for count, (row,) in enumerate(rows, 1):
        if count > most:
            raise _Strange("it has more rows than its size allows")
        batch.append(row)
        size += len(row) + 1
        if size >= _FRAME_BYTES:
            _send(number, b"[" + b",".join(batch) + b"]")
            size, batch = 0, []
    if batch:
        _send(number, b"[" + b",".join(batch) + b"]")


if __name__ == "__main__":
    _main()
