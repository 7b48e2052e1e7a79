"""A database with its ``-wal``, folded without SQLite: as SQLite itself sees the two, however the log is cut or damaged."""

from __future__ import annotations

import io
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from distbackupd.catalogue.write_ahead import fold


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A database and a log with several transactions in it, one of which makes it smaller."""
    path = tmp_path_factory.mktemp("wal") / "db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=1024")
        connection.execute("PRAGMA auto_vacuum=FULL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, value BLOB)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        for number in range(8):
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO t (value) VALUES (?)", [(bytes([number]) * 500,)] * 20)
            connection.execute("COMMIT")
        connection.execute("DELETE FROM t WHERE id > 30")
        return path.read_bytes(), Path(f"{path}-wal").read_bytes()


def folded(place: Path, database: bytes, log: bytes) -> bytes:
    (place / "db").write_bytes(database)
    (place / "db-wal").write_bytes(log)
    with (place / "db").open("rb") as main, (place / "db-wal").open("rb") as wal, (place / "copy").open("wb") as copy:
        fold(main, wal, copy)
    return (place / "copy").read_bytes()


def rows(place: Path, name: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(place / name)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute("SELECT * FROM t").fetchall()


@pytest.mark.parametrize("seed", range(25))
def test_fold_is_what_sqlite_sees(written: tuple[bytes, bytes], tmp_path: Path, seed: int) -> None:
    database, log = written
    dice = random.Random(seed)
    damaged = bytearray(log)
    if seed % 5 == 1:
        del damaged[dice.randrange(len(log)) :]
    elif seed:
        damaged[dice.randrange(len(log))] ^= 1 << dice.randrange(8)
    copy = folded(tmp_path, database, bytes(damaged))
    # Its pages say that a log belongs to it; there is none beside this one.
    (tmp_path / "copy").write_bytes(copy[:18] + b"\1\1" + copy[20:])
    assert rows(tmp_path, "copy") == rows(tmp_path, "db")
    if not seed:
        assert len(rows(tmp_path, "copy")) == 30


def test_fold_a_log_that_is_none_is_nothing(written: tuple[bytes, bytes], tmp_path: Path) -> None:
    assert folded(tmp_path, written[0], b"") == written[0]
    assert folded(tmp_path, written[0], bytes(5000)) == written[0]
    with (tmp_path / "log").open("w+b") as log:
        log.truncate(1 << 40)
        with pytest.raises(ValueError, match="larger than any"):
            fold(io.BytesIO(b""), log, io.BytesIO())
