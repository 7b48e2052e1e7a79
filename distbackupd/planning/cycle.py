"""What one cycle does on one disk: which copies leave it, which come, in which order and why.

Steps in order of need: orphans past their grace and copies above ``maxcopies`` go at once. Then objects come, fewest
copies first, then by priority; among equals from those holders with which most would die (:meth:`_Sorted._exposure`),
so that no two disks take more with them than others: a greedy descent on the worst pairs. When room runs out, copies
make way that are worth less, least valuable first (:class:`_Victims`).

An object may take the room only of what keeps, without this copy, at least as many copies as it gets itself. So the sum
of the squares of all copies falls with each such step, and sessions cannot push copies to and fro.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from random import Random

from distbackupd.model.disks import footprint
from distbackupd.model.plans import Copy, DiskFacts, Eviction, ObjectFacts, Plan, Policy, Reason

HolderSets = Mapping[int, frozenset[int]]

_SLICES = 1000
"""In so many slices a disk is filled; which holders are most exposed is looked at once a slice."""
_LOOKED_AT_AGAIN = 250
"""How many victims of one newcomer are tried whether they could stay after all."""


def plan_cycle(
    objects: Iterable[ObjectFacts],
    holder_sets: HolderSets,
    disk: DiskFacts,
    policy: Policy,
    now: int,
    rng: Random,
) -> Plan:
    """The plan of one cycle on ``disk``; see :class:`distbackupd.model.plans.Plan` for its guarantees.

    Time and memory grow linearly with the number of objects (and with their logarithm). Equal input and an ``rng`` of
    equal seed give an equal plan.
    """
    state = _Sorted(holder_sets, disk, policy, now)
    for item in objects:
        state.add(item)
    plan_evictions = (*state.expired, *state.surplus)
    used = state.used_before - sum(footprint(eviction.size, disk.block_size) for eviction in plan_evictions)
    copies: list[Copy] = []
    unplaced = unplaced_bytes = too_large = 0
    limit = policy.copy_limit
    for item in state.candidates(rng):
        need = footprint(item.size, disk.block_size)
        count = len(holder_sets[item.holders])
        if disk.largest_file and item.size > disk.largest_file:
            too_large += 1
            continue
        victims: tuple[Eviction, ...] | None = ()
        if limit is not None and item.size > limit:
            victims = None
        elif used + need > disk.capacity:
            victims = state.victims.make_room(used + need - disk.capacity, count)
        if victims is None:
            unplaced += 1
            unplaced_bytes += item.size
            continue
        used += need - sum(footprint(victim.size, disk.block_size) for victim in victims)
        if limit is not None:
            limit -= item.size
        state.placed(item, need)
        copies.append(Copy(item.id, item.size, count, Reason.MORE_COPIES if count else Reason.FIRST_COPY, victims))
    return Plan(plan_evictions, tuple(copies), state.used_before, unplaced, unplaced_bytes, too_large)


class _Sorted:
    """All objects, sorted into what leaves at once, what may come and what may make way."""

    def __init__(self, holder_sets: HolderSets, disk: DiskFacts, policy: Policy, now: int) -> None:
        self._holder_sets = holder_sets
        self._disk = disk
        self._policy = policy
        self._now = now
        self.used_before = 0
        self.expired: list[Eviction] = []
        self.surplus: list[Eviction] = []
        self.victims = _Victims(disk, policy)
        self._waiting: dict[tuple[int, int], dict[int, list[ObjectFacts]]] = defaultdict(lambda: defaultdict(list))
        self._load: dict[frozenset[int], int] = defaultdict(int)
        self._joined: dict[int, frozenset[int]] = {}
        self._disks = frozenset().union(*holder_sets.values()) - {disk.id}
        self._slice = 0

    def add(self, item: ObjectFacts) -> None:
        """Sort one object in."""
        holders = self._holder_sets[item.holders]
        count = len(holders)
        size = footprint(item.size, self._disk.block_size)
        if not item.orphaned_at:
            self._load[holders] += size
        if self._disk.id not in holders:
            if not item.orphaned_at and self._wanted(item, count):
                self._waiting[count, -item.priority][item.holders].append(item)
            return
        self.used_before += size
        others = count - 1
        if item.orphaned_at:
            if self._now - item.orphaned_at >= self._policy.grace:
                self.expired.append(Eviction(item.id, item.size, others, Reason.ORPHAN_EXPIRED))
            else:
                self.victims.add_orphan(item, others)
        elif not self._policy.evict:
            return
        elif item.maxcopies and others >= item.maxcopies:
            self.surplus.append(Eviction(item.id, item.size, others, Reason.ABOVE_MAXCOPIES))
        elif others:
            self.victims.add_living(item, others)

    def _wanted(self, item: ObjectFacts, count: int) -> bool:
        limit = self._policy.copies_limit
        return not (item.maxcopies and count >= item.maxcopies) and (limit is None or count < limit)

    def candidates(self, rng: Random) -> Iterable[ObjectFacts]:
        """What may come, fewest copies first, then priority, then from those holders that are most exposed."""
        for key in sorted(self._waiting):
            groups = self._waiting.pop(key)
            for items in groups.values():
                # The catalogue's order follows the folders, and whole folders should not share one fate.
                rng.shuffle(items)
            heap = [(-self._exposure(holders), holders) for holders in groups]
            heapq.heapify(heap)
            while heap:
                noted, holders = heapq.heappop(heap)
                exposure = -self._exposure(holders)
                if heap and exposure > noted and exposure > heap[0][0]:
                    heapq.heappush(heap, (exposure, holders))
                    continue
                items = groups[holders]
                self._slice = self._disk.capacity // _SLICES
                while items and self._slice >= 0:
                    yield items.pop()
                if items:
                    heapq.heappush(heap, (-self._exposure(holders), holders))

    def _exposure(self, holders: int) -> int:
        """How much a copy here takes off the worst: bytes that die with these disks.

        Of a single holder, those that die with it and any one more disk, summed over all that are not this one: what
        comes here survives each of these pairs.
        """
        members = self._holder_sets[holders]
        if len(members) != 1:
            return self._load[members]
        alone = self._load[members]
        return sum(
            alone + self._load[frozenset((other,))] + self._load[members | {other}] for other in self._disks - members
        )

    def placed(self, item: ObjectFacts, need: int) -> None:
        """Note that the object comes to the disk."""
        self._load[self._holder_sets[item.holders]] -= need
        self._load[self._with_disk(item.holders)] += need
        self._slice -= need

    def _with_disk(self, holders: int) -> frozenset[int]:
        joined = self._joined.get(holders)
        if joined is None:
            joined = self._joined[holders] = self._holder_sets[holders] | {self._disk.id}
        return joined


class _Victims:
    """Copies on the disk that may make way, least valuable first.

    First second copies of orphans in grace, then copies of the best-protected living objects (lowest priority first),
    at last the last copies of orphans in grace, and those only for the first copy of a living object.
    """

    def __init__(self, disk: DiskFacts, policy: Policy) -> None:
        self._disk = disk
        self._evict = policy.evict
        self._orphans: list[Eviction] = []
        self._last_orphans: list[tuple[int, Eviction]] = []
        self._living: dict[int, list[tuple[int, Eviction]]] = defaultdict(list)
        self._room: dict[int, int] = defaultdict(int)
        self._orphan_room = 0
        self._last_orphan_room = 0
        self._sorted = False

    def add_orphan(self, item: ObjectFacts, others: int) -> None:
        """A copy of an orphan in grace."""
        if others:
            self._orphans.append(Eviction(item.id, item.size, others, Reason.ORPHAN_SECOND_COPY))
            self._orphan_room += self._size(item.size)
        else:
            eviction = Eviction(item.id, item.size, 0, Reason.ORPHAN_LAST_COPY)
            self._last_orphans.append((item.orphaned_at, eviction))
            self._last_orphan_room += self._size(item.size)

    def add_living(self, item: ObjectFacts, others: int) -> None:
        """A copy of a living object that ``others`` more disks hold, at least one."""
        self._living[others].append((item.priority, Eviction(item.id, item.size, others, Reason.BETTER_PROTECTED)))
        self._room[others] += self._size(item.size)

    def make_room(self, need: int, copies: int) -> tuple[Eviction, ...] | None:
        """Victims of at least ``need`` bytes of footprint for an object that has ``copies`` copies; None: no way.

        Every living victim keeps at least ``copies + 1`` copies: as many as the newcomer gets.
        """
        levels = sorted((others for others in self._living if others >= copies + 1), reverse=True)
        room = self._orphan_room + sum(self._room[others] for others in levels)
        if not copies:
            room += self._last_orphan_room
        if room < need:
            return None
        self._sort()
        victims: list[Eviction] = []
        while need > 0 and self._orphans:
            need -= self._take(victims, self._orphans.pop())
        for others in levels:
            while need > 0 and self._living[others]:
                need -= self._take(victims, self._living[others].pop()[1])
        while need > 0 and not copies and self._last_orphans:
            need -= self._take(victims, self._last_orphans.pop()[1])
        return self._spare_surplus(victims, -need)

    def _sort(self) -> None:
        """Least valuable last, where ``pop`` takes it: of orphans the oldest, of the living the lowest priority."""
        if not self._sorted:
            self._last_orphans.sort(key=lambda pair: -pair[0])
            for items in self._living.values():
                items.sort(key=lambda pair: -pair[0])
            self._sorted = True

    def _take(self, victims: list[Eviction], victim: Eviction) -> int:
        victims.append(victim)
        size = self._size(victim.size)
        self._account(victim, -size)
        return size

    def _spare_surplus(self, victims: list[Eviction], surplus: int) -> tuple[Eviction, ...]:
        """Victims that are not needed after all stay: a large last one may make earlier small ones superfluous.

        Only so many are looked at: else thousands of small ones would be taken up and put back for each large newcomer.
        """
        kept = []
        early, late = victims[:-_LOOKED_AT_AGAIN], victims[-_LOOKED_AT_AGAIN:]
        for victim in reversed(late):
            size = self._size(victim.size)
            if size <= surplus:
                surplus -= size
                self._put_back(victim)
            else:
                kept.append(victim)
        return (*early, *reversed(kept))

    def _put_back(self, victim: Eviction) -> None:
        self._account(victim, self._size(victim.size))
        if victim.reason is Reason.ORPHAN_SECOND_COPY:
            self._orphans.append(victim)
        elif victim.reason is Reason.ORPHAN_LAST_COPY:
            self._last_orphans.append((0, victim))
        else:
            self._living[victim.remaining].append((0, victim))

    def _account(self, victim: Eviction, change: int) -> None:
        if victim.reason is Reason.ORPHAN_SECOND_COPY:
            self._orphan_room += change
        elif victim.reason is Reason.ORPHAN_LAST_COPY:
            self._last_orphan_room += change
        else:
            self._room[victim.remaining] += change

    def _size(self, size: int) -> int:
        return footprint(size, self._disk.block_size)
