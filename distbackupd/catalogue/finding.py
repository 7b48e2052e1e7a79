"""Names, wherever they lie: each look-up goes once through an index of all names, for none is kept by name alone."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.places import below, join
from distbackupd.catalogue.trouble import speaking
from distbackupd.engine.ports.finding import PlacedName

_LONGEST = 3.0
"""Seconds after which names that differ by a letter are looked for no longer."""
_SHORTEST = 3
"""Bytes of a name that may be meant with a letter wrong; of a shorter one nothing would be left."""
_LOWER = "lower(CAST(name AS TEXT))"


@speaking
class FindingTable:
    """See :class:`distbackupd.engine.ports.finding.FindingTable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def names_below(self, path: bytes) -> Iterator[PlacedName]:
        """Every current entry in and below the virtual folder, a folder before those in it."""
        condition, parameters = below("path", path)
        rows = self._database.execute(
            "SELECT path, name, kind, size FROM folder CROSS JOIN file ON file.folder = folder.id "
            f"WHERE gone = 0 AND {condition} ORDER BY path",
            parameters,
        )
        return map(PlacedName._make, rows)

    def nearest(self, name: bytes, ever: bool, limit: int) -> Sequence[bytes]:
        """Virtual paths of entries that are called so, or nearly so. See the port."""
        text = name.decode("utf-8", "replace")
        if not text:
            return []
        for condition, value in (
            ("name = ?", name),
            (f"{_LOWER} = lower(?)", text),
            (f"instr({_LOWER}, lower(?)) > 0", text),
        ):
            found = self._paths(self._named(condition, [value], ever), limit)
            if found:
                return found
        if len(name) < _SHORTEST:
            return []
        nearly = _one_letter_off(name)
        until = time.monotonic() + _LONGEST
        rows = self._named("length(name) BETWEEN ? AND ?", [len(name) - 1, len(name) + 1], ever)
        in_time = itertools.takewhile(lambda _row: time.monotonic() < until, rows)
        return self._paths((row for row in in_time if nearly.fullmatch(row[1])), limit)

    def any_called(self, pattern: bytes, ever: bool) -> bool:
        """Whether the name of an entry matches the shell pattern. ``ever``: also of what is gone."""
        glob = pattern.decode("utf-8", "replace").replace("[!", "[^")
        return next(self._named("CAST(name AS TEXT) GLOB ?", [glob], ever), None) is not None

    def _named(self, condition: str, values: list[Any], ever: bool) -> Iterator[tuple[int, bytes]]:
        """(folder, name) of entries, by indexes that hold nothing else."""
        indexes = [("file_current", "gone = 0"), *([("file_past", "gone <> 0")] if ever else [])]
        query = " UNION ALL ".join(
            f"SELECT folder, name FROM file INDEXED BY {index} WHERE {moment} AND name <> x'' AND {condition}"
            for index, moment in indexes
        )
        return iter(self._database.execute(query, values * len(indexes)))

    def _paths(self, rows: Iterator[tuple[int, bytes]], limit: int) -> list[bytes]:
        found: dict[bytes, None] = {}
        for folder, name in rows:
            (path,) = self._database.execute("SELECT path FROM folder WHERE id = ?", (folder,)).fetchone()
            found[join(path, name)] = None
            if len(found) == limit:
                break
        return sorted(found)


def _one_letter_off(name: bytes) -> re.Pattern[bytes]:
    """Matches what one letter more, less, other or in its neighbour's place makes of the name."""
    variants = []
    for at in range(len(name) + 1):
        before, after = re.escape(name[:at]), name[at:]
        variants.append(before + b"." + re.escape(after))
        if after:
            variants.append(before + b".?" + re.escape(after[1:]))
        if len(after) > 1:
            variants.append(before + re.escape(after[1::-1] + after[2:]))
    return re.compile(b"|".join(variants), re.DOTALL | re.IGNORECASE)
