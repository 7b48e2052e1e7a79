"""Which disk to bring: always one that helps, never one that cannot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distbackupd.planning.next_disk import Errand, Holding, ShelfDisk, most_wanted


def shelf_disk(number: int, room: int, last_session_at: int, orphans: int = 0, declined: int = 0) -> ShelfDisk:
    return ShelfDisk(number, room, last_session_at, orphans, declined)


def holding(size: int, *disks: int) -> Holding:
    return Holding(frozenset(disks), size)


def test_what_has_no_copy_goes_before_what_has_one() -> None:
    disks = [shelf_disk(1, 10, 0), shelf_disk(2, 1000, 0)]
    assert most_wanted(disks, [holding(50), holding(900, 2)]) == Errand(2, 0, 50)
    assert most_wanted(disks, [holding(900, 2)]) == Errand(1, 1, 10)


def test_room_is_also_what_is_held_often_enough_elsewhere() -> None:
    full = shelf_disk(1, 0, 0)
    assert most_wanted([full], [holding(40), holding(30, 1, 2)]) == Errand(1, 0, 30)
    assert most_wanted([full], [holding(40), holding(30, 1)]) is None
    assert most_wanted([full], [holding(40, 2), holding(30, 1, 2)]) is None
    assert most_wanted([full], [holding(40, 2), holding(30, 1, 2, 3)]) == Errand(1, 1, 30)


def test_among_equals_the_one_away_for_longest() -> None:
    disks = [shelf_disk(1, 100, 2000), shelf_disk(2, 100, 1000), shelf_disk(3, 100, 3000)]
    assert most_wanted(disks, [holding(50)]) == Errand(2, 0, 50)


def test_nothing_helps_what_is_protected_or_fits_nowhere() -> None:
    assert most_wanted([], [holding(50)]) is None
    assert most_wanted([shelf_disk(1, 100, 0), shelf_disk(2, 100, 0)], [holding(50, 1, 2)]) is None
    assert most_wanted([shelf_disk(1, -5, 0)], [holding(50)]) is None


def test_what_a_disk_declined_is_no_reason_to_bring_it_again() -> None:
    content = [holding(50), holding(900, 2)]
    assert most_wanted([shelf_disk(1, 100, 0, declined=950)], content) is None
    assert most_wanted([shelf_disk(1, 100, 0, declined=920)], content) == Errand(1, 0, 30)
    assert most_wanted([shelf_disk(1, 100, 0, declined=950)], [*content, holding(7)]) == Errand(1, 0, 7)
    assert most_wanted([shelf_disk(1, 0, 0, orphans=20, declined=50)], [holding(50)]) == Errand(1, 0, 20)


holdings = st.builds(Holding, st.frozensets(st.integers(1, 5), max_size=4), st.integers(0, 10**15))
shelves = st.lists(
    st.builds(shelf_disk, st.integers(1, 5), st.integers(-100, 10**14), st.integers(0, 2**31)), unique_by=lambda d: d.id
)


@given(shelves, st.lists(holdings))
def test_errand_is_possible_and_useful(disks: list[ShelfDisk], content: list[Holding]) -> None:
    errand = most_wanted(disks, content)
    if errand is None:
        lacking = sum(item.size for item in content if not item.holders)
        assert not lacking or all(disk.room <= 0 for disk in disks)
        return
    disk = next(disk for disk in disks if disk.id == errand.disk)
    missing = sum(item.size for item in content if len(item.holders) == errand.copies and errand.disk not in item.holders)
    held = sum(item.size for item in content if errand.disk in item.holders)
    assert 0 < errand.size <= min(missing, max(0, disk.room) + held)
