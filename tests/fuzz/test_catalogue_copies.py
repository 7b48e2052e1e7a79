"""Genuine copies of the catalogue, changed in every way: refused in a sentence or taken, and what is taken is sound."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.catalogue import copies, schema
from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.catalogue.copies import CatalogueCopies
from distbackupd.engine import brake_memory
from distbackupd.engine.bench import Bench
from distbackupd.engine.timekeeping import SteadyClock, glance_at_clock
from distbackupd.model.errors import CatalogueTrouble
from distbackupd.model.sources import canonical_virtual_path
from tests.bed.hostile_copies import ENDLESS, HARMLESS, SEEN_AT_ONCE, SEEN_AT_THE_END, SEEN_CLOSELY
from tests.bed.old_catalogues import write_as_version
from tests.fakes.clock import FakeClock
from tests.fuzzing import fuzzed
from tests.unit.catalogue.making import catalogue_of_everything

SECONDS = 60
MEMORY_KIB = 400_000
TABLES = (
    *(
        "source",
        "folder_setting",
        "folder",
        "attributes",
        "holder_set",
        "object",
        "file",
        "touched_object",
        "disk",
        "removal",
    ),
    *("verified_folder", "session", "fact", "holding_total", "rotten_file", "unconfirmed", "unconfirmed_total", "problem"),
    *("account", "listed_folder"),
)
KNOWN_HARMS = {**SEEN_AT_ONCE, **SEEN_CLOSELY, **SEEN_AT_THE_END, **HARMLESS}


class Originals(NamedTuple):
    """Genuine copies, one for each version of the schema, and a catalogue in whose place they are put."""

    copies: list[Path]
    live: Path


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    place = tmp_path_factory.mktemp("genuine")
    catalogue_of_everything(place / "copy")
    former = []
    for version in range(1, schema.VERSION):
        former.append(place / f"version-{version}")
        write_as_version(place / "copy", former[-1], version)
    return Originals([place / "copy", *former], place / "live")


# --- what is done to them ---

values = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-2, 300),
    st.floats(),
    st.text(max_size=50),
    st.binary(max_size=50),
    st.sampled_from(["..", "/../etc", "²", "\x1b[2J", "9" * 5000, "1 2 x", '{"a": ', "[" * 2000, "a" * 70_000]),
    st.sampled_from([b"..", b"/../etc", b"/", b"a/b", b"a\0", b"\xff", b"x" * 70_000]),
)
statements = st.sampled_from(
    [
        "CREATE TABLE {0} (id INTEGER PRIMARY KEY)",
        f"CREATE VIEW {{0}} AS {ENDLESS} SELECT n AS id, n AS key, n AS value FROM endless",
        "CREATE VIRTUAL TABLE {0} USING fts4(id)",
        "CREATE VIRTUAL TABLE {0} USING dbstat(main)",
        "CREATE TRIGGER {0} AFTER INSERT ON file BEGIN SELECT 1; END",
        "CREATE INDEX {0} ON file(hex(name))",
        "",
        "CREATE TABLE {0} (" + "(" * 9000,
        "CREATE TABLE {0} (id INTEGER AS (1), key, value) WITHOUT ROWID",
        "CREATE TABLE {0} (a REFERENCES {0} ON DELETE CASCADE CHECK ((SELECT 1)))",
    ]
)
changes = st.one_of(
    st.tuples(st.just("flip"), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), min_size=1, max_size=20)),
    st.tuples(st.just("write"), st.floats(0, 1), st.binary(min_size=1, max_size=200)),
    st.tuples(st.just("cut"), st.floats(0, 1)),
    st.tuples(st.just("move page"), st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.just("header"), st.integers(0, 99), st.integers(0, 255)),
    st.tuples(st.just("value"), st.sampled_from(TABLES), st.integers(0, 30), values, st.booleans()),
    st.tuples(st.just("schema"), st.sampled_from(TABLES), statements),
    st.tuples(st.just("root"), st.sampled_from(TABLES), st.integers(-1, 60)),
    st.tuples(st.just("pragma"), st.sampled_from(["user_version", "application_id", "encoding"]), st.integers(-5, 9)),
    st.tuples(st.just("harm"), st.sampled_from(sorted(KNOWN_HARMS))),
)


def change(path: Path, kind: str, *how: object) -> None:
    """Do it, as far as that can be done to what is left of the copy."""
    with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeError):
        if kind in ("flip", "write", "cut", "move page", "header"):
            _change_bytes(path, kind, *how)
        elif kind == "harm":
            if path.stat().st_size < 1 << 20:
                KNOWN_HARMS[str(how[0])](path)
        else:
            _change_rows(path, kind, *how)


def _change_bytes(path: Path, kind: str, *how: object) -> None:
    content = bytearray(path.read_bytes())
    if not content:
        return

    def place(share: object) -> int:
        assert isinstance(share, float)
        return min(int(share * len(content)), len(content) - 1)

    if kind == "flip":
        assert isinstance(how[0], list)
        for share, bit in how[0]:
            content[place(share)] ^= 1 << bit
    elif kind == "write":
        assert isinstance(how[1], bytes)
        content[place(how[0]) : place(how[0]) + len(how[1])] = how[1]
    elif kind == "cut":
        del content[place(how[0]) :]
    elif kind == "header":
        assert isinstance(how[0], int)
        assert isinstance(how[1], int)
        content[min(how[0], len(content) - 1)] = how[1]
    else:
        source, target = place(how[0]) // 4096 * 4096, place(how[1]) // 4096 * 4096
        content[target : target + 4096] = content[source : source + 4096]
    path.write_bytes(content)


def _change_rows(path: Path, kind: str, *how: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        if kind == "schema":
            connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (str(how[1]).format(how[0]), how[0]))
        elif kind == "root":
            connection.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (how[1], how[0]))
        elif kind == "pragma":
            connection.execute(f"PRAGMA {how[0]} = {how[1]}")
        else:
            # A strict table would take no other types.
            connection.execute("UPDATE sqlite_master SET sql = replace(replace(sql, ') STRICT, ', ') '), ') STRICT', ')')")
    if kind != "value":
        return
    table, number, value, everywhere = how
    assert isinstance(number, int)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        if names:
            one = f" WHERE rowid = (SELECT max(rowid) FROM {table})" if not everywhere else ""
            connection.execute(f"UPDATE OR IGNORE {table} SET {names[number % len(names)]} = ?{one}", (value,))


# --- what must be true of them ---


@given(st.integers(0, schema.VERSION - 1), st.lists(changes, min_size=1, max_size=4))
@fuzzed(25)
def test_any_copy_is_refused_in_a_sentence_or_what_is_taken_is_sound(
    originals: Originals, which: int, done: list[tuple[str, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copy = Path(shutil.copy(originals.copies[which], place / "copy"))
        for item in done:
            change(copy, *item)
        (place / "live").mkdir()
        (place / "live" / "distbackup.sqlite").write_bytes(b"former")
        began = time.monotonic()
        refusal = ""
        try:
            with copy.open("rb") as file:
                found = copies.look_at(file.fileno(), bytes(copy))
                found = copies.look_at(file.fileno(), bytes(copy), closely=True)
                CatalogueCopies(place / "live").take(file.fileno(), found)
        except CatalogueTrouble as trouble:
            refusal = str(trouble)
        if refusal:
            assert refusal.isprintable()
            assert len(refusal) < 1000
            assert sorted(os.listdir(place / "live")) == ["distbackup.sqlite"]
            assert (place / "live" / "distbackup.sqlite").read_bytes() == b"former"
        else:
            assert sorted(os.listdir(place / "live")) == ["distbackup.sqlite", "distbackup.sqlite.kept-1"]
            must_be_sound(place / "live", originals.copies[0])
        assert time.monotonic() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MEMORY_KIB


def must_be_sound(folder: Path, genuine: Path) -> None:
    """It has our schema, and all who read it can."""
    with closing(sqlite3.connect(folder / "distbackup.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        made = "SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name"
        with closing(sqlite3.connect(genuine)) as other:
            assert connection.execute(made).fetchall() == other.execute(made).fetchall()
        for path, name in connection.execute("SELECT path, name FROM file JOIN folder ON folder.id = folder"):
            assert canonical_virtual_path(path) == path
            assert b"/" not in name
            assert b"\0" not in name
            assert name not in (b".", b"..")
        assert connection.execute("SELECT max(mode) <= 4095 FROM attributes").fetchone()[0] in (1, None)
    with open_catalogue(folder) as catalogue:
        catalogue.raise_generation(catalogue.generation())
        ids = set()
        for disk in catalogue.disks.all():
            ids.add(disk.id)
            assert disk.name.isprintable()
            assert not disk.relative_path.startswith(b"/")
            assert b".." not in disk.relative_path.split(b"/")
            assert disk.footprint(100) is not None
            catalogue.disks.used(disk.id)
            catalogue.disks.left(disk.id)
        for source in catalogue.sources.all():
            assert source.real_path.startswith(b"/")
            assert b".." not in source.real_path.split(b"/")
        catalogue.sources.settings()
        for entry in catalogue.files.restore_entries(b"/"):
            assert entry.holders <= ids
        for summary in catalogue.sessions.recent(100):
            assert (summary.disk_name + summary.sentence).isprintable()
            time.localtime(summary.started)
        catalogue.moments.newest()
        assert all(problem.reason.isprintable() for problem in catalogue.problems.listing(b"/"))
        catalogue.problems.unread()
        catalogue.accounts.names()
        list(catalogue.history.versions(b"/"))
        list(catalogue.history.changes(0, 1000))
        bench = cast("Bench", SimpleNamespace(catalogue=catalogue, clock=SteadyClock(FakeClock())))
        brake_memory.recall(bench)
        glance_at_clock(bench)
