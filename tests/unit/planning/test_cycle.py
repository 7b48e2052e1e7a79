"""The planner's promises, for any objects, holders, disk and wishes; and small plans whose every step is known."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, given, settings

from distbackupd.model.disks import OBJECT_OVERHEAD, footprint
from distbackupd.model.plans import Copy, DiskFacts, Eviction, ObjectFacts, Plan, Policy, Reason
from distbackupd.planning.cycle import plan_cycle
from tests.unit.planning.facts import a_disk, an_object

NOW = 1_000_000_000
GRACE = 1000
BLOCK = 4096
DISK = 1
"""The disk whose cycle is planned; the others are 2 to 4."""
ANY = settings(max_examples=100, derandomize=True, deadline=None, database=None, phases=[Phase.generate, Phase.shrink])

SETS = {
    number: frozenset(members)
    for number, members in enumerate(
        (members for size in range(5) for members in itertools.combinations((1, 2, 3, 4), size)), start=1
    )
}
SET_ID = {members: number for number, members in SETS.items()}


class World(NamedTuple):
    """The input of one plan."""

    objects: tuple[ObjectFacts, ...]
    disk: DiskFacts
    policy: Policy
    seed: int
    shelf: tuple[DiskFacts, ...] = ()

    def plan(self) -> Plan:
        return plan_cycle(self.objects, SETS, self.disk, self.policy, NOW, Random(self.seed), self.shelf)

    def room(self, size: int) -> int:
        blocks = -(-size // self.disk.block_size)
        return self.disk.overhead + blocks * self.disk.block_size

    def places(self) -> int:
        """So many objects at once."""
        return self.disk.most_objects or 1 << 63

    def holders(self, item: ObjectFacts) -> frozenset[int]:
        return SETS[item.holders]

    def held(self) -> dict[int, ObjectFacts]:
        return {item.id: item for item in self.objects if DISK in self.holders(item)}

    def others(self, item: ObjectFacts) -> int:
        """Copies on other disks that can be plugged in."""
        known = {facts.id for facts in self.shelf} or {1, 2, 3, 4}
        return len(self.holders(item) & known - {DISK})

    def standing(self, item: ObjectFacts) -> tuple[int, int]:
        """How well it stands with its copies on other disks alone: lacking some, protected, or content."""
        needed = item.copies or self.policy.protect_copies
        if item.maxcopies:
            needed = min(needed, item.maxcopies)
        copies = self.others(item)
        if copies < max(1, needed):
            return (0, copies)
        return (2 if item.copies else 1, copies)

    def wanted(self) -> dict[int, ObjectFacts]:
        """What may get a copy here, if there is room."""
        limit = self.policy.copies_limit
        return {
            item.id: item
            for item in self.objects
            if not item.orphaned_at
            and DISK not in self.holders(item)
            and (not item.maxcopies or self.others(item) < item.maxcopies)
            and (not item.copies or self.others(item) < item.copies)
            and (limit is None or self.others(item) < limit)
        }

    def reason(self, item: ObjectFacts) -> Reason | None:
        """Why the disk's copy may leave, by design; None: it must stay."""
        others = self.others(item)
        if self.policy.brake:
            return None
        if item.orphaned_at:
            if NOW - item.orphaned_at >= self.policy.grace:
                return Reason.ORPHAN_EXPIRED
            return Reason.ORPHAN_SECOND_COPY if others else Reason.ORPHAN_LAST_COPY
        if not self.policy.evict:
            return None
        if item.maxcopies and others >= item.maxcopies:
            return Reason.ABOVE_MAXCOPIES
        return Reason.BETTER_PROTECTED if others else None


SIZES = st.one_of(
    st.integers(0, 6).map(lambda blocks: blocks * BLOCK),
    st.integers(0, 40_000),
    st.sampled_from([2**32 - 1, 2**32, 2**43, 2**62]),
)


WISHES = st.sampled_from([0, 0, 0, 1, 2, 3])
PLACES = st.sampled_from(["", "", "home", "bank"])


@st.composite
def shelves(draw: st.DrawFn, disk: DiskFacts) -> tuple[DiskFacts, ...]:
    """No word of other disks, or all of them, or not all that holder sets name."""
    known = draw(st.sampled_from([(), (), (1, 2, 3, 4), (1, 2, 3)]))
    return tuple(disk if number == DISK else a_disk(number, 2**40, place=draw(PLACES)) for number in known)


def most_objects(held: int) -> st.SearchStrategy[int]:
    """No limit, or about so many as the disk holds."""
    return st.one_of(st.just(0), st.just(0), st.integers(-2, 4).map(lambda more: max(1, held + more)))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    orphaned = st.sampled_from([0, 0, 0, 0, NOW, NOW - 1, NOW - GRACE + 1, NOW - GRACE, 1])
    objects = tuple(
        an_object(
            number,
            draw(SIZES),
            draw(st.sampled_from(sorted(SETS))),
            draw(st.integers(1, 3)),
            maxcopies,
            orphan,
            draw(WISHES),
        )
        for number, (maxcopies, orphan) in enumerate(
            draw(st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 2, 3]), orphaned), max_size=14)), start=1
        )
    )
    block_size = draw(st.sampled_from([512, BLOCK, BLOCK, 65536]))
    overhead = draw(st.sampled_from([4096, 4096, 0, 300]))
    used = sum(
        overhead + footprint(item.size, block_size) - OBJECT_OVERHEAD for item in objects if DISK in SETS[item.holders]
    )
    capacity = draw(
        st.one_of(
            st.just(0),
            st.just(used),
            st.integers(0, 20).map(lambda blocks: used + blocks * BLOCK),
            st.integers(0, 20).map(lambda blocks: max(0, used - blocks * BLOCK)),
            st.integers(0, 2**64),
        )
    )
    largest = draw(st.sampled_from([0, 0, 3 * BLOCK, 2**32 - 1]))
    held = sum(DISK in SETS[item.holders] for item in objects)
    disk = a_disk(DISK, capacity, block_size, largest, overhead, draw(PLACES), draw(most_objects(held)))
    policy = Policy(
        grace=draw(st.sampled_from([0, GRACE, GRACE])),
        copy_limit=draw(st.one_of(st.none(), st.none(), st.integers(0, 100_000))),
        copies_limit=draw(st.sampled_from([None, None, 0, 1, 2])),
        evict=draw(st.sampled_from([True, True, False])),
        protect_copies=draw(st.sampled_from([2, 2, 1, 3])),
        prefer=draw(st.sampled_from(["bytes", "files"])),
        rebalance=draw(st.sampled_from([0.0, 0.1, 1.0])),
        brake=draw(st.sampled_from([False, False, False, True])),
    )
    return World(objects, disk, policy, draw(st.integers(0, 3)), draw(shelves(disk)))


@st.composite
def crowded_worlds(draw: st.DrawFn) -> World:
    """A nearly full disk with much on it that may leave, and newcomers of every standing."""
    here = [number for number, members in SETS.items() if DISK in members]
    elsewhere = [1, 1, *(number for number, members in SETS.items() if DISK not in members)]
    orphaned = st.sampled_from([0, 0, 0, NOW, NOW - 1, NOW - 2])
    blocks = st.integers(0, 7)
    priority = st.integers(1, 3)
    held = draw(st.lists(st.tuples(blocks, st.sampled_from(here), priority, orphaned), min_size=3, max_size=12))
    coming = draw(st.lists(st.tuples(blocks, st.sampled_from(elsewhere), priority, st.just(0)), min_size=1, max_size=8))
    objects = tuple(
        an_object(number, size * BLOCK, holders, priority, 0, orphan, draw(WISHES))
        for number, (size, holders, priority, orphan) in enumerate([*held, *coming], start=1)
    )
    used = sum(footprint(item.size, BLOCK) for item in objects[: len(held)])
    capacity = max(0, used + draw(st.integers(-4, 4)) * BLOCK)
    disk = a_disk(DISK, capacity, most_objects=draw(most_objects(len(held))))
    policy = Policy(
        grace=GRACE, prefer=draw(st.sampled_from(["bytes", "files"])), rebalance=draw(st.sampled_from([0.0, 0.1, 1.0]))
    )
    return World(objects, disk, policy, draw(st.integers(0, 3)), draw(shelves(disk)))


def steps(plan: Plan) -> Iterator[Eviction | Copy]:
    """Every step in the order in which it is carried out."""
    yield from plan.evictions
    for copy in plan.copies:
        yield from copy.victims
        yield copy


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_any_world_never_takes_the_last_copy_of_a_living_object(world: World) -> None:
    held = world.held()
    for eviction in world.plan().all_evictions():
        item = held[eviction.object_id]
        assert eviction.remaining == world.others(item)
        assert item.orphaned_at or eviction.remaining >= 1


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_any_world_never_overfills_the_disk_at_any_prefix(world: World) -> None:
    plan = world.plan()
    used = sum(world.room(item.size) for item in world.held().values())
    assert plan.used_before == used
    for step in steps(plan):
        if isinstance(step, Eviction):
            used -= world.room(step.size)
        else:
            used += world.room(step.size)
            assert used <= world.disk.capacity
        assert used >= 0


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_any_world_never_brings_more_objects_than_the_disk_has_places_for(world: World) -> None:
    plan = world.plan()
    held = len(world.held()) - len(plan.evictions)
    most = max(held, world.places())
    for copy in plan.copies:
        held += 1 - len(copy.victims)
        assert held <= most
    assert plan.crowded == (plan.unplaced_objects > 0 and held >= most)


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_any_world_evicts_only_what_stays_better_off_than_the_newcomer_was(world: World) -> None:
    held, wanted = world.held(), world.wanted()
    for copy in world.plan().copies:
        newcomer = world.standing(wanted[copy.object_id])
        for victim in copy.victims:
            item = held[victim.object_id]
            if item.orphaned_at:
                continue
            if copy.reason is Reason.MORE_EVEN:
                assert newcomer == world.standing(item) == (1, copy.copies)
            else:
                assert world.standing(item) > newcomer


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_any_world_copies_only_what_is_wanted_and_fits_the_limits(world: World) -> None:
    plan = world.plan()
    wanted = world.wanted()
    assert len({copy.object_id for copy in plan.copies}) == len(plan.copies)
    for copy in plan.copies:
        item = wanted[copy.object_id]
        assert (copy.size, copy.copies) == (item.size, world.others(item))
        if copy.reason is not Reason.MORE_EVEN:
            assert copy.reason is (Reason.MORE_COPIES if copy.copies else Reason.FIRST_COPY)
        assert not world.disk.largest_file or copy.size <= world.disk.largest_file
    assert world.policy.copy_limit is None or plan.copy_bytes <= world.policy.copy_limit


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_any_world_gives_each_eviction_its_reason(world: World) -> None:
    held = world.held()
    plan = world.plan()
    evictions = plan.all_evictions()
    assert len({eviction.object_id for eviction in evictions}) == len(evictions)
    for eviction in evictions:
        told = Reason.BETTER_PROTECTED if eviction.reason is Reason.SPREAD_ELSEWHERE else eviction.reason
        assert told is world.reason(held[eviction.object_id])
        assert eviction.size == held[eviction.object_id].size
    unasked = [Reason.ORPHAN_EXPIRED, Reason.ABOVE_MAXCOPIES]
    assert {eviction.object_id for eviction in plan.evictions} == {
        item.id for item in held.values() if world.reason(item) in unasked
    }
    assert [eviction.reason for eviction in plan.evictions] == sorted(
        (eviction.reason for eviction in plan.evictions), key=unasked.index
    )
    for copy in plan.copies:
        assert not any(victim.reason in unasked for victim in copy.victims)
        assert copy.copies == 0 or all(victim.reason is not Reason.ORPHAN_LAST_COPY for victim in copy.victims)


def worth(world: World, item: ObjectFacts) -> tuple[int, ...]:
    """How valuable a copy on the disk is, by design: least first."""
    reason = world.reason(item)
    if reason is Reason.ORPHAN_SECOND_COPY:
        return (0, 0, 0)
    if reason is Reason.ORPHAN_LAST_COPY:
        return (2, item.orphaned_at, 0)
    kind, copies = world.standing(item)
    return (1, -kind, -copies, item.priority)


@ANY
@given(crowded_worlds())
def test_plan_cycle_any_world_evicts_the_least_valuable_and_no_more_than_needed(world: World) -> None:
    plan = world.plan()
    held = world.held()
    for eviction in plan.evictions:
        del held[eviction.object_id]
    free = world.disk.capacity - sum(world.room(item.size) for item in held.values())
    most = max(len(held), world.places())
    for copies_before, copy in enumerate(plan.copies):
        if copy.reason is Reason.MORE_EVEN:
            break
        need = world.room(copy.size) - free
        if len(held) + copies_before >= most:
            need = max(1, need)
        victims = [held[victim.object_id] for victim in copy.victims]
        freed = sum(world.room(victim.size) for victim in victims)
        assert [worth(world, victim) for victim in victims] == sorted(worth(world, victim) for victim in victims)
        for victim in victims:
            assert freed - world.room(victim.size) < need, "one victim could have stayed"
            worse = sum(
                world.room(item.size)
                for item in held.values()
                if world.reason(item) is not None and worth(world, item) < worth(world, victim)
            )
            assert worse < need, "less valuable copies would have made the room"
        for victim in victims:
            del held[victim.id]
        free += freed - world.room(copy.size)


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_equal_input_and_seed_gives_an_equal_plan(world: World) -> None:
    assert world.plan() == world.plan()


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_without_evicting_takes_no_living_copy(world: World) -> None:
    world = world._replace(policy=replace(world.policy, evict=False))
    held = world.held()
    assert all(held[eviction.object_id].orphaned_at for eviction in world.plan().all_evictions())


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_what_could_come_by_evicting_is_never_unplaced(world: World) -> None:
    world = world._replace(policy=replace(world.policy, copy_limit=None))
    plan = world.plan()
    gone = {eviction.object_id for eviction in plan.all_evictions()}
    copied = {copy.object_id for copy in plan.copies}
    used = plan.used_before + sum(world.room(step.size) * (1 if isinstance(step, Copy) else -1) for step in steps(plan))
    for item in world.wanted().values():
        if item.id in copied or (world.disk.largest_file and item.size > world.disk.largest_file):
            continue
        room = world.disk.capacity - used
        most = max(world.places(), len(world.held()) - len(plan.evictions))
        places = most - (len(world.held()) - len(gone) + len(copied))
        for held in world.held().values():
            reason = world.reason(held)
            if held.id not in gone and (
                reason is Reason.ORPHAN_SECOND_COPY
                or (reason is Reason.BETTER_PROTECTED and world.standing(held) > world.standing(item))
                or (reason is Reason.ORPHAN_LAST_COPY and not world.others(item))
            ):
                room += world.room(held.size)
                places += world.room(held.size) > 0
        assert room < world.room(item.size) or places < 1


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_what_is_wanted_and_fits_at_the_end_is_never_unplaced(world: World) -> None:
    plan = world.plan()
    copied = {copy.object_id for copy in plan.copies}
    largest = world.disk.largest_file
    too_large = [item for item in world.wanted().values() if largest and item.size > largest]
    unplaced = [item for item in world.wanted().values() if item.id not in copied and item not in too_large]
    assert plan.too_large == len(too_large)
    assert (plan.unplaced_objects, plan.unplaced_bytes) == (len(unplaced), sum(item.size for item in unplaced))
    used = plan.used_before + sum(world.room(step.size) * (1 if isinstance(step, Copy) else -1) for step in steps(plan))
    left = None if world.policy.copy_limit is None else world.policy.copy_limit - plan.copy_bytes
    for item in unplaced:
        assert plan.crowded or used + world.room(item.size) > world.disk.capacity or (left is not None and item.size > left)


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_any_world_copies_what_lacks_most_first_then_by_priority_and_spreads_the_risk_last(world: World) -> None:
    wanted = world.wanted()
    copies = list(world.plan().copies)
    spreading = next((place for place, copy in enumerate(copies) if copy.reason is Reason.MORE_EVEN), len(copies))
    order = [(world.standing(wanted[copy.object_id]), -wanted[copy.object_id].priority) for copy in copies[:spreading]]
    assert order == sorted(order)
    assert not any(copy.victims for copy in copies[spreading:] if copy.reason is not Reason.MORE_EVEN)


@ANY
@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
def test_plan_cycle_with_the_brake_on_takes_nothing_and_copies_all_that_needs_no_room_made(world: World) -> None:
    world = world._replace(policy=replace(world.policy, brake=True, copy_limit=None))
    plan = world.plan()
    assert not plan.all_evictions()
    room = world.disk.capacity - plan.used_before - sum(world.room(copy.size) for copy in plan.copies)
    copied = {copy.object_id for copy in plan.copies}
    for item in world.wanted().values():
        if item.id not in copied and not (world.disk.largest_file and item.size > world.disk.largest_file):
            assert world.room(item.size) > room or plan.crowded


# --- small plans -----------------------------------------------------------------------------------------------------


def living(number: int, *holders: int, blocks: int = 1, priority: int = 1, maxcopies: int = 0) -> ObjectFacts:
    """An object with a footprint of ``blocks`` blocks."""
    return an_object(number, (blocks - 1) * BLOCK, SET_ID[frozenset(holders)], priority, maxcopies, 0)


def orphan(number: int, *holders: int, blocks: int = 1, age: int = 1) -> ObjectFacts:
    return an_object(number, (blocks - 1) * BLOCK, SET_ID[frozenset(holders)], 1, 0, NOW - age)


def story(objects: list[ObjectFacts], blocks: int, policy: Policy | None = None) -> list[tuple[str, int, Reason]]:
    """The steps of a plan for a disk with room for so many blocks."""
    disk = a_disk(DISK, blocks * BLOCK)
    plan = plan_cycle(objects, SETS, disk, policy or Policy(grace=GRACE), NOW, Random(1))
    return [("copy" if isinstance(step, Copy) else "evict", step.object_id, step.reason) for step in steps(plan)]


def test_plan_cycle_nothing_to_do_gives_an_empty_plan() -> None:
    assert plan_cycle([], SETS, a_disk(DISK, 0), Policy(), NOW, Random(1)) == Plan()
    assert story([living(1, 1), living(2, 1, 2)], blocks=2) == []


def test_plan_cycle_empty_disk_gets_first_copies_before_second_ones() -> None:
    objects = [living(1, 2), living(2), living(3, 2, 3), living(4, priority=2)]
    assert story(objects, blocks=4) == [
        ("copy", 4, Reason.FIRST_COPY),
        ("copy", 2, Reason.FIRST_COPY),
        ("copy", 1, Reason.MORE_COPIES),
        ("copy", 3, Reason.MORE_COPIES),
    ]
    assert story(objects, blocks=2) == story(objects, blocks=4)[:2]


def test_plan_cycle_full_disk_makes_room_in_the_order_of_worth() -> None:
    objects = [
        orphan(1, 1, age=10),
        orphan(2, 1, age=20),
        living(3, 1, 2, priority=2),
        living(4, 1, 2),
        living(5, 1, 2, 3),
        orphan(6, 1, 2),
        living(7, 1),
        *[living(number, blocks=1) for number in range(10, 18)],
    ]
    told = story(objects, blocks=7)
    assert [step for step in told if step[0] == "evict"] == [
        ("evict", 6, Reason.ORPHAN_SECOND_COPY),
        ("evict", 5, Reason.BETTER_PROTECTED),
        ("evict", 4, Reason.BETTER_PROTECTED),
        ("evict", 3, Reason.BETTER_PROTECTED),
        ("evict", 2, Reason.ORPHAN_LAST_COPY),
        ("evict", 1, Reason.ORPHAN_LAST_COPY),
    ]
    assert [step[0] for step in told] == ["evict", "copy"] * 6


def test_plan_cycle_second_copy_never_takes_the_last_copy_of_an_orphan() -> None:
    assert story([orphan(1, 1), living(2, 2)], blocks=1) == []
    assert story([orphan(1, 1), living(2)], blocks=1) == [
        ("evict", 1, Reason.ORPHAN_LAST_COPY),
        ("copy", 2, Reason.FIRST_COPY),
    ]


def test_plan_cycle_expired_orphans_and_surplus_copies_leave_even_if_there_is_room() -> None:
    objects = [living(1, 1, 2, maxcopies=1), orphan(2, 1, age=GRACE), orphan(3, 1, age=GRACE - 1), orphan(4, 1, 2)]
    assert story(objects, blocks=100) == [
        ("evict", 2, Reason.ORPHAN_EXPIRED),
        ("evict", 1, Reason.ABOVE_MAXCOPIES),
    ]


def test_plan_cycle_saturated_objects_get_no_copy() -> None:
    objects = [living(1, 2, 3, maxcopies=2), living(2, 2, maxcopies=2), living(3, 2, 3)]
    assert [step[1] for step in story(objects, blocks=9)] == [2, 3]
    assert [step[1] for step in story(objects, blocks=9, policy=Policy(copies_limit=2))] == [2]


def test_plan_cycle_grace_zero_deletes_orphans_at_once() -> None:
    assert story([orphan(1, 1, age=0)], blocks=9, policy=Policy(grace=0)) == [("evict", 1, Reason.ORPHAN_EXPIRED)]


def test_plan_cycle_equally_protected_objects_leave_each_other_alone() -> None:
    assert story([living(1, 1, 2), living(2, 2), living(3, 2, 3)], blocks=1) == []
    assert story([living(1, 1, 2, 3), living(2, 2), living(3, 2, 3)], blocks=1) == [
        ("evict", 1, Reason.BETTER_PROTECTED),
        ("copy", 2, Reason.MORE_COPIES),
    ]


def test_plan_cycle_large_victim_spares_small_ones_that_are_not_needed_then() -> None:
    objects = [living(1, 1, 2, 3), living(2, 1, 2, 3), living(3, 1, 2, blocks=5), living(4, blocks=5)]
    assert story(objects, blocks=7) == [("evict", 3, Reason.BETTER_PROTECTED), ("copy", 4, Reason.FIRST_COPY)]


def test_plan_cycle_among_equals_relieves_the_most_exposed_holders() -> None:
    objects = [living(number, 2) for number in range(1, 21)] + [living(number, 3) for number in range(21, 31)]
    plan = plan_cycle(objects, SETS, a_disk(DISK, 16 * BLOCK), Policy(), NOW, Random(1))
    assert Counter(2 if copy.object_id <= 20 else 3 for copy in plan.copies) == {2: 13, 3: 3}


def test_plan_cycle_among_pairs_relieves_the_heaviest() -> None:
    objects = [living(number, 2, 3) for number in range(1, 11)] + [living(number, 2, 4) for number in range(11, 14)]
    plan = plan_cycle(objects, SETS, a_disk(DISK, 7 * BLOCK), Policy(), NOW, Random(1))
    assert {copy.object_id for copy in plan.copies} <= set(range(1, 11))


def test_plan_cycle_six_equal_disks_lose_little_with_the_worst_pair() -> None:
    count, disks = 3000, range(1, 7)
    holders = {number: frozenset[int]() for number in range(count)}
    for disk in disks:
        sets = dict(enumerate(set(holders.values()), start=1))
        identifiers = {members: number for number, members in sets.items()}
        objects = [an_object(number, 0, identifiers[members], 1, 0, 0) for number, members in holders.items()]
        plan = plan_cycle(objects, sets, a_disk(disk, count * 4 // 10 * BLOCK), Policy(), NOW, Random(disk))
        for copy in plan.copies:
            holders[copy.object_id] |= {disk}
    lost = [sum(members <= set(dead) for members in holders.values()) for dead in itertools.combinations(disks, 2)]
    # 0.04 is the mean, which no plan beats; filling the fewest copies first cannot do better than 0.075.
    assert max(lost) <= 0.085 * count


def test_plan_cycle_file_too_large_for_the_file_system_is_counted_apart() -> None:
    disk = a_disk(DISK, 2**50, largest_file=2**32 - 1)
    objects = [an_object(1, 2**32, 1, 1, 0, 0), an_object(2, 2**32 - 1, 1, 1, 0, 0)]
    plan = plan_cycle(objects, SETS, disk, Policy(), NOW, Random(1))
    assert ([copy.object_id for copy in plan.copies], plan.too_large, plan.unplaced_objects) == ([2], 1, 0)


def test_plan_cycle_copy_limit_is_used_up_by_what_still_fits() -> None:
    disk = a_disk(DISK, 2**50)
    objects = [an_object(number, size, 1, 1, 0, 0) for number, size in ((1, 700), (2, 400), (3, 100))]
    plan = plan_cycle(objects, SETS, disk, Policy(copy_limit=500), NOW, Random(1))
    assert {copy.object_id for copy in plan.copies} == {2, 3}
    assert (plan.unplaced_objects, plan.unplaced_bytes) == (1, 700)


def test_plan_cycle_many_small_victims_beside_large_ones_takes_linear_time() -> None:
    """Small victims that never suffice by themselves must not be taken up and put back for each newcomer."""
    small = [living(number, 1, 2, 3) for number in range(50_000)]
    beside = [living(200_000 + number, 1, 2, blocks=90_000) for number in range(1000)]
    coming = [living(300_000 + number, blocks=90_000) for number in range(1000)]
    disk = a_disk(DISK, (50_000 + 1000 * 90_000) * BLOCK)
    began = time.process_time()
    plan = plan_cycle([*small, *beside, *coming], SETS, disk, Policy(), NOW, Random(1))
    assert time.process_time() - began < 5
    assert len(plan.copies) == 1000


def wishing(item: ObjectFacts, copies: int) -> ObjectFacts:
    return item._replace(copies=copies)


def test_plan_cycle_what_lacks_wanted_copies_comes_before_what_has_as_many_as_protect() -> None:
    objects = [living(1, 2, 3), wishing(living(2, 2, 3, 4), 4), living(3, 2), wishing(living(4, 2), 3)]
    assert [step[1] for step in story(objects, blocks=9)][2:] == [2, 1]
    assert {step[1] for step in story(objects, blocks=9)[:2]} == {3, 4}


def test_plan_cycle_what_wants_two_copies_gets_no_third_and_gives_one_up_for_any_other() -> None:
    assert story([wishing(living(1, 2, 3), 2), wishing(living(2), 1)], blocks=9) == [("copy", 2, Reason.FIRST_COPY)]
    assert story([wishing(living(1, 1, 2, 3), 2), living(2, 2, 3, 4)], blocks=1) == [
        ("evict", 1, Reason.BETTER_PROTECTED),
        ("copy", 2, Reason.MORE_COPIES),
    ]
    assert story([wishing(living(1, 1, 2, 3), 3), living(2, 2, 3, 4)], blocks=1) == []


def test_plan_cycle_a_file_that_wants_many_copies_takes_no_room_of_what_lacks_some() -> None:
    objects = [wishing(living(1, 1, 2, 3), 3), living(2, 1, 2), wishing(living(3, 2), 4)]
    assert story(objects, blocks=2) == [("evict", 1, Reason.BETTER_PROTECTED), ("copy", 3, Reason.MORE_COPIES)]


def test_plan_cycle_with_other_protect_copies_other_things_are_protected() -> None:
    objects = [living(1, 1, 2, 3), wishing(living(2, 2, 3), 3)]
    assert story(objects, blocks=1) == [("evict", 1, Reason.BETTER_PROTECTED), ("copy", 2, Reason.MORE_COPIES)]
    assert story(objects, blocks=1, policy=Policy(protect_copies=3)) == []


def test_plan_cycle_prefers_bytes_or_files_when_room_runs_out() -> None:
    objects = [living(1, blocks=8), *[living(number, blocks=2) for number in range(2, 6)]]
    assert [step[1] for step in story(objects, blocks=9)] == [1]
    assert {step[1] for step in story(objects, blocks=9, policy=Policy(prefer="files"))} == {2, 3, 4, 5}
    assert {step[1] for step in story(objects, blocks=16)} == {1, 2, 3, 4, 5}


def test_plan_cycle_a_copy_prefers_a_place_that_has_none() -> None:
    disk = a_disk(DISK, 2 * BLOCK, place="bank")
    shelf = [disk, a_disk(2, 2**40, place="bank"), a_disk(3, 2**40, place="home"), a_disk(4, 2**40)]
    objects = [living(1, 2), living(2, 2), living(3, 2), living(4, 3), living(5, 4)]
    plan = plan_cycle(objects, SETS, disk, Policy(), NOW, Random(1), shelf)
    assert {copy.object_id for copy in plan.copies} == {4, 5}
    without = plan_cycle(objects, SETS, a_disk(DISK, 2 * BLOCK), Policy(), NOW, Random(1))
    assert {copy.object_id for copy in without.copies} <= {1, 2, 3}


def test_plan_cycle_exchanges_a_copy_for_one_whose_holders_would_lose_much_together() -> None:
    """Disks 2 and 3 alone would lose four objects; disk 1 holds a third copy of what 3 and 4 have."""
    objects = [living(number, 2, 3) for number in range(1, 5)] + [living(5, 1, 3, 4)]
    disk = a_disk(DISK, BLOCK)
    plan = plan_cycle(objects, SETS, disk, Policy(rebalance=1.0), NOW, Random(1))
    assert [(step.object_id > 4, step.reason) for step in steps(plan)] == [
        (True, Reason.SPREAD_ELSEWHERE),
        (False, Reason.MORE_EVEN),
    ]
    assert plan.rebalanced_bytes == plan.copy_bytes
    for policy in (Policy(rebalance=0), Policy(rebalance=1.0, evict=False), Policy(rebalance=1.0, brake=True)):
        assert plan_cycle(objects, SETS, disk, policy, NOW, Random(1)) == Plan(
            used_before=BLOCK, unplaced_objects=4, unplaced_bytes=0
        )
    assert not plan_cycle(objects, SETS, disk, Policy(rebalance=1.0, protect_copies=3), NOW, Random(1)).copies
    even = [living(1, 2, 3), living(2, 2, 4), living(3, 1, 3, 4)]
    assert not plan_cycle(even, SETS, disk, Policy(rebalance=1.0), NOW, Random(1)).copies


def test_plan_cycle_exchanges_no_more_than_the_budget() -> None:
    size = 99 * BLOCK
    objects = [an_object(number, size, SET_ID[frozenset({2, 3})], 1, 0, 0) for number in range(1, 41)]
    objects += [an_object(number, size, SET_ID[frozenset({1, 3, 4})], 1, 0, 0) for number in range(41, 81)]
    disk = a_disk(DISK, 40 * 100 * BLOCK)
    plan = plan_cycle(objects, SETS, disk, Policy(rebalance=0.25), NOW, Random(1))
    assert plan.copy_bytes == plan.rebalanced_bytes == 10 * size
    limited = plan_cycle(objects, SETS, disk, Policy(rebalance=0.25, copy_limit=3 * size), NOW, Random(1))
    assert limited.copy_bytes == 3 * size


def test_plan_cycle_a_disk_of_no_size_takes_nothing() -> None:
    plan = plan_cycle([living(1), living(2, 1, 2)], SETS, a_disk(DISK, 0), Policy(), NOW, Random(1))
    assert (plan.copies, plan.evictions, plan.unplaced_objects) == ((), (), 1)


def test_plan_cycle_copies_on_a_disk_that_the_shelf_does_not_name_do_not_count() -> None:
    disk = a_disk(DISK, 2 * BLOCK)
    objects = [living(1, 4), living(2, 1, 4), living(3, 2)]
    plan = plan_cycle(objects, SETS, disk, Policy(), NOW, Random(1), [disk, a_disk(2, BLOCK), a_disk(3, BLOCK)])
    assert plan.copies == (Copy(1, 0, 0, Reason.FIRST_COPY),)
    plan = plan_cycle(objects, SETS, a_disk(DISK, BLOCK), Policy(), NOW, Random(1), [disk])
    assert not plan.all_evictions()


def test_plan_cycle_holders_that_are_no_known_set_are_refused() -> None:
    with pytest.raises(ValueError, match="object 7 names the holder set 99, which is not there"):
        plan_cycle([an_object(7, 1, 99, 1, 0, 0)], SETS, a_disk(DISK, BLOCK), Policy(), NOW, Random(1))


def test_plan_cycle_an_object_larger_than_every_disk_is_named_and_all_else_planned() -> None:
    disk = a_disk(DISK, 10 * BLOCK)
    shelf = [disk, a_disk(2, 20 * BLOCK, largest_file=15 * BLOCK)]
    objects = [living(1, blocks=12), living(2, blocks=17), living(3), living(4, 2, blocks=18)]
    plan = plan_cycle(objects, SETS, disk, Policy(), NOW, Random(1), shelf)
    assert [copy.object_id for copy in plan.copies] == [3]
    assert (plan.fit_nowhere, plan.fit_nowhere_ids, plan.unplaced_objects) == (1, (2,), 3)
    many = [living(number, blocks=50) for number in range(100)]
    plan = plan_cycle(many, SETS, disk, Policy(), NOW, Random(1), shelf)
    assert (plan.fit_nowhere, len(plan.fit_nowhere_ids)) == (100, 20)


def test_plan_cycle_sizes_that_no_file_system_knows_are_too_large_anywhere() -> None:
    disk = a_disk(DISK, 2**70)
    objects = [an_object(1, 2**63, 1, 1, 0, 0), an_object(2, 2**63 - 1, 1, 1, 0, 0), an_object(3, 2**64, 1, 1, 0, NOW)]
    plan = plan_cycle(objects, SETS, disk, Policy(), NOW, Random(1), [disk])
    assert [copy.object_id for copy in plan.copies] == [2]
    assert (plan.too_large, plan.fit_nowhere_ids) == (1, (1,))
    held = plan_cycle([an_object(1, 2**63, 2, 1, 0, 0)], SETS, disk, Policy(), NOW, Random(1))
    assert (held.used_before, held.all_evictions()) == (2**63 + BLOCK, [])


def test_plan_cycle_hundred_thousand_objects_take_little_time() -> None:
    """Measured 0.3 s; a tenth of what is bearable for ten million."""
    rng = Random(1)
    sizes = [int(rng.lognormvariate(12, 2.5)) for _ in range(100_000)]
    objects = [an_object(number, size, rng.choice(sorted(SETS)), 1, 0, 0) for number, size in enumerate(sizes)]
    capacity = sum(map(footprint, sizes)) // 2
    began = time.process_time()
    plan = plan_cycle(objects, SETS, a_disk(DISK, capacity), Policy(), NOW, Random(1))
    assert time.process_time() - began < 3
    assert plan.copies


@ANY
@given(crowded_worlds(), st.integers(1, 8 * BLOCK))
def test_plan_cycle_any_world_with_a_shortage_sheds_only_what_stays_protected_and_no_more_than_needed(
    world: World, shortage: int
) -> None:
    world = world._replace(policy=replace(world.policy, shortage=shortage))
    held, plan = world.held(), world.plan()
    unasked = [item for item in plan.evictions if item.reason in (Reason.ORPHAN_EXPIRED, Reason.ABOVE_MAXCOPIES)]
    shed = [item for item in plan.evictions if item not in unasked]
    for eviction in shed:
        item = held[eviction.object_id]
        assert eviction.reason is (Reason.ORPHAN_SECOND_COPY if item.orphaned_at else Reason.NO_ROOM)
        assert eviction.remaining == world.others(item) >= 1
        assert item.orphaned_at or world.standing(item)[0] >= 1
    left = shortage - sum(world.room(item.size) for item in unasked)
    freed = [world.room(item.size) for item in shed]
    might = sum(
        world.room(item.size)
        for item in held.values()
        if world.reason(item) is Reason.ORPHAN_SECOND_COPY
        or (world.reason(item) is Reason.BETTER_PROTECTED and world.standing(item)[0] >= 1)
    )
    assert sum(freed) >= min(left, might)
    assert not freed or sum(freed) - min(freed) < min(left, might), "one copy could have stayed"
    used = plan.used_before - sum(world.room(item.size) for item in plan.evictions)
    for copy in plan.copies:
        used += world.room(copy.size) - sum(world.room(victim.size) for victim in copy.victims)
        assert used <= world.disk.capacity


def test_plan_cycle_with_the_brake_on_sheds_nothing() -> None:
    objects = [living(number, 1, 2, 3) for number in range(1, 5)]
    disk = a_disk(DISK, 0)
    assert len(plan_cycle(objects, SETS, disk, Policy(shortage=BLOCK), NOW, Random(1)).evictions) == 1
    assert not plan_cycle(objects, SETS, disk, Policy(shortage=BLOCK, brake=True), NOW, Random(1)).evictions
