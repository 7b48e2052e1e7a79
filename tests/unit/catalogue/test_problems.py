from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd.catalogue.catalogue import Catalogue, open_catalogue
from distbackupd.model.files import ProblemKind
from distbackupd.model.problems import FailedReading, FoundProblem, Problem, Unread
from tests.unit.catalogue.making import add_files, entry, hash_all, wait_for_hash

UNREAD, INEXACT, NOT_KEPT, *_ = ProblemKind


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as opened:
        yield opened


def known(catalogue: Catalogue, prefix: bytes = b"/") -> dict[bytes, Problem]:
    return {problem.path: problem for problem in catalogue.problems.listing(prefix)}


def fail(catalogue: Catalogue, *names: bytes, now: int = 5, changing: bool = False, size: int = 5) -> None:
    """Files of ``/a`` wait and could not be read."""
    catalogue.files.start_scan()
    wait_for_hash(catalogue, b"/a", *(entry(name, size=size) for name in names))
    catalogue.files.commit()
    failures = [FailedReading(waiting.ticket, "why", changing) for waiting in catalogue.files.waiting()]
    catalogue.problems.record_failures(failures, now)


def test_look_replaces_what_is_known_of_the_folder_and_nothing_else(catalogue: Catalogue) -> None:
    table = catalogue.problems
    table.look(b"/a", [FoundProblem(b"x", "no"), FoundProblem(b"s", "socket", NOT_KEPT)], (), 5)
    table.look(b"/b", [FoundProblem(b"x", "time", INEXACT, 7)], (), 6)
    table.look(b"/a", [FoundProblem(b"x", "still no"), FoundProblem(b"y", "time", INEXACT, 9)], (), 8)
    assert list(table.listing(b"/")) == [
        Problem(b"/a/x", UNREAD, 0, 5, 2, "still no", False, False),
        Problem(b"/a/y", INEXACT, 9, 8, 1, "time", False, False),
        Problem(b"/b/x", INEXACT, 7, 6, 1, "time", False, False),
    ]
    table.look(b"/a", [], (), 9)
    assert list(known(catalogue)) == [b"/b/x"]
    assert list(known(catalogue, b"/b/x")) == [b"/b/x"]
    assert known(catalogue, b"/a") == {}


def test_look_remarks_on_side_files_are_not_listed(catalogue: Catalogue) -> None:
    catalogue.problems.look(b"/a", [FoundProblem(b"x.meta-inf", "no JSON", None)], (), 5)
    assert known(catalogue) == {}


def test_look_unchanged_changes_nothing(catalogue: Catalogue) -> None:
    found = [FoundProblem(b"s", "socket", NOT_KEPT), FoundProblem(b"x", "time", INEXACT, 7)]
    catalogue.problems.look(b"/a", found, (), 5)
    catalogue.files.commit()
    generation = catalogue.generation()
    catalogue.problems.look(b"/a", found, (), 9)
    catalogue.problems.look(b"/b", [], (), 9)
    catalogue.files.commit()
    assert catalogue.generation() == generation


def test_a_file_that_waits_stays_unread_until_it_is_read(catalogue: Catalogue) -> None:
    fail(catalogue, b"x", b"y")
    catalogue.problems.look(b"/a", [FoundProblem(b"x", "time", INEXACT)], {b"x", b"y"}, 6)
    fail(catalogue, b"x", now=7)
    assert [(item.path, item.kind, item.since, item.tries) for item in catalogue.problems.listing(b"/a")] == [
        (b"/a/x", UNREAD, 5, 2),
        (b"/a/x", INEXACT, 6, 1),
        (b"/a/y", UNREAD, 5, 1),
    ]
    hash_all(catalogue)
    catalogue.problems.forget_read()
    assert [(item.path, item.kind) for item in catalogue.problems.listing(b"/a")] == [
        (b"/a/x", INEXACT),
        (b"/a/y", UNREAD),
    ]
    catalogue.problems.look(b"/a", [], (), 8)
    assert known(catalogue) == {}, "it is not changed any more"


def test_unread_counts_files_their_bytes_and_folders(catalogue: Catalogue) -> None:
    assert catalogue.problems.unread() == Unread()
    fail(catalogue, b"x", b"y", size=30_000_000)
    catalogue.problems.close_off(b"/b", "permission denied", 5)
    catalogue.problems.look(b"/c", [FoundProblem(b"x", "time", INEXACT, 7), FoundProblem(b"s", "so", NOT_KEPT)], (), 6)
    assert catalogue.problems.unread() == Unread(2, 60_000_000, 1)
    assert known(catalogue)[b"/b"].folder


def test_unread_of_sizes_that_no_number_holds_together_is_no_error(catalogue: Catalogue) -> None:
    fail(catalogue, b"x", b"y", size=2**63 - 1)
    assert catalogue.problems.unread() == Unread(2, 2**63 - 1, 0)
    assert catalogue.files.waiting_total() == (2, 2**63 - 1)


def test_close_off_lasts_until_somebody_looked_into_the_folder(catalogue: Catalogue) -> None:
    for now in (5, 6):
        catalogue.problems.close_off(b"/a/b", "permission denied", now)
        catalogue.problems.look(b"/a", [], (), now)
    assert known(catalogue) == {b"/a/b": Problem(b"/a/b", UNREAD, 0, 5, 2, "permission denied", True, False)}
    catalogue.problems.look(b"/a/b", [], (), 7)
    assert known(catalogue) == {}


def test_forget_below_spares_what_is_kept(catalogue: Catalogue) -> None:
    for folder in (b"/a", b"/a/b", b"/a/b/c", b"/ab"):
        catalogue.problems.look(folder, [FoundProblem(b"x", "no")], (), 5)
    catalogue.problems.forget_below(b"/a", [b"/a/b"])
    assert list(known(catalogue)) == [b"/a/b/x", b"/a/b/c/x", b"/ab/x"]


def test_listing_knows_whether_an_earlier_version_is_kept(catalogue: Catalogue) -> None:
    add_files(catalogue, b"/a", b"x")
    fail(catalogue, b"x", b"y")
    assert [item.kept for item in catalogue.problems.listing(b"/")] == [True, False]


def test_restless_is_what_changed_in_two_scans_in_a_row(catalogue: Catalogue) -> None:
    fail(catalogue, b"log", b"closed", changing=True)
    assert catalogue.problems.restless(b"/a") == set()
    fail(catalogue, b"log", changing=True)
    fail(catalogue, b"closed", changing=False)
    fail(catalogue, b"closed", changing=True)
    assert catalogue.problems.restless(b"/a") == {b"log"}
    assert catalogue.problems.restless(b"/b") == set()
