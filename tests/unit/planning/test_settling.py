"""When a content may be believed."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, given, settings

from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind, UnconfirmedFile
from distbackupd.model.rot import Reading
from distbackupd.planning.settling import EFFORT, chosen_to_confirm, is_rot, is_settled

SECOND = 10**9
ANY = settings(max_examples=300, derandomize=True, deadline=None, database=None, phases=[Phase.generate, Phase.shrink])
MOMENTS = st.integers(1, 4 * 10**18)


@ANY
@given(MOMENTS, MOMENTS, st.integers(0, 60 * SECOND), st.integers(0, 60 * SECOND))
def test_is_settled_means_that_a_later_write_cannot_have_the_same_time(
    changed: int, read_from: int, blur: int, later: int
) -> None:
    """A write at any moment of the reading or after it is stamped with a time that is late by the blur at the most."""
    written = read_from + later
    for stamp in (written, written - blur):
        assert not (is_settled(7, changed, read_from, blur) and stamp == changed)
        assert not (is_settled(changed, 0, read_from, blur) and stamp == changed), "where there is no time of change"


def test_is_settled_never_before_its_own_time() -> None:
    assert is_settled(0, 10 * SECOND, 13 * SECOND, 2 * SECOND)
    assert not is_settled(0, 10 * SECOND, 12 * SECOND, 2 * SECOND)
    assert not is_settled(0, 99 * SECOND, 13 * SECOND, 2 * SECOND), "a clock was wrong"
    assert is_settled(99 * SECOND, 10 * SECOND, 13 * SECOND, 2 * SECOND), "somebody set a date that is still to come"
    assert not is_settled(99 * SECOND, 0, 13 * SECOND, 2 * SECOND)


ENTRY = Entry(b"", EntryKind.FILE, 5, 100, 200, 1, 7, EntryFlag.NONE, Attributes(0o644, 0, 0), b"", 1, 0, 0)


@pytest.mark.parametrize(
    ("known", "confirmed", "witnessed", "rot"),
    [
        (200, True, True, True),
        (199, True, True, False),
        (0, True, True, False),
        (200, False, True, False),
        (200, True, False, False),
    ],
)
def test_is_rot_only_if_nothing_can_have_been_done_to_the_file(
    known: int, confirmed: bool, witnessed: bool, rot: bool
) -> None:
    found = Reading(b"other", ENTRY, settled=True, is_witnessed=witnessed)
    assert is_rot(known, confirmed, found) == rot


def waiting(row: int, size: int, inode: int = 0, is_linked: bool = False) -> UnconfirmedFile:
    return UnconfirmedFile(row, b"/%d" % row, size, 1, 1, inode or row, is_linked, 1, b"")


@ANY
@given(st.lists(st.integers(1, 50 * EFFORT), max_size=30), st.integers(0, 60 * EFFORT))
def test_chosen_to_confirm_keeps_to_the_budget_and_leaves_nothing_that_fits(sizes: list[int], budget: int) -> None:
    files = [waiting(row, size) for row, size in enumerate(sizes, start=1)]
    chosen = list(chosen_to_confirm(files, budget))
    costs = [file.size + EFFORT for file in chosen]
    assert sum(costs) <= budget
    small = [file for file in files if file.size + EFFORT <= budget]
    assert chosen == small[: len(chosen)], "in their order, and what is too large for all of it holds up nothing"
    if len(chosen) < len(small):
        assert sum(costs) + small[len(chosen)].size + EFFORT > budget
    assert list(chosen_to_confirm(files, None)) == files


def test_chosen_to_confirm_reads_each_inode_once() -> None:
    names = [waiting(1, 10, inode=5, is_linked=True), waiting(2, 10, inode=6), waiting(3, 10, inode=5, is_linked=True)]
    assert [file.row for file in chosen_to_confirm(names, None)] == [1, 2]
