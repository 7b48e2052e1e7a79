"""What dies together, beside the plainest way to count it."""

from __future__ import annotations

import time
from itertools import combinations
from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from distbackupd.planning.losses import Losses

ANY = settings(derandomize=True, database=None, deadline=None)
sizes_by_holders = st.dictionaries(st.frozensets(st.integers(1, 7), max_size=7), st.integers(0, 2**70), max_size=20)


def counted(sizes: dict[frozenset[int], int], disks: set[int], dead: set[int]) -> int:
    return sum(size for holders, size in sizes.items() if not holders & disks - dead)


@ANY
@given(sizes_by_holders, st.sets(st.integers(1, 7)))
def test_losses_are_exact_for_any_disks(sizes: dict[frozenset[int], int], disks: set[int]) -> None:
    losses = Losses(sizes, list(disks))
    assert losses.total == sum(sizes.values())
    for count in range(min(5, len(disks)) + 1):
        for dead in combinations(sorted(disks), count):
            assert losses.lost(dead) == counted(sizes, disks, set(dead))
    assert losses.of_one() == {disk: counted(sizes, disks, {disk}) for disk in disks}
    assert losses.of_two() == {pair: counted(sizes, disks, set(pair)) for pair in combinations(sorted(disks), 2)}


@ANY
@given(sizes_by_holders, st.sets(st.integers(1, 7)))
def test_summary_tells_mean_and_worst_as_long_as_a_disk_stays_alive(
    sizes: dict[frozenset[int], int], disks: set[int]
) -> None:
    summary = Losses(sizes, list(disks)).summary()
    assert [loss.disks for loss in summary] == [count for count in (1, 2, 3) if count < len(disks)]
    total = sum(sizes.values()) or 1
    for loss in summary:
        shares = [counted(sizes, disks, set(dead)) / total for dead in combinations(sorted(disks), loss.disks)]
        assert loss.mean == pytest.approx(sum(shares) / len(shares))
        assert loss.worst == pytest.approx(max(shares))
        assert counted(sizes, disks, set(loss.worst_disks)) / total == pytest.approx(loss.worst)


def test_copies_on_disks_that_are_no_more_do_not_count() -> None:
    losses = Losses({frozenset({1, 9}): 5, frozenset({9}): 3, frozenset({1, 2}): 2}, [1, 2])
    assert (losses.without_copy, losses.of_one()) == (3, {1: 8, 2: 3})


def test_content_of_one_place_only_is_what_the_place_takes_with_it() -> None:
    losses = Losses({frozenset(): 1, frozenset({1}): 2, frozenset({1, 2}): 4, frozenset({2, 3}): 8}, [1, 2, 3])
    assert losses.of_place([1, 2]) == 6
    assert losses.of_place([]) == 0
    assert losses.of_place([1, 2, 3]) == 14


def test_all_pairs_and_triples_of_sixty_disks_take_less_than_a_second() -> None:
    rng = Random(1)
    disks = range(60)
    sizes = {frozenset(rng.sample(disks, rng.choice([1, 2, 3, 3, 4]))): rng.randrange(2**40) for _ in range(30_000)}
    began = time.process_time()
    summary = Losses(sizes, disks).summary()
    assert len(summary) == 3
    assert time.process_time() - began < 1
