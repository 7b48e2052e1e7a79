"""The order in which equals come: nothing twice, nothing forgotten, large and small mixed."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from distbackupd.planning.groups import Group
from distbackupd.planning.queues import Queue, Remainder
from tests.unit.planning.facts import a_disk

ANY = settings(derandomize=True, database=None, deadline=None)
BLOCK = 4096


def group(sizes: list[int]) -> Group:
    made = Group(0, 0, 1, 0)
    made.ids.extend(range(len(sizes)))
    made.sizes.extend(sizes)
    return made


sizes_of_all_kinds = st.lists(st.one_of(st.integers(0, 100_000), st.integers(0, 10_000_000)), min_size=1, max_size=40)


@ANY
@given(sizes_of_all_kinds, st.sampled_from(["bytes", "files"]), st.integers(0, 2**32), st.data())
def test_queue_gives_what_fits_once_and_leaves_the_rest(
    sizes: list[int], prefer: str, first: int, data: st.DataObject
) -> None:
    queue = Queue(group(sizes), a_disk(1, 100_000_000), "files" if prefer == "files" else "bytes", first)
    largest = max(sizes)
    came: list[int] = []
    while not queue.exhausted:
        largest = data.draw(st.one_of(st.just(largest), st.integers(0, largest)))
        position = queue.next(largest)
        if position is not None:
            assert queue.group.sizes[position] <= largest
            came.append(position)
    assert sorted([*came, *queue.left]) == list(range(len(sizes)))
    assert all(queue.group.sizes[position] > largest for position in queue.left)


def order(sizes: list[int], capacity: int, prefer: str = "bytes", first: int = 0) -> list[int]:
    queue = Queue(group(sizes), a_disk(1, capacity), "files" if prefer == "files" else "bytes", first)
    return [queue.group.sizes[position] for position in iter(lambda: queue.next(2**62), None)]


def test_queue_bulky_ones_come_first_and_small_ones_last() -> None:
    small, bulky = [1, 5000, 9000], [5_000_000, 6_000_000]
    ordinary = list(range(100_000, 200_000, 1000))
    came = order([*small, *ordinary, *bulky], 64 * 4_000_000)
    assert came[:2] == bulky[::-1]
    assert came[-3:] == small[::-1]
    assert sorted(came[2:-3]) == ordinary


@pytest.mark.parametrize("first", [0, 1, 12345])
def test_queue_any_stretch_of_ordinary_ones_has_large_and_small_alike(first: int) -> None:
    came = order(list(range(100_000, 1_100_000, 1000)), 10**12, first=first)
    for start in range(0, 1000, 50):
        assert sum(came[start : start + 50]) == pytest.approx(50 * 600_000, rel=0.1)


def test_queue_for_files_comes_from_the_smallest_up() -> None:
    assert order([300, 100, 10**9, 200], 10**9, "files") == [100, 200, 300, 10**9]


@ANY
@given(sizes_of_all_kinds, st.integers(0, 20_000_000), st.integers(0, 20_000_000), st.integers(0, 5))
def test_remainder_packs_no_more_than_there_is_room(sizes: list[int], room: int, content: int, most: int) -> None:
    disk = a_disk(1, 10**9)
    remainder = Remainder(group(sizes), None)
    packed = remainder.packed(disk, room, content, len(sizes), most)
    chosen = [remainder.size_at(position) for position in packed]
    assert packed == sorted(set(packed), reverse=True)
    assert sum(map(disk.footprint, chosen)) <= room
    assert sum(chosen) <= content
    assert len(packed) <= most
    if not packed:
        assert not most or disk.footprint(min(sizes)) > room or min(sizes) > content
    taken = [remainder.take(position) for position in packed]
    assert [size for _, size in taken] == chosen
    assert all(sizes[identifier] == size for identifier, size in taken)


@ANY
@given(sizes_of_all_kinds, st.integers(-10, 20_000_000))
def test_remainder_covers_what_is_needed_and_nothing_in_vain(sizes: list[int], room: int) -> None:
    disk = a_disk(1, 10**9)
    remainder = Remainder(group(sizes), None)
    found = remainder.covering(disk, room)
    if found is None:
        assert sum(map(disk.footprint, sizes)) < room
        return
    freed = [disk.footprint(remainder.size_at(position)) for position in found]
    assert found == sorted(set(found), reverse=True)
    assert sum(freed) >= room
    assert not found or sum(freed) - min(freed) < room
    content = remainder.content
    for item in [remainder.take(position) for position in found]:
        remainder.put_back(*item)
    assert remainder.content == content == sum(sizes)


def test_remainder_of_some_positions_holds_only_these() -> None:
    remainder = Remainder(group([30, 10, 20]), [0, 2])
    position = remainder.largest(25)
    assert position is not None
    assert remainder.take(position) == (1, 10)
    assert remainder.largest(25) is None
