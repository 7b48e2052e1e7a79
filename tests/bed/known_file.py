"""A source file that is known without having been read, for sessions that are to be busy with one too large to hash.

It needs nothing but Python, so that a container can run its text.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

DIGEST = sha256(b"not its content").digest()


def make_known(catalogue: Path, path: Path, size: int) -> None:
    """Make a file that was scanned so large, and have the catalogue believe that it read ``DIGEST`` there.

    ``catalogue`` is the catalogue's folder; only one file there has the name. The next scan finds nothing to read.
    """
    os.truncate(path, size)
    state = path.stat()
    with closing(sqlite3.connect(catalogue / "distbackup.sqlite", timeout=30)) as connection, connection:
        ((row, former),) = connection.execute(
            "SELECT id, object FROM file WHERE gone = 0 AND name = ?", (os.fsencode(path.name),)
        ).fetchall()
        ((content,),) = connection.execute(
            "INSERT INTO object (hash, size) VALUES (?, ?) RETURNING id", (DIGEST, size)
        ).fetchall()
        connection.execute(
            "UPDATE file SET size = ?, mtime_ns = ?, ctime_ns = ?, object = ? WHERE id = ?",
            (size, state.st_mtime_ns, state.st_ctime_ns, content, row),
        )
        connection.execute("DELETE FROM unconfirmed WHERE file = ?", (row,))
        connection.executemany("INSERT OR IGNORE INTO touched_object (id) VALUES (?)", [(former,), (content,)])
        connection.execute("UPDATE fact SET value = value + 1 WHERE key = 'generation'")
