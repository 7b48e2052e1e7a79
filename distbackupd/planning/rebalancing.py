"""Copies exchanged on one disk only to spread the risk: after all that protects more, and within a budget.

An exchange takes copies of some objects and brings copies of others. The newcomers have so many copies elsewhere, are
protected with them, and their holders lose much together; the victims keep as many, are protected with them, and their
holders lose less together. So no object ever falls below what protects it. And a plan exchanges no more bytes for fewer: at
its end at least as many bytes as before have so many copies and one more.

Such exchanges come to an end. Every other step of any plan makes the bytes that stand worst fewer, and the exchanges of a
plan make them no more; so only finitely many other steps are possible while nothing grows, shrinks or dies. Between
two of them each exchange makes the unevenness (:mod:`~distbackupd.planning.exposure`) strictly less, and there are only
finitely many ways to place the copies. Both are property-tested over many sessions.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from math import inf

from distbackupd.model.plans import Copy, DiskFacts, Eviction, Reason
from distbackupd.planning.exposure import Exposure
from distbackupd.planning.groups import PROTECTED
from distbackupd.planning.queues import Remainder
from distbackupd.planning.victims import Victims

_WORTH_IT = 0.05
"""By so much of its exposure a newcomer must be more exposed than the victim will be: wear for less is no gain."""
_SLICES = 50
"""In so many slices the budget is spent; after each it is looked at again what is most and least exposed."""


class Rebalancing:
    """One disk, full, and what could not come."""

    def __init__(
        self, left: Iterable[Remainder], victims: Victims, exposure: Exposure, disk: DiskFacts, free: int, places: int
    ) -> None:
        self._exposure = exposure
        self._disk = disk
        self.free = free
        """Bytes of room on the disk after all exchanges so far."""
        self.places = places
        """How many objects more it may hold then."""
        self._levels = []
        for copies in (1, 2, 3):
            coming = [item for item in left if item.group.standing == PROTECTED + copies]
            pools = [pool for pool in victims.pools if pool.exposed and pool.room and pool.standing == PROTECTED + copies]
            if coming and pools:
                leaving = [Remainder(pool.group, pool.staying()) for pool in pools]
                self._levels.append((_Ranking(coming, exposure, -1), _Ranking(leaving, exposure, 1)))

    def exchange(self, budget: int) -> list[Copy]:
        """Exchanges until ``budget`` bytes are copied or none is worth it, among the fewest copies that allow any.

        What comes together in the room of the same victims comes in a row; the first of them has the victims.
        """
        for coming, leaving in self._levels:
            found = self._exchange_at(coming, leaving, budget)
            if found:
                return found
        return []

    def _exchange_at(self, coming: _Ranking, leaving: _Ranking, budget: int) -> list[Copy]:
        part = max(1, budget // _SLICES)
        free = self.free
        copies: list[Copy] = []
        sources: list[Remainder] = []
        kept, free_when_kept, places_when_kept = 0, free, self.places
        while budget > 0 and coming.exposure() - leaving.exposure() > _WORTH_IT * coming.exposure():
            newcomers = coming.first()
            for exchange in self._exchange_between(coming, leaving, budget, part):
                copies += exchange
                sources += [newcomers] * len(exchange)
                budget -= sum(copy.size for copy in exchange)
                if self.free <= free:
                    kept, free_when_kept, places_when_kept = len(copies), self.free, self.places
        # Beyond that more bytes would leave than come.
        for copy, source in zip(copies[kept:], sources[kept:], strict=True):
            source.put_back(copy.object_id, copy.size)
        self.free, self.places = free_when_kept, places_when_kept
        return copies[:kept]

    def _exchange_between(self, coming: _Ranking, leaving: _Ranking, budget: int, part: int) -> Iterator[list[Copy]]:
        """A slice of exchanges between those that are most and least exposed; if there is none, one of them is struck."""
        newcomers, stock = coming.first(), leaving.first()
        balance = _Balance(self._exposure, newcomers.group.mask, stock.group.mask)
        end = max(0, budget - part)
        largest = balance.amount()
        while budget > end:
            largest = min(largest, balance.amount())
            first = newcomers.largest(min(budget, self._disk.largest_within(largest)))
            if first is None:
                break
            size = newcomers.size_at(first)
            need = self._disk.footprint(size) - self.free
            leave = stock.covering(self._disk, need if self.places > 0 else max(1, need))
            if leave is None:
                largest = self._disk.footprint(size) // 2
                continue
            left = sum(self._disk.footprint(stock.size_at(position)) for position in leave)
            others = self.places + len(leave) - 1
            come = [first, *newcomers.packed(self._disk, left - need, budget - size, first, others)]
            came = sum(self._disk.footprint(newcomers.size_at(position)) for position in come)
            if not balance.gains(came, left):
                largest = self._disk.footprint(size) // 2
                continue
            balance.move(came, left)
            self.free += left - came
            self.places += len(leave) - len(come)
            exchange = self._copies(newcomers, come, stock, leave)
            budget -= sum(copy.size for copy in exchange)
            yield exchange
        if not balance.came:
            # They do not fit each other; who has less to give is missed less.
            (coming if newcomers.content < stock.content else leaving).strike()
            return
        self._exposure.move(newcomers.group.mask, -balance.came)
        self._exposure.move(stock.group.mask, balance.left)

    def _copies(self, newcomers: Remainder, come: Sequence[int], stock: Remainder, leave: Sequence[int]) -> list[Copy]:
        """The steps of one exchange; positions from the largest down."""
        remaining, count = stock.group.copies, newcomers.group.copies
        victims = tuple(Eviction(*stock.take(position), remaining, Reason.SPREAD_ELSEWHERE) for position in leave)
        first, *others = [newcomers.take(position) for position in come]
        return [
            Copy(*first, count, Reason.MORE_EVEN, victims),
            *(Copy(identifier, size, count, Reason.MORE_EVEN) for identifier, size in others),
        ]


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


class _Ranking:
    """Groups by exposure; what is noted of one is trusted until it comes first."""

    def __init__(self, items: Iterable[Remainder], exposure: Exposure, sign: int) -> None:
        """``sign`` 1: the least exposed first; -1: the most exposed."""
        self._items: list[Remainder] = list(items)
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

    def first(self) -> Remainder:
        """The first, as of the last :meth:`exposure`."""
        return self._items[self._heap[0][1]]

    def strike(self) -> None:
        """The first has nothing to give any more."""
        heapq.heappop(self._heap)
