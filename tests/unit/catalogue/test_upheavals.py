"""How much was lost since a moment, by what is true now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd.catalogue.catalogue import Catalogue, open_catalogue
from distbackupd.engine.ports import Upheaval
from distbackupd.model.files import HashedFile
from tests.unit.catalogue.making import add_files, changes, digest, entry


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as opened:
        yield opened


def rewrite(catalogue: Catalogue, name: bytes, content: str, now: int) -> None:
    known = next(item for item in catalogue.files.folder(b"/f") if item.name == name)
    catalogue.files.start_scan()
    catalogue.files.record_folder(b"/f", changes(waiting=[(entry(name, size=77), known.row)]), now)
    (waiting,) = catalogue.files.waiting()
    catalogue.files.record_hashes([HashedFile(waiting.ticket, digest(content), True)], now)


def upheave(catalogue: Catalogue) -> None:
    """At 200, of ten files of 100 two vanish, one is renamed and one rewritten."""
    for number in range(10):
        add_files(catalogue, b"/f", b"%d" % number, now=100)
    before = {item.name: item for item in catalogue.files.folder(b"/f")}
    gone = [before[name].row for name in (b"0", b"1", b"2")]
    moved = [(entry(b"new name of 2"), before[b"2"].object_id)]
    catalogue.files.record_folder(b"/f", changes(added=moved, gone=gone), 200)
    rewrite(catalogue, b"3", "another content", 200)


@pytest.mark.parametrize("whole", [None, False, True])
def test_since_counts_what_was_lost_and_no_renames_whatever_scans_saw(catalogue: Catalogue, whole: bool | None) -> None:
    upheave(catalogue)
    if whole is not None:
        catalogue.files.finish_scan(200, whole=whole)
    size = entry(b"0").size
    lost = Upheaval(vanished=2, rewritten=1, vanished_size=2 * size, rewritten_size=size)
    assert catalogue.upheavals.since(150) == lost
    assert catalogue.upheavals.since(199) == lost
    assert catalogue.upheavals.since(200) == Upheaval()
    assert catalogue.upheavals.since(50) == Upheaval()
    (rewritten,) = catalogue.upheavals.rewritten_since(150, 10)
    assert (rewritten.path, rewritten.size) == (b"/f/3", 77)
    assert catalogue.upheavals.rewritten_since(150, 0) == []


def test_lately_after_a_scan_of_some_folders_is_the_same(catalogue: Catalogue) -> None:
    upheave(catalogue)
    catalogue.files.finish_scan(200, whole=False)
    assert catalogue.upheavals.lately(150) == catalogue.upheavals.since(150)
    catalogue.files.finish_scan(300, whole=True)
    assert catalogue.upheavals.lately(150) == Upheaval()


def test_since_leaves_out_the_bytes_of_what_was_rewritten_before_too(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/f", b"image", now=100)
    rewrite(catalogue, b"image", "second", 200)
    rewrite(catalogue, b"image", "third", 300)
    assert catalogue.upheavals.since(250) == Upheaval(rewritten=1)
    assert catalogue.upheavals.since(150) == Upheaval(rewritten=1, rewritten_size=entry(b"image").size)


def test_since_content_that_came_back_under_any_name_is_not_lost(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/f", b"a", b"b", now=100)
    before = {item.name: item for item in catalogue.files.folder(b"/f")}
    catalogue.files.record_folder(b"/f", changes(gone=[item.row for item in before.values()]), 200)
    catalogue.files.finish_scan(200, whole=True)
    assert catalogue.upheavals.since(150).vanished == 2
    catalogue.files.record_folder(b"/g", changes(added=[(entry(b"x"), before[b"a"].object_id)]), 300)
    assert catalogue.upheavals.since(150).vanished == 1


def test_living_counts_files_with_content(catalogue: Catalogue) -> None:
    upheave(catalogue)
    assert catalogue.upheavals.living() == catalogue.upheavals.living() == (8, 7 * entry(b"0").size + 77)
