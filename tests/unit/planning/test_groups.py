"""Pools give up what is needed and no more; standing is told for every wish."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from distbackupd.model.plans import Policy, Reason
from distbackupd.planning.groups import CONTENT, PROTECTED, Group, Pool, standing
from tests.unit.planning.facts import a_disk

ANY = settings(derandomize=True, database=None, deadline=None)
DISK = a_disk(1, 2**60, 512, overhead=100)


def pool(sizes: list[int]) -> Pool:
    group = Group(2, 1, 1, 1)
    group.ids.extend(range(len(sizes)))
    group.sizes.extend(sizes)
    return Pool(group, DISK, Reason.BETTER_PROTECTED, 1, 1)


@ANY
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20), st.data())
def test_pick_frees_enough_and_none_could_have_stayed(sizes: list[int], data: st.DataObject) -> None:
    stock = pool(sizes)
    left = dict(enumerate(sizes))
    while stock.room:
        assert stock.room == sum(map(DISK.footprint, left.values()))
        need = data.draw(st.integers(1, stock.room))
        picked = stock.pick(need)
        freed = [DISK.footprint(eviction.size) for eviction in picked]
        assert sum(freed) >= need > sum(freed) - min(freed)
        staying = stock.staying()
        assert staying is not None
        for eviction in picked:
            assert left.pop(eviction.object_id) == eviction.size
        assert sorted(stock.size_at(position) for position in staying) == sorted(left.values())
    assert not left
    assert stock.largest_size() == -1


@ANY
@given(st.integers(0, 100_000), st.integers(1, 9000), st.integers(0, 500))
def test_largest_within_is_the_inverse_of_footprint(room: int, block: int, overhead: int) -> None:
    disk = a_disk(1, room, block, overhead=overhead)
    largest = disk.largest_within(room)
    assert disk.footprint(largest + 1) > room
    assert largest == -1 or disk.footprint(largest) <= room
    assert disk.largest_object == largest


@pytest.mark.parametrize(
    ("copies", "wish", "maxcopies", "expected"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (2, 0, 0, PROTECTED + 2),
        (1, 0, 1, PROTECTED + 1),
        (2, 3, 0, 2),
        (3, 3, 0, CONTENT + 3),
        (2, 3, 2, CONTENT + 2),
        (1, 1, 0, CONTENT + 1),
    ],
)
def test_standing(copies: int, wish: int, maxcopies: int, expected: int) -> None:
    assert standing(copies, wish, maxcopies, Policy()) == expected


def test_standing_what_has_no_copy_is_never_protected() -> None:
    assert standing(0, 0, 0, Policy(protect_copies=0)) == 0
