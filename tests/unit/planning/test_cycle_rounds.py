"""Many sessions on many disks: what any order of plugging, growing, deleting and dying disks leaves true."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import hypothesis.strategies as st
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from distbackupd.model.disks import footprint
from distbackupd.model.plans import Copy, DiskFacts, Eviction, ObjectFacts, Plan, Policy
from distbackupd.planning.cycle import plan_cycle

BLOCK = 4096
GRACE = 100


@dataclass
class Thing:
    """An object of the model."""

    size: int
    priority: int
    maxcopies: int
    orphaned_at: int = 0
    holders: set[int] = field(default_factory=set)
    had_a_copy: bool = False


class Shelf(RuleBasedStateMachine):
    """A shelf of disks, an archive that grows and shrinks, and somebody who plugs disks in."""

    @initialize(capacities=st.lists(st.integers(0, 30), min_size=1, max_size=5))
    def buy(self, capacities: list[int]) -> None:
        self.now = 1000
        self.disks = {number: blocks * BLOCK for number, blocks in enumerate(capacities, start=1)}
        self.things: dict[int, Thing] = {}
        self.seed = 0

    @rule(
        sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6),
        priority=st.integers(1, 2),
        maxcopies=st.sampled_from([0, 0, 0, 1, 2]),
    )
    def grow(self, sizes: list[int], priority: int, maxcopies: int) -> None:
        for size in sizes:
            self.things[len(self.things) + 1] = Thing(size * BLOCK, priority, maxcopies)

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
        self.disks[max(self.disks, default=0) + 1] = blocks * BLOCK

    @precondition(lambda self: self.disks)
    @rule(data=st.data(), steps_done=st.one_of(st.none(), st.integers(0, 5)))
    def plug(self, data: st.DataObject, steps_done: int | None) -> None:
        """A session; it may be cut short after any step."""
        disk = data.draw(st.sampled_from(sorted(self.disks)))
        self.carry_out(disk, self.plan(disk), steps_done)

    @precondition(lambda self: self.disks)
    @rule()
    def settle(self) -> None:
        """With unchanged input nothing is pushed to and fro: after few rounds over all disks no plan does anything.

        Each newcomer, with what leaves for it, makes the objects with the fewest copies fewer, so there is an end. In
        nearly all cases two rounds bring it (6000 random shelves: never more than three).
        """
        for _ in range(len(self.disks) + 2):
            if not sum([self.whole_session(disk) for disk in self.disks]):
                return
        assert not any(self.whole_session(disk) for disk in self.disks)

    def whole_session(self, disk: int) -> int:
        """The number of steps; each newcomer is a gain."""
        plan = self.plan(disk)
        self.carry_out(disk, Plan(plan.evictions), None)
        for copy in plan.copies:
            before = self.protection()
            self.carry_out(disk, Plan(copies=(copy,)), None)
            assert self.protection() < before
        return len(plan.evictions) + len(plan.copies)

    def protection(self) -> list[int]:
        """How many living objects have no copy, at most one, at most two, and so on."""
        counts = [len(thing.holders) for thing in self.things.values() if not thing.orphaned_at]
        return [sum(count <= copies for count in counts) for copies in range(len(self.disks) + 1)]

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
            ObjectFacts(
                number, thing.size, identifiers[frozenset(thing.holders)], thing.priority, thing.maxcopies, thing.orphaned_at
            )
            for number, thing in self.things.items()
        ]
        holder_sets = {number: members for members, number in identifiers.items()}
        facts = DiskFacts(disk, self.disks[disk])
        return plan_cycle(objects, holder_sets, facts, Policy(grace=GRACE), self.now, Random(self.seed))

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
