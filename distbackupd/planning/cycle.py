"""What one cycle does on one disk: which copies leave it, which come, in which order and why.

Steps in order of need: orphans past their grace and copies above ``maxcopies`` go at once, and then, if the disk has less
room than it holds, copies of what stays protected without them. Then objects come: first those
that lack copies they need, fewest copies first, then by priority; what has none yet where the disk is kept goes before
equals. Among equals those come whose holders lose most together (:mod:`~distbackupd.planning.exposure`), so that no two
disks take more with them than others. When room runs out, copies make way that are worth less, least valuable first
(:mod:`~distbackupd.planning.victims`). At last, within a budget, copies are exchanged only to spread the risk
(:mod:`~distbackupd.planning.rebalancing`).

An object may take the room only of what stands better without this copy than the object stood before. So each newcomer
makes those that stand worst fewer, and sessions cannot push copies to and fro.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from random import Random

from distbackupd.model.plans import AnyFacts, Copy, DiskFacts, Eviction, Plan, Policy, Reason
from distbackupd.planning.groups import PROTECTED, Group
from distbackupd.planning.queues import Queue, Remainder
from distbackupd.planning.rebalancing import Rebalancing
from distbackupd.planning.sorting import Sorted
from distbackupd.planning.victims import Victims

HolderSets = Mapping[int, frozenset[int]]

_SLICES = 1000
"""In so many slices a disk is filled; which holders are most exposed is looked at once a slice."""
_NO_LIMIT = 1 << 63


def plan_cycle(
    objects: Iterable[AnyFacts],
    holder_sets: HolderSets,
    disk: DiskFacts,
    policy: Policy,
    now: int,
    rng: Random,
    shelf: Sequence[DiskFacts] = (),
) -> Plan:
    """The plan of one cycle on ``disk``; see :class:`distbackupd.model.plans.Plan` for its guarantees.

    ``shelf``: all enrolled disks. Copies on a disk that it does not name do not count: such a disk can never be plugged in.
    Without it every disk is believed in that a holder set names, places do not matter, and nothing is known to fit nowhere.

    Time and memory grow linearly with the number of objects (and with their logarithm). Equal input and an ``rng`` of
    equal seed give an equal plan. Raises ValueError if an object names a holder set that is not there.
    """
    everything = Sorted(objects, holder_sets, disk, policy, now, shelf)
    asked = (*everything.expired, *everything.surplus)
    filling = _Filling(everything, disk, policy, rng.getrandbits(32))
    freed = sum(disk.footprint(eviction.size) for eviction in asked)
    evictions = (*asked, *filling.shed(policy.shortage - freed))
    filling.free += freed - everything.used
    filling.places = max(0, filling.places - (everything.held - len(evictions)))
    for level in filling.levels():
        filling.fill(level)
    if policy.evict and not policy.brake:
        filling.rebalance(int(disk.capacity * policy.rebalance))
    return Plan(
        evictions,
        tuple(filling.copies),
        everything.used,
        filling.unplaced_objects,
        filling.unplaced_bytes,
        everything.too_large,
        filling.unplaced_objects > 0 and filling.places < 1,
        everything.fit_nowhere,
        tuple(everything.fit_nowhere_ids),
    )


class _Filling:
    """The disk while it is filled."""

    def __init__(self, everything: Sorted, disk: DiskFacts, policy: Policy, seed: int) -> None:
        self._everything = everything
        self._disk = disk
        self._policy = policy
        self._seed = seed
        self._exposure = everything.exposure
        self._victims = Victims(everything.pools, everything.exposure, disk.capacity)
        self._limit = _NO_LIMIT if policy.copy_limit is None else policy.copy_limit
        self._left: list[Remainder] = []
        self.free = disk.capacity
        self.places = disk.most_objects or _NO_LIMIT
        """How many objects more the disk may hold."""
        self.copies: list[Copy] = []
        self.unplaced_objects = sum(len(group) for group in everything.waiting)
        self.unplaced_bytes = sum(sum(group.sizes) for group in everything.waiting)

    def shed(self, shortage: int) -> list[Eviction]:
        """Copies of what stays protected, and second ones of orphans, that leave so that less lacks; as few as will do."""
        need = min(shortage, self._victims.room(PROTECTED))
        if need <= 0:
            return []
        victims = self._victims.make_room(need, PROTECTED)
        return [
            victim._replace(reason=Reason.NO_ROOM) if victim.reason is Reason.BETTER_PROTECTED else victim
            for victim in victims
        ]

    def levels(self) -> Iterator[list[Group]]:
        """What may come, those that stand worst first, then by priority."""
        for _, equals in groupby(sorted(self._everything.waiting, key=_need), key=_need):
            yield list(equals)

    def fill(self, level: list[Group]) -> None:
        """Place as many of equals as the disk takes."""
        reach = self.free + self._victims.room(level[0].standing)
        largest = min(self._disk.largest_within(reach), self._limit)
        fitting = []
        for group in level:
            if min(group.sizes) > largest:
                self._left.append(Remainder(group, None))
            else:
                fitting.append(group)
        if self._all_fit(fitting):
            for group in fitting:
                self._place_all(group)
            return
        queues = [Queue(group, self._disk, self._policy.prefer, self._seed) for group in fitting]
        heap = [(self._rank(group), number) for number, group in enumerate(fitting)]
        heapq.heapify(heap)
        while heap:
            noted, number = heapq.heappop(heap)
            queue = queues[number]
            rank = self._rank(queue.group)
            if heap and rank > noted and rank > heap[0][0]:
                heapq.heappush(heap, (rank, number))
                continue
            reach = self._place_slice(queue, reach)
            if queue.exhausted:
                self._left.append(Remainder(queue.group, queue.left))
            else:
                heapq.heappush(heap, (self._rank(queue.group), number))

    def _rank(self, group: Group) -> tuple[bool, float]:
        """First what has no copy yet where the disk is kept, then what is most exposed."""
        return (self._everything.known_place(group), -self._exposure.of(group.mask))

    def _all_fit(self, groups: Sequence[Group]) -> bool:
        content = sum(sum(group.sizes) for group in groups)
        if content > self.free or content > self._limit or sum(map(len, groups)) > self.places:
            return False
        return sum(group.footprint(self._disk) for group in groups) <= self.free

    def _place_all(self, group: Group) -> None:
        count, reason = group.copies, _reason(group)
        self.copies += [
            Copy(identifier, size, count, reason) for identifier, size in zip(group.ids, group.sizes, strict=True)
        ]
        footprint, content = group.footprint(self._disk), sum(group.sizes)
        self.free -= footprint
        self.places -= len(group)
        self._exposure.move(group.mask, -footprint)
        self._limit -= content
        self.unplaced_objects -= len(group)
        self.unplaced_bytes -= content

    def _place_slice(self, queue: Queue, reach: int) -> int:
        """Place a slice of the queue, at least one object unless none fits; what is in reach then."""
        group, disk = queue.group, self._disk
        overhead, block = disk.overhead, disk.block_size
        count, reason = group.copies, _reason(group)
        free, places, limit, copies = self.free, self.places, self._limit, self.copies
        before, placed, content = reach, len(copies), 0
        end = reach - disk.capacity // _SLICES
        while reach >= end:
            if places < 1 and reach <= free:
                limit = -1  # nothing more may leave, so nothing may come
            position = queue.next(min((reach - overhead) // block * block if reach >= overhead else -1, limit))
            if position is None:
                break
            size = group.sizes[position]
            need = overhead - (-size // block) * block
            victims: tuple[Eviction, ...] = ()
            if need > free or places < 1:
                victims = self._victims.make_room(max(1, need - free), group.standing)
                free += sum(disk.footprint(victim.size) for victim in victims)
                places += len(victims)
            free -= need
            places -= 1
            reach -= need
            limit -= size
            content += size
            copies.append(Copy(group.ids[position], size, count, reason, victims))
        self.unplaced_objects -= len(copies) - placed
        self.unplaced_bytes -= content
        self.free, self.places = free, places
        self._limit -= content
        self._exposure.move(group.mask, reach - before)
        return reach

    def rebalance(self, budget: int) -> None:
        """Spread the risk with what is left over, and fill what room that leaves."""
        work = Rebalancing(self._left, self._victims, self._exposure, self._disk, self.free, self.places)
        swaps = work.exchange(min(budget, self._limit))
        if not swaps:
            return
        self.free, self.places = work.free, work.places
        self._count(swaps)
        for remainder in sorted(self._left, key=lambda remainder: _need(remainder.group)):
            while self.places > 0:
                position = remainder.largest(min(self._disk.largest_within(self.free), self._limit))
                if position is None:
                    break
                group = remainder.group
                identifier, size = remainder.take(position)
                self.free -= self._disk.footprint(size)
                self.places -= 1
                self._count([Copy(identifier, size, group.copies, _reason(group))])

    def _count(self, copies: Sequence[Copy]) -> None:
        content = sum(copy.size for copy in copies)
        self.copies += copies
        self._limit -= content
        self.unplaced_objects -= len(copies)
        self.unplaced_bytes -= content


def _need(group: Group) -> tuple[int, int]:
    return (group.standing, -group.priority)


def _reason(group: Group) -> Reason:
    return Reason.MORE_COPIES if group.copies else Reason.FIRST_COPY
