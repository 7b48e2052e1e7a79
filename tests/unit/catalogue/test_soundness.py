"""Damage of any page: found before a copy takes the place of a sound one, and told in a sentence."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.catalogue import schema, tallies
from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.catalogue.encoding import teach_hash_xattrs
from distbackupd.catalogue.soundness import find_damage_in, is_cut_off
from distbackupd.catalogue.trouble import LAST_GOOD
from distbackupd.model.errors import CatalogueDamaged
from distbackupd.model.sources import Source
from tests.unit.catalogue.making import add_disk, add_files, object_id

NAME = "distbackup.sqlite"
PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small catalogue of many pages, with everything in it."""
    folder = tmp_path_factory.mktemp("whole")
    with open_catalogue(folder) as catalogue:
        catalogue.sources.map(Source(b"/", b"/srv"))
        disks = [add_disk(catalogue, name) for name in ("one", "two")]
        for number in range(12):
            add_files(catalogue, b"/folder %d" % number, *(b"file %d" % file for file in range(25)))
        paths = [b"/folder %d/file %d" % (number, file) for number in range(12) for file in range(25)]
        objects = [object_id(catalogue, path) for path in paths]
        catalogue.objects.record_copies(disks[0].id, objects)
        catalogue.objects.record_copies(disks[1].id, objects[::2])
    return (folder / NAME).read_bytes()


def put(folder: Path, content: bytes) -> Path:
    """A folder with this catalogue."""
    folder.mkdir(exist_ok=True)
    for suffix in ("-wal", "-shm", LAST_GOOD):
        (folder / f"{NAME}{suffix}").unlink(missing_ok=True)
    (folder / NAME).write_bytes(content)
    return folder


def harmed(content: bytes, page: int, mode: str, seed: int) -> bytes:
    """The catalogue with one page that is not what it was."""
    dice = random.Random(seed)
    found = bytearray(content)
    start = page * PAGE
    match mode:
        case "noise":
            found[start : start + PAGE] = dice.randbytes(PAGE)
        case "zeros":
            found[start : start + PAGE] = bytes(PAGE)
        case "another":
            other = dice.randrange(len(content) // PAGE)
            found[start : start + PAGE] = content[other * PAGE : other * PAGE + PAGE]
        case "patches":
            for place in (start + 200, start + 3000):
                found[place : place + 64] = dice.randbytes(64)
        case "bits":
            for _ in range(8):
                found[start + dice.randrange(PAGE)] ^= 1 << dice.randrange(8)
    return bytes(found)


def rows_of(path: Path) -> list[list[tuple[object, ...]]] | None:
    """All that the catalogue's tables hold; None: it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as plain:
            tables = [row[0] for row in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
            return [sorted(plain.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in tables]
    except (sqlite3.Error, UnicodeDecodeError):
        return None


@pytest.mark.parametrize("mode", ["noise", "zeros", "another", "patches", "bits"])
def test_checked_copy_of_a_harmed_catalogue_is_refused_or_holds_what_was_written(
    tmp_path: Path, whole: bytes, mode: str
) -> None:
    """Every page in turn. What passes holds, row for row, what the sound one held: the harm fell into unused room."""
    folder = put(tmp_path / "sound", whole)
    before = rows_of(folder / NAME)
    assert before is not None
    refused = 0
    for page in range(1, len(whole) // PAGE):
        folder = put(tmp_path / "harmed", harmed(whole, page, mode, page))
        copy = folder / "copy"
        copy.unlink(missing_ok=True)
        try:
            with open_catalogue(folder) as catalogue, catalogue.checked_copy() as checked:
                checked.write(bytes(copy))
                checked.assure()
        except CatalogueDamaged:
            refused += 1
        else:
            assert rows_of(copy) == before, page
    assert refused > 9


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        ("UPDATE object SET holders = 1 WHERE id = 7", "'object' does not hold what was written"),
        ("UPDATE file SET mtime_ns = mtime_ns + 4294967296 WHERE id = 3", "'file' does not hold what was written"),
        ("DELETE FROM file WHERE id = 3", "'file' has 299 rows, and 300 were written"),
        ("UPDATE holder_set SET members = '1 2 3' WHERE members = '1 2'", "'holder_set' does not hold"),
        ("DROP TABLE problem", "its table 'problem' is gone"),
        ("DROP INDEX file_current", "its index 'file_current' is gone"),
        ("DELETE FROM fact WHERE key = 'generation'", "generation"),
        ("UPDATE session SET started = -5", "'session' holds what cannot be so"),
        ("UPDATE fact SET value = 'x' WHERE key = 'generation'", "cannot be so|no number|is none"),
        ("UPDATE source SET real_path = x'6161'", "in its table 'source'"),
        ("INSERT INTO folder_setting VALUES (x'2f', '7')", "in its table 'folder_setting'"),
    ],
)
def test_find_damage_of_rows_that_no_page_betrays(tmp_path: Path, whole: bytes, harm: str, sentence: str) -> None:
    folder = put(tmp_path / "harmed", whole)
    with closing(sqlite3.connect(folder / NAME)) as plain:
        if harm.startswith("UPDATE session"):
            plain.execute("INSERT INTO session (disk_name, started) VALUES ('one', 5)")
        for (trigger,) in plain.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            plain.execute(f"DROP TRIGGER {trigger}")
        plain.execute(harm)
        for migration in (tallies.MAKE, schema.LOOKED_AT):
            for statement in migration.split("CREATE TRIGGER")[1:]:
                plain.execute("CREATE TRIGGER" + statement.partition("END;")[0] + "END")
        plain.commit()
    with pytest.raises(CatalogueDamaged, match=sentence), open_catalogue(folder) as catalogue:
        catalogue.must_be_sound()


def test_find_damage_of_a_sound_one_is_none(tmp_path: Path, whole: bytes) -> None:
    folder = put(tmp_path / "sound", whole)
    assert find_damage_in(folder / NAME) is None
    assert not is_cut_off(folder / NAME)
    with open_catalogue(folder) as catalogue:
        catalogue.must_be_sound()
        with catalogue.checked_copy() as checked:
            checked.write(bytes(folder / "copy"))
            checked.assure()


def test_open_what_is_cut_off_says_so_at_once(tmp_path: Path, whole: bytes) -> None:
    folder = put(tmp_path / "short", whole[: -3 * PAGE])
    for read_only in (True, False):
        with pytest.raises(CatalogueDamaged, match="its end is missing"), open_catalogue(folder, read_only):
            pass


def test_open_disks_that_are_not_what_was_written_are_seen_at_once(tmp_path: Path, whole: bytes) -> None:
    folder = put(tmp_path / "harmed", whole)
    with closing(sqlite3.connect(folder / NAME)) as plain:
        plain.execute("DROP TRIGGER disk_other")
        plain.execute("UPDATE disk SET catalogue_generation = 77")
        plain.commit()
    with pytest.raises(CatalogueDamaged, match="'disk' does not hold what was written"), open_catalogue(folder, True):
        pass


def test_explained_error_that_nobody_expects_is_told_as_damage_where_there_is_some(tmp_path: Path, whole: bytes) -> None:
    folder = put(tmp_path / "harmed", whole)
    with pytest.raises(KeyError), open_catalogue(folder) as catalogue, catalogue.explained():
        raise KeyError(5)
    with closing(sqlite3.connect(folder / NAME)) as plain:
        plain.execute("DELETE FROM fact WHERE key = 'generation'")
        plain.commit()
    with pytest.raises(CatalogueDamaged, match="generation"), open_catalogue(folder) as catalogue:
        catalogue.generation()


# --- the copy beside ---


def test_checked_copy_stays_beside_as_the_last_good_one_once_a_day(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(tmp_path / "sound", whole)
    good = folder / f"{NAME}{LAST_GOOD}"

    def copied() -> None:
        with open_catalogue(folder) as catalogue, catalogue.checked_copy() as checked:
            spare = Path(os.fsdecode(catalogue.spare_place()))
            checked.write(bytes(spare))
            checked.assure()
            spare.unlink()

    monkeypatch.setattr("distbackupd.catalogue.checked_copy._SMALL", 0)
    copied()
    assert rows_of(good) == rows_of(folder / NAME)
    first = good.stat()
    copied()
    assert good.stat().st_ino == first.st_ino
    os.utime(good, (time.time() - 90_000,) * 2)
    copied()
    assert good.stat().st_ino != first.st_ino
    assert sorted(path.name for path in folder.iterdir() if LAST_GOOD in path.name) == [good.name]


def test_checked_copy_where_room_is_scarce_is_not_kept(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(tmp_path / "sound", whole)
    (folder / f"{NAME}{LAST_GOOD}").write_bytes(b"former")
    os.utime(folder / f"{NAME}{LAST_GOOD}", (5, 5))
    monkeypatch.setattr("distbackupd.catalogue.checked_copy._SPARED", 1 << 50)
    with open_catalogue(folder) as catalogue, catalogue.checked_copy() as checked:
        checked.write(catalogue.spare_place())
        checked.assure()
    assert not (folder / f"{NAME}{LAST_GOOD}").exists()


def test_keep_before_keeps_what_is_known_and_nothing_of_nothing(tmp_path: Path, whole: bytes) -> None:
    folder = put(tmp_path / "sound", whole)
    for _ in range(2):
        with open_catalogue(folder) as catalogue:
            kept = Path(os.fsdecode(catalogue.keep_before("import")))
        assert kept == folder / f"{NAME}.before-import"
        assert rows_of(kept) == rows_of(folder / NAME)
    assert not (folder / f"{NAME}.before-import.new").exists()
    with open_catalogue(tmp_path / "new") as catalogue:
        assert catalogue.keep_before("import") == b""


# --- sums ---


@pytest.fixture(scope="module")
def tallied() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        teach_hash_xattrs(connection)
        for migration in schema.MIGRATIONS:
            connection.executescript(migration)
        yield connection


NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1)


@given(
    st.lists(st.tuples(st.sampled_from(["insert", "update", "delete"]), st.integers(1, 9), NUMBERS, NUMBERS), max_size=12)
)
def test_tally_is_the_sum_of_the_rows_whatever_is_written(
    tallied: sqlite3.Connection, steps: list[tuple[str, int, int, int]]
) -> None:
    tallied.execute("BEGIN")
    for what, row, one, two in steps:
        match what:
            case "insert":
                tallied.execute(
                    "INSERT OR IGNORE INTO object (id, hash, size) VALUES (?, ?, ?)", (row, bytes([row]) * 32, one)
                )
            case "update":
                tallied.execute("UPDATE object SET size = ?, orphaned_at = ? WHERE id = ?", (one, two, row))
            case "delete":
                tallied.execute("DELETE FROM object WHERE id = ?", (row,))
    kept = tallied.execute("SELECT rows, total FROM tally WHERE name = 'object'").fetchone()
    assert kept == tallied.execute(tallies.counted("object")).fetchone()
    tallied.execute("ROLLBACK")


@given(NUMBERS, NUMBERS)
def test_tally_two_sizes_never_give_one_sum(tallied: sqlite3.Connection, one: int, two: int) -> None:
    """Unless halves of them changed so that they make up for each other, which one in four thousand million does."""
    values = []
    for size in (one, two):
        tallied.execute("BEGIN")
        tallied.execute("INSERT INTO object (id, hash, size) VALUES (1, x'00', ?)", (size,))
        values.append(tallied.execute(tallies.counted("object")).fetchone())
        tallied.execute("ROLLBACK")
    assert (values[0] == values[1]) == (one == two) or (one ^ two) >> 32
