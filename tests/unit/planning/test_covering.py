from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbackupd.planning import covering
from distbackupd.planning.covering import cheapest_cover

groups_of_few = st.lists(st.frozensets(st.integers(1, 8), min_size=1, max_size=5), max_size=14)


def cheapest_by_brute_force(groups, costs):
    """The lowest cost of all sets of disks that meet every group."""
    return min(
        sum(costs[disk] for disk in disks)
        for count in range(len(costs) + 1)
        for disks in itertools.combinations(costs, count)
        if all(group & set(disks) for group in groups)
    )


def greedy_cover(groups):
    """What everybody would write first."""
    chosen, left = set(), [*groups]
    while left:
        counts = {disk: sum(disk in group for group in left) for group in left for disk in group}
        chosen.add(max(sorted(counts), key=lambda disk: counts[disk]))
        left = [group for group in left if not group & chosen]
    return chosen


@settings(max_examples=300, deadline=None, derandomize=True)
@given(groups_of_few, st.lists(st.integers(1, 9), min_size=8, max_size=8))
def test_cheapest_cover_any_groups_costs_what_brute_force_finds(groups, costs):
    prices = dict(enumerate(costs, start=1))
    cover = cheapest_cover(groups, prices)
    assert all(group & cover for group in groups)
    assert sum(prices[disk] for disk in cover) == cheapest_by_brute_force(groups, prices)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.integers(2, 30), st.integers(1, 120), st.integers(1, 4))
def test_cheapest_cover_larger_shelf_is_never_larger_than_greedy(seed, disks, count, copies):
    rng = random.Random(seed)
    groups = [frozenset(rng.sample(range(disks), min(disks, rng.randint(1, copies)))) for _ in range(count)]
    cover = cheapest_cover(groups, dict.fromkeys(range(disks), 1))
    assert all(group & cover for group in groups)
    assert len(cover) <= len(greedy_cover(groups))


def test_cheapest_cover_nothing_wanted_needs_no_disk():
    assert cheapest_cover([], {1: 1, 2: 1}) == frozenset()


def test_cheapest_cover_parts_without_common_disks_are_searched_by_themselves():
    # Twelve rings of five disks: each needs three, and no lower bound by disjoint groups sees that.
    rings = [frozenset({ring * 5 + place, ring * 5 + (place + 1) % 5}) for ring in range(12) for place in range(5)]
    assert len(cheapest_cover(rings, dict.fromkeys(range(60), 1))) == 36


@pytest.mark.parametrize("work", [0, 50])
def test_cheapest_cover_no_time_left_still_covers_all(monkeypatch, work):
    monkeypatch.setattr(covering, "_WORK", work)
    rng = random.Random(7)
    groups = [frozenset(rng.sample(range(60), 3)) for _ in range(500)]
    cover = cheapest_cover(groups, dict.fromkeys(range(60), 1))
    assert all(group & cover for group in groups)
    assert len(cover) <= len(greedy_cover(groups)) + 2
    assert all(any(not group & (cover - {disk}) for group in groups) for disk in cover)
