"""Copies that are exchanged only to spread the risk: never at anyone's cost, and not for ever."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from random import Random

import hypothesis.strategies as st
from hypothesis import Phase, given, settings

from distbackupd.model.plans import Copy, Plan, Policy, Reason
from distbackupd.planning.cycle import plan_cycle
from distbackupd.planning.exposure import PLACES, TRIPLES
from tests.unit.planning.facts import a_disk, an_object
from tests.unit.planning.gains import gains

ANY = settings(max_examples=200, derandomize=True, deadline=None, database=None, phases=[Phase.generate, Phase.shrink])


class Shelf:
    """Full disks whose content was spread by chance."""

    def __init__(self, disks: int, objects: int, copies: tuple[int, ...], seed: int, located: bool) -> None:
        rng = Random(seed)
        self.numbers = range(1, disks + 1)
        self.sizes = [rng.choice([0, 4096, 20_000, rng.randrange(200_000)]) for _ in range(objects)]
        self.holders = [set(rng.sample(self.numbers, min(disks, rng.choice(copies)))) for _ in range(objects)]
        self.places = {disk: rng.choice(["home", "bank"]) if located else "" for disk in self.numbers}
        self.shelf = [a_disk(disk, self.used(disk) + rng.randrange(9000), place=self.places[disk]) for disk in self.numbers]
        self.policy = Policy(rebalance=1.0)
        self.rng = rng

    def used(self, disk: int) -> int:
        facts = a_disk(disk, 0)
        return sum(facts.footprint(size) for size, holders in zip(self.sizes, self.holders, strict=True) if disk in holders)

    def plan(self, disk: int) -> Plan:
        sets = sorted({frozenset(holders) for holders in self.holders}, key=sorted)
        objects = [
            an_object(number, self.sizes[number], sets.index(frozenset(holders)), 1, 0, 0)
            for number, holders in enumerate(self.holders)
        ]
        return plan_cycle(objects, dict(enumerate(sets)), self.shelf[disk - 1], self.policy, 0, self.rng, self.shelf)

    def carry_out(self, disk: int, copy: Copy) -> None:
        for victim in copy.victims:
            self.holders[victim.object_id].remove(disk)
        self.holders[copy.object_id].add(disk)

    def unevenness(self) -> float:
        sizes: Counter[frozenset[int]] = Counter()
        for size, holders in zip(self.sizes, self.holders, strict=True):
            sizes[frozenset(holders)] += self.shelf[0].footprint(size)

        def lost(dead: frozenset[int]) -> int:
            return sum(size for holders, size in sizes.items() if holders and holders <= dead)

        total = 0.0
        for count, weight in ((1, 1.0), (2, 1.0), (3, TRIPLES)):
            total += sum(weight * lost(frozenset(risk)) ** 2 for risk in combinations(self.numbers, count))
        for place in {"home", "bank"} & set(self.places.values()):
            total += PLACES * lost(frozenset(disk for disk in self.numbers if self.places[disk] == place)) ** 2
        return total


shelves = st.builds(
    Shelf,
    st.integers(3, 6),
    st.integers(5, 60),
    st.sampled_from([(2, 3), (2, 2, 2, 3), (1, 2, 3), (3, 4), (2, 3, 4)]),
    st.integers(0, 10**6),
    st.booleans(),
)


@ANY
@given(shelves)
def test_exchanges_leave_no_fewer_bytes_with_as_many_copies_and_less_unevenness(shelf: Shelf) -> None:
    for disk in shelf.numbers:
        plan = shelf.plan(disk)
        came = left = 0
        for copies in gains(plan):
            uneven = shelf.unevenness()
            exchange = copies[0].reason is Reason.MORE_EVEN
            if exchange:
                victims = [victim for copy in copies for victim in copy.victims]
                level = copies[0].copies
                assert {victim.remaining for victim in victims} <= {level}
                assert all(len(shelf.holders[victim.object_id]) == level + 1 for victim in victims)
                assert all(len(shelf.holders[copy.object_id]) == copy.copies == level for copy in copies)
                assert level >= shelf.policy.protect_copies
                came += sum(shelf.shelf[0].footprint(copy.size) for copy in copies)
                left += sum(shelf.shelf[0].footprint(victim.size) for victim in victims)
            for copy in copies:
                shelf.carry_out(disk, copy)
                assert shelf.used(disk) <= shelf.shelf[disk - 1].capacity
            assert not exchange or shelf.unevenness() < uneven
        assert came >= left
        assert len({copy.copies for copy in plan.copies if copy.reason is Reason.MORE_EVEN}) <= 1


@ANY
@given(shelves)
def test_exchanges_come_to_an_end(shelf: Shelf) -> None:
    for _ in range(60):
        steps = 0
        for disk in shelf.numbers:
            for copy in shelf.plan(disk).copies:
                shelf.carry_out(disk, copy)
                steps += 1
        if not steps:
            return
    raise AssertionError("sixty rounds, and copies are still exchanged")


def test_exchanges_make_an_uneven_shelf_even() -> None:
    """All that has two copies is on the first two of five disks; the others have third copies of the rest."""
    shelf = Shelf(5, 1000, (2,), 1, located=False)
    shelf.sizes = [0] * 1000
    shelf.holders = [{1, 2} if number < 400 else {3, 4, 5} for number in range(1000)]
    shelf.shelf = [a_disk(disk, shelf.used(disk)) for disk in shelf.numbers]
    worst_before = sum(holders <= {1, 2} for holders in shelf.holders)
    for _ in range(3):
        for disk in shelf.numbers:
            for copy in shelf.plan(disk).copies:
                shelf.carry_out(disk, copy)
    worst = max(sum(holders <= set(pair) for holders in shelf.holders) for pair in combinations(shelf.numbers, 2))
    assert (worst_before, min(map(len, shelf.holders))) == (400, 2)
    assert worst <= 50  # 40 is the mean over all pairs


def test_exchanges_bring_content_that_is_at_one_place_only_to_another() -> None:
    shelf = Shelf(4, 200, (2,), 1, located=False)
    shelf.sizes = [0] * 200
    shelf.holders = [{1, 2} if number < 50 else {1, 3, 4} if number < 125 else {2, 3, 4} for number in range(200)]
    places = {1: "home", 2: "home", 3: "bank", 4: "office"}
    shelf.shelf = [a_disk(disk, shelf.used(disk), place=places[disk]) for disk in shelf.numbers]
    for _ in range(2):
        for disk in shelf.numbers:
            for copy in shelf.plan(disk).copies:
                shelf.carry_out(disk, copy)
    assert sum(holders <= {1, 2} for holders in shelf.holders) <= 10
    assert min(map(len, shelf.holders)) == 2


def test_one_small_victim_that_fits_nobody_does_not_end_all_exchanges() -> None:
    """Disks 2 and 4 together lose nothing, so that what has a third copy here would leave first; it is one tiny object."""
    shelf = Shelf(4, 41, (2,), 1, located=False)
    shelf.sizes = [100_000] * 40 + [0]
    shelf.holders = [{2, 3} if number < 20 else {1, 3, 4} for number in range(40)] + [{1, 2, 4}]
    shelf.shelf = [a_disk(disk, shelf.used(disk)) for disk in shelf.numbers]
    plan = shelf.plan(1)
    assert plan.rebalanced_bytes >= 500_000
