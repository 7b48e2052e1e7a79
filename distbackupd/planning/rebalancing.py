"""Copies exchanged on one disk only to spread the risk: after all that protects more, and within a budget.

An exchange takes the copy of one object and brings copies of one or more others. The newcomers have so many copies
elsewhere, are protected with them, and their holders lose much together; the victim keeps as many, is protected with them,
and its holders lose less together. So no object ever falls below what protects it, and no fewer objects than before have so
many copies and one more: the victim has changed places with a newcomer.

Such exchanges come to an end. Every other step of any plan makes those that stand worst fewer, and no exchange makes them
more; so only finitely many other steps are possible while nothing grows, shrinks or dies. Between two of them each exchange
makes the unevenness (:mod:`~distbackupd.planning.exposure`) strictly less, and there are only finitely many ways to place
the copies. Both are property-tested over many sessions.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from math import inf
from typing import Generic, TypeVar

from distbackupd.model.plans import Copy, DiskFacts, Eviction, Reason
from distbackupd.planning.exposure import Exposure
from distbackupd.planning.groups import PROTECTED, Pool
from distbackupd.planning.queues import Remainder
from distbackupd.planning.victims import Victims

_WORTH_IT = 0.05
"""By so much of its exposure a newcomer must be more exposed than the victim will be: wear for less is no gain."""
_SLICES = 50
"""In so many slices the budget is spent; after each it is looked at again what is most and least exposed."""


class Rebalancing:
    """One disk, full, and what could not come."""

    def __init__(self, left: Iterable[Remainder], victims: Victims, exposure: Exposure, disk: DiskFacts, free: int) -> None:
        self._exposure = exposure
        self._victims = victims
        self._disk = disk
        self.free = free
        self._levels = []
        for copies in (1, 2, 3):
            coming = [item for item in left if item.group.standing == PROTECTED + copies]
            leaving = [pool for pool in victims.pools if pool.exposed and pool.room and pool.standing == PROTECTED + copies]
            if coming and leaving:
                self._levels.append((_Ranking(coming, exposure, -1), _Ranking(leaving, exposure, 1)))

    def exchange(self, budget: int) -> Iterator[Copy]:
        """Exchanges until ``budget`` bytes are copied or none is worth it. Each has at most one victim."""
        part = max(1, budget // _SLICES)
        while budget > 0:
            best = None
            for coming, leaving in self._levels:
                gain = coming.exposure() - leaving.exposure()
                if gain > _WORTH_IT * coming.exposure() and (best is None or gain > best[0]):
                    best = (gain, coming, leaving)
            if best is None:
                return
            for copy in self._exchange_between(best[1], best[2], budget, part):
                budget -= copy.size
                yield copy

    def _exchange_between(
        self, coming: _Ranking[Remainder], leaving: _Ranking[Pool], budget: int, part: int
    ) -> Iterator[Copy]:
        """A slice of exchanges between those that are most and least exposed; if there is none, one of them is struck."""
        newcomers, pool = coming.first(), leaving.first()
        balance = _Balance(self._exposure, newcomers.group.mask, pool.group.mask)
        end = max(0, budget - part)
        largest = balance.amount()
        while budget > end:
            largest = min(largest, balance.amount(), self._disk.footprint(budget))
            victim = pool.near(largest)
            if victim is None:
                break
            freed = self._disk.footprint(pool.size_at(victim))
            positions = newcomers.packed(self._disk, self.free + freed, budget)
            if not positions:
                break
            sizes = [newcomers.size_at(position) for position in positions]
            came = sum(map(self._disk.footprint, sizes))
            if not balance.gains(came, freed):
                largest = freed // 2
                continue
            balance.move(came, freed)
            self.free += freed - came
            budget -= sum(sizes)
            victims: tuple[Eviction, ...] = (pool.take(victim)._replace(reason=Reason.SPREAD_ELSEWHERE),)
            for position in positions:
                identifier, size = newcomers.take(position)
                yield Copy(identifier, size, newcomers.group.copies, Reason.MORE_EVEN, victims)
                victims = ()
        if not balance.came:
            # They do not fit each other; who has less to give is missed less.
            (coming if newcomers.content < pool.room else leaving).strike()
            return
        self._exposure.move(newcomers.group.mask, -balance.came)
        self._exposure.move(pool.group.mask, balance.left)


class _Balance:
    """How the unevenness changes while bytes of one holder set come and of another leave."""

    def __init__(self, exposure: Exposure, coming: int, leaving: int) -> None:
        self._of_coming = exposure.of(coming)
        self._of_leaving = exposure.of(leaving)
        self._curve_coming = exposure.curvature(coming)
        self._curve_leaving = exposure.curvature(leaving)
        self._curve_both = exposure.curvature(coming | leaving)
        self.came = 0
        self.left = 0

    def amount(self) -> int:
        """With so many bytes exchanged both would be equally exposed."""
        curve = self._curve_coming + self._curve_leaving - 2 * self._curve_both
        return int((self._of_coming - self._of_leaving) / curve) if curve > 0 else 0

    def gains(self, came: int, left: int) -> bool:
        """Whether the unevenness becomes less if so many bytes more come and leave."""
        slope = 2 * (left * self._of_leaving - came * self._of_coming)
        curve = came * came * self._curve_coming + left * left * self._curve_leaving - 2 * came * left * self._curve_both
        return slope + curve < 0

    def move(self, came: int, left: int) -> None:
        """So many bytes more come and leave."""
        self._of_coming -= came * self._curve_coming - left * self._curve_both
        self._of_leaving += left * self._curve_leaving - came * self._curve_both
        self.came += came
        self.left += left


Item = TypeVar("Item", Remainder, Pool)


class _Ranking(Generic[Item]):
    """Groups by exposure; what is noted of one is trusted until it comes first."""

    def __init__(self, items: Iterable[Item], exposure: Exposure, sign: int) -> None:
        """``sign`` 1: the least exposed first; -1: the most exposed."""
        self._items: list[Item] = list(items)
        self._of = exposure.of
        self._sign = sign
        self._heap = [(sign * self._of(item.group.mask), number) for number, item in enumerate(self._items)]
        heapq.heapify(self._heap)

    def exposure(self) -> float:
        """Of the first. Where none is left: so that nobody gains by it."""
        while self._heap:
            noted, number = self._heap[0]
            now = self._sign * self._of(self._items[number].group.mask)
            heapq.heapreplace(self._heap, (now, number))
            if now <= noted or self._heap[0][1] == number:
                return self._sign * now
        return -inf * -self._sign

    def first(self) -> Item:
        """The first, as of the last :meth:`exposure`."""
        return self._items[self._heap[0][1]]

    def strike(self) -> None:
        """The first has nothing to give any more."""
        heapq.heappop(self._heap)
