from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from distbackupd.planning.disk_choice import ReadableDisk, Share, Turn, choose_disks

ids = st.integers(1, 7)
wishes = st.dictionaries(
    st.frozensets(ids, max_size=4), st.builds(Share, st.integers(1, 9), st.integers(0, 1000)), max_size=10
)
shelves = st.lists(
    st.builds(ReadableDisk, ids, st.booleans(), st.integers(0, 5)), max_size=7, unique_by=lambda disk: disk.id
)


def want(**sizes):
    """``want(ab=5)``: five bytes in one file that disks 1 and 2 hold."""
    return {
        frozenset(ord(letter) - 96 for letter in letters if letter != "_"): Share(1, size) for letters, size in sizes.items()
    }


def chosen(choice):
    return [turn.disk for turn in choice.turns]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(wishes, shelves)
def test_choose_disks_every_byte_has_its_turn_or_is_lost(wanted, disks):
    choice = choose_disks(wanted, disks)
    known = {disk.id for disk in disks}
    left = dict(wanted)
    for turn in choice.turns:
        mine = {holders: share for holders, share in left.items() if turn.disk in holders}
        assert turn.share == (sum(s.files for s in mine.values()), sum(s.size for s in mine.values()))
        assert turn.share.files
        left = {holders: share for holders, share in left.items() if turn.disk not in holders}
    assert choice.lost == (sum(s.files for s in left.values()), sum(s.size for s in left.values()))
    assert not any(holders & known for holders in left)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(wishes, shelves)
def test_choose_disks_what_is_here_comes_first_and_then_what_brings_most(wanted, disks):
    here = {disk.id for disk in disks if disk.here}
    turns = choose_disks(wanted, disks).turns
    assert [turn.disk in here for turn in turns] == sorted((turn.disk in here for turn in turns), reverse=True)
    for place in (True, False):
        sizes = [turn.share.size for turn in turns if (turn.disk in here) is place]
        assert sizes == sorted(sizes, reverse=True)


def test_choose_disks_two_hold_what_three_hold_too_needs_two():
    choice = choose_disks(want(ab=10, bc=10, cd=10), [ReadableDisk(number) for number in (1, 2, 3, 4)])
    assert len(choice.turns) == 2


def test_choose_disks_equal_ones_takes_the_one_verified_last():
    disks = [ReadableDisk(1, freshness=5), ReadableDisk(2, freshness=9), ReadableDisk(3, freshness=7)]
    assert chosen(choose_disks(want(abc=10), disks)) == [2]


def test_choose_disks_what_is_here_saves_a_walk_even_if_it_takes_more_disks():
    disks = [ReadableDisk(1), ReadableDisk(2, here=True), ReadableDisk(3, here=True)]
    assert chosen(choose_disks(want(ab=10, ac=20), disks)) == [3, 2]


def test_choose_disks_of_those_here_reads_none_without_need():
    disks = [ReadableDisk(number, here=True) for number in (1, 2, 3)]
    assert choose_disks(want(ab=10, ac=20), disks).turns == (Turn(1, Share(2, 30)),)


def test_choose_disks_one_must_be_fetched_so_what_is_here_is_read_meanwhile():
    disks = [ReadableDisk(1), ReadableDisk(2, here=True), ReadableDisk(3, here=True)]
    choice = choose_disks(want(ab=10, a=20), disks)
    assert choice.turns == (Turn(2, Share(1, 10)), Turn(1, Share(1, 20)))


def test_choose_disks_left_out_disk_makes_its_own_content_lost():
    choice = choose_disks(want(a=10, ab=20, _=5), [ReadableDisk(2)])
    assert choice.turns == (Turn(2, Share(1, 20)),)
    assert choice.lost == Share(2, 15)
