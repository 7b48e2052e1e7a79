"""Many sessions on many disks: what any order of plugging, growing, deleting and dying disks leaves true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from random import Random

import hypothesis.strategies as st
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from distbackupd.model.disks import footprint
from distbackupd.model.plans import Copy, Eviction, Plan, Policy, Reason
from distbackupd.planning.cycle import plan_cycle
from distbackupd.planning.exposure import PLACES, TRIPLES
from tests.unit.planning.facts import a_disk, an_object
from tests.unit.planning.gains import gains

BLOCK = 4096
GRACE = 100


@dataclass
class Thing:
    """An object of the model."""

    size: int
    priority: int
    maxcopies: int
    copies: int = 0
    orphaned_at: int = 0
    holders: set[int] = field(default_factory=set)
    had_a_copy: bool = False


class Shelf(RuleBasedStateMachine):
    """A shelf of disks, an archive that grows and shrinks, and somebody who plugs disks in."""

    @initialize(
        capacities=st.lists(st.integers(0, 30), min_size=1, max_size=5),
        places=st.lists(st.sampled_from(["", "", "home", "bank"]), min_size=6, max_size=6),
        rebalance=st.sampled_from([0.0, 0.2, 1.0]),
    )
    def buy(self, capacities: list[int], places: list[str], rebalance: float) -> None:
        self.now = 1000
        self.bought = len(capacities)
        self.disks = {number: blocks * BLOCK for number, blocks in enumerate(capacities, start=1)}
        self.places = places
        self.policy = Policy(grace=GRACE, rebalance=rebalance)
        self.things: dict[int, Thing] = {}
        self.seed = 0

    @rule(
        sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6),
        priority=st.integers(1, 2),
        maxcopies=st.sampled_from([0, 0, 0, 0, 1, 2]),
        copies=st.sampled_from([0, 0, 0, 0, 1, 3]),
    )
    def grow(self, sizes: list[int], priority: int, maxcopies: int, copies: int) -> None:
        for size in sizes:
            self.things[len(self.things) + 1] = Thing(size * BLOCK, priority, maxcopies, copies)

    @precondition(lambda self: self.things)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        thing = self.things[data.draw(st.sampled_from(sorted(self.things)))]
        thing.orphaned_at = thing.orphaned_at or self.now

    @precondition(lambda self: self.things)
    @rule(data=st.data())
    def bring_back(self, data: st.DataObject) -> None:
        thing = self.things[data.draw(st.sampled_from(sorted(self.things)))]
        thing.orphaned_at = 0
        thing.had_a_copy = bool(thing.holders)

    @rule(seconds=st.integers(1, GRACE + 1))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.disks)
    @rule(data=st.data())
    def disk_dies(self, data: st.DataObject) -> None:
        disk = data.draw(st.sampled_from(sorted(self.disks)))
        for thing in self.things.values():
            thing.holders.discard(disk)
            thing.had_a_copy = bool(thing.holders)
        del self.disks[disk]

    @precondition(lambda self: len(self.disks) < 6)
    @rule(blocks=st.integers(0, 40))
    def new_disk(self, blocks: int) -> None:
        self.bought += 1
        self.disks[self.bought] = blocks * BLOCK

    @precondition(lambda self: self.disks)
    @rule(data=st.data(), steps_done=st.one_of(st.none(), st.integers(0, 5)))
    def plug(self, data: st.DataObject, steps_done: int | None) -> None:
        """A session; it may be cut short after any step."""
        disk = data.draw(st.sampled_from(sorted(self.disks)))
        self.carry_out(disk, self.plan(disk), steps_done)

    @precondition(lambda self: self.disks)
    @rule()
    def settle(self) -> None:
        """With unchanged input nothing is pushed to and fro: after some rounds over all disks no plan does anything.

        Each newcomer, with what leaves for it, makes those that stand worst fewer; the exchanges of a plan make their
        bytes no more, and each makes the unevenness less. So there is an end.
        """
        for _ in range(100):
            if not sum([self.whole_session(disk) for disk in self.disks]):
                return
        raise AssertionError("a hundred rounds, and still something moves")

    def whole_session(self, disk: int) -> int:
        """The number of steps; each newcomer is a gain."""
        plan = self.plan(disk)
        self.carry_out(disk, Plan(plan.evictions), None)
        bytes_before = self.protection(footprint)
        for copies in gains(plan):
            before, uneven_before = self.protection(), self.unevenness()
            self.carry_out(disk, Plan(copies=copies), None)
            if copies[0].reason is Reason.MORE_EVEN:
                assert self.unevenness() < uneven_before
            else:
                assert self.protection() < before
        assert self.protection(footprint) <= bytes_before
        return len(plan.evictions) + len(plan.copies)

    def protection(self, weight: Callable[[int], int] = lambda _: 1) -> list[int]:
        """How many living objects (or their bytes) stand no better than without any copy, than with one, and so on."""
        living = [thing for thing in self.things.values() if not thing.orphaned_at]
        standings = [(self.standing(thing), weight(thing.size)) for thing in living]
        steps = [(kind, count) for kind in range(3) for count in range(len(self.disks) + 1)]
        return [sum(size for standing, size in standings if standing <= step) for step in steps]

    def standing(self, thing: Thing) -> tuple[int, int]:
        """Lacking copies, protected, or content, and how many copies."""
        count = len(thing.holders)
        needed = thing.copies or self.policy.protect_copies
        if thing.maxcopies:
            needed = min(needed, thing.maxcopies)
        return (0 if count < needed else 2 if thing.copies else 1, count)

    def unevenness(self) -> float:
        """The squares of what dies with any one, two, three disks or all of one place."""
        total = 0.0
        for size, weight in ((1, 1.0), (2, 1.0), (3, TRIPLES)):
            total += sum(weight * self.lost(set(risk)) ** 2 for risk in combinations(self.disks, size))
        for place in ("home", "bank"):
            total += PLACES * self.lost({disk for disk in self.disks if self.place(disk) == place}) ** 2
        return total

    def lost(self, dead: set[int]) -> int:
        living = [thing for thing in self.things.values() if thing.holders and not thing.orphaned_at]
        return sum(footprint(thing.size) for thing in living if thing.holders <= dead)

    def place(self, disk: int) -> str:
        return self.places[disk % len(self.places)]

    @invariant()
    def nothing_that_had_a_copy_is_without(self) -> None:
        for thing in self.things.values():
            if not thing.orphaned_at:
                assert thing.holders or not thing.had_a_copy

    @invariant()
    def no_disk_is_overfull(self) -> None:
        for disk, capacity in self.disks.items():
            assert self.used(disk) <= capacity

    def used(self, disk: int) -> int:
        return sum(footprint(thing.size) for thing in self.things.values() if disk in thing.holders)

    def plan(self, disk: int) -> Plan:
        self.seed += 1
        sets = {frozenset(thing.holders) for thing in self.things.values()}
        identifiers = {members: number for number, members in enumerate(sorted(sets, key=sorted), start=1)}
        objects = [
            an_object(
                number,
                thing.size,
                identifiers[frozenset(thing.holders)],
                thing.priority,
                thing.maxcopies,
                thing.orphaned_at,
                thing.copies,
            )
            for number, thing in self.things.items()
        ]
        holder_sets = {number: members for members, number in identifiers.items()}
        shelf = [a_disk(number, capacity, place=self.place(number)) for number, capacity in self.disks.items()]
        facts = next(facts for facts in shelf if facts.id == disk)
        return plan_cycle(objects, holder_sets, facts, self.policy, self.now, Random(self.seed), shelf)

    def carry_out(self, disk: int, plan: Plan, steps_done: int | None) -> None:
        steps: list[Eviction | Copy] = [*plan.evictions]
        for copy in plan.copies:
            steps += [*copy.victims, copy]
        for step in steps[:steps_done]:
            thing = self.things[step.object_id]
            if isinstance(step, Copy):
                thing.holders.add(disk)
                thing.had_a_copy = True
            else:
                thing.holders.remove(disk)
            self.no_disk_is_overfull()
            self.nothing_that_had_a_copy_is_without()


TestShelf = Shelf.TestCase
TestShelf.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
)


class LongLivedShelf(Shelf):
    """The same over hundreds of sessions."""


TestLongLivedShelf = LongLivedShelf.TestCase
TestLongLivedShelf.settings = settings(TestShelf.settings, max_examples=5, stateful_step_count=300)
