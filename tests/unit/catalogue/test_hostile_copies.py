"""Copies that want to hang, fill, crash or deceive whoever reads them: one sentence, soon, and nothing is changed."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from distbackupd.catalogue import copies, schema
from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.catalogue.copies import CatalogueCopies
from distbackupd.model.copies import CatalogueCopy
from distbackupd.model.errors import CatalogueTrouble
from tests.bed.hostile_copies import HARMLESS, SEEN_AT_ONCE, SEEN_AT_THE_END, SEEN_CLOSELY
from tests.bed.old_catalogues import write_as_version
from tests.unit.catalogue.making import catalogue_of_everything

SECONDS = 60
"""So long a glance at a small file may take at the most, on a machine that does other things too."""


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a catalogue that knows something of everything."""
    place = tmp_path_factory.mktemp("genuine")
    catalogue_of_everything(place / "copy")
    return place / "copy"


@pytest.fixture
def copy(genuine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(genuine, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """It takes neither long nor much memory, and leaves no process behind."""
    began, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = _children()
    yield
    assert time.monotonic() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 300_000
    assert _children() <= before


def look_at(path: Path, closely: bool = False) -> CatalogueCopy:
    with path.open("rb") as file:
        return copies.look_at(file.fileno(), bytes(path), closely)


def take(path: Path, folder: Path) -> None:
    with path.open("rb") as file:
        CatalogueCopies(folder).take(file.fileno(), look_at(path, closely=True))


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of our own tables, but for what becomes hearsay."""
    with closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: sorted(set(connection.execute(f"SELECT * FROM {name}")), key=repr) for name in names}
    columns = {"disk", "session", "holding_total"}
    return {name: found for name, found in rows.items() if name not in columns}


@pytest.mark.parametrize("harm", SEEN_AT_ONCE)
def test_look_at_what_is_hostile_is_refused_soon(copy: Path, harm: str) -> None:
    SEEN_AT_ONCE[harm](copy)
    with pytest.raises(CatalogueTrouble) as refused:
        look_at(copy)
    sentence = str(refused.value)
    assert sentence.startswith(f"{copy} is damaged (")
    assert sentence.isprintable()
    assert len(sentence) < 700


@pytest.mark.parametrize("harm", SEEN_CLOSELY)
def test_look_at_closely_what_is_hostile_is_refused_soon(copy: Path, harm: str) -> None:
    SEEN_CLOSELY[harm](copy)
    look_at(copy)
    with pytest.raises(CatalogueTrouble) as refused:
        look_at(copy, closely=True)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("harm", SEEN_AT_THE_END)
def test_take_what_is_hostile_is_refused_and_what_was_there_stays(copy: Path, tmp_path: Path, harm: str) -> None:
    SEEN_AT_THE_END[harm](copy)
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "distbackup.sqlite").write_bytes(b"former")
    with pytest.raises(CatalogueTrouble) as refused:
        take(copy, tmp_path / "place")
    assert str(refused.value).isprintable()
    assert {path.name: path.read_bytes() for path in (tmp_path / "place").iterdir()} == {"distbackup.sqlite": b"former"}


@pytest.mark.parametrize("harm", HARMLESS)
def test_take_nothing_of_what_is_strange_is_taken_over(genuine: Path, copy: Path, tmp_path: Path, harm: str) -> None:
    HARMLESS[harm](copy)
    take(copy, tmp_path / "place")
    taken = tmp_path / "place" / "distbackup.sqlite"
    assert content(taken) == content(genuine)
    assert _schema(taken) == _schema(genuine)


@pytest.mark.parametrize("version", range(1, schema.VERSION + 1))
def test_take_is_the_same_as_migrating(genuine: Path, tmp_path: Path, version: int) -> None:
    old = tmp_path / "old"
    write_as_version(genuine, old, version)
    take(old, tmp_path / "place")
    (tmp_path / "migrated").mkdir()
    shutil.copy(old, tmp_path / "migrated" / "distbackup.sqlite")
    with open_catalogue(tmp_path / "migrated"):
        pass
    assert content(tmp_path / "place" / "distbackup.sqlite") == content(tmp_path / "migrated" / "distbackup.sqlite")
    assert _schema(tmp_path / "place" / "distbackup.sqlite") == _schema(genuine)


def test_take_what_was_shown_and_nothing_else(copy: Path, tmp_path: Path) -> None:
    """Whoever agreed did so to these sources."""
    shown = look_at(copy, closely=True)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE source SET real_path = CAST('/etc' AS BLOB)")
    with copy.open("rb") as file, pytest.raises(CatalogueTrouble, match="another one now than when it was looked at"):
        CatalogueCopies(tmp_path / "place").take(file.fileno(), shown)


def test_look_at_sees_the_file_that_is_open_and_not_what_took_its_name(copy: Path, tmp_path: Path) -> None:
    with copy.open("rb") as file:
        other = tmp_path / "other"
        shutil.copy(copy, other)
        SEEN_AT_ONCE["two generations"](other)
        other.rename(copy)
        with pytest.raises(CatalogueTrouble, match=r"another file came into its place|unable to open"):
            copies.look_at(file.fileno(), bytes(copy))


def test_look_at_the_reader_has_neither_privileges_nor_files(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from outside, while it is at work."""
    seen: list[dict[str, str]] = []
    started: Callable[..., object] = copies.ask
    before = _children()

    def watching(descriptor: int, question: object, allowance: object) -> Iterator[object]:
        for answer in started(descriptor, question, allowance):  # type: ignore[attr-defined]
            for child in _children() - before:
                lines = Path(f"/proc/{child}/status").read_text().splitlines()
                limits = Path(f"/proc/{child}/limits").read_text()
                fields = {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines}
                seen.append({**fields, "limits": limits})
            yield answer

    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        # More than a pipe holds, so that the reader still waits when it is looked at.
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) "
            "INSERT INTO session (id, disk_name, started) SELECT i, 'one', i FROM n"
        )
    monkeypatch.setattr(copies, "ask", watching)
    look_at(copy, closely=True)
    assert seen
    status = seen[0]
    assert status["NoNewPrivs"] == "1"
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert "Max open files            0                    0" in status["limits"]
    if os.geteuid() == 0:
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
        assert status["Groups"] == ""


def _children() -> set[int]:
    """Of this thread, those of other tests too. Empty where the kernel does not tell."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return {int(word) for word in path.read_text().split()} if path.exists() else set()


def _schema(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL"))
