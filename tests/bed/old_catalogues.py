"""Catalogues as former versions of the program wrote them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from distbackupd.catalogue import schema
from distbackupd.catalogue.encoding import teach_hash_xattrs


def write_as_version(catalogue: Path, target: Path, version: int) -> None:
    """Write to ``target`` what a program of that version would have known of this catalogue, as its copy on a disk."""
    with closing(sqlite3.connect(target, isolation_level=None)) as old:
        teach_hash_xattrs(old)
        for migration in schema.MIGRATIONS[:version]:
            old.executescript(migration)
        old.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
        old.execute(f"PRAGMA user_version={version}")
        old.execute("ATTACH ? AS new", [str(catalogue)])
        for (table,) in old.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"INSERT OR REPLACE INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
