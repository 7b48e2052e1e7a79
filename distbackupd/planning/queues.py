"""In which order the objects of a group come when not all of them fit, and what is left over."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain, compress
from math import gcd
from typing import Literal

from distbackupd.model.plans import DiskFacts
from distbackupd.planning.groups import Group

_BULKY = 64
"""An object that takes more than this part of the disk is hard to place later, and comes first."""
_SMALL_BLOCKS = 16
"""An object of fewer blocks takes more than a tenth more than its content, and comes last."""
_TOGETHER = 1000
"""So many objects at the most come or leave together when the risk is spread."""


class Queue:
    """The objects of a sorted group in the order in which they come.

    To protect most bytes: bulky ones first, from the largest down; then ordinary ones, large and small mixed alike, so that
    no disk gets other kinds of files than the others, nor whole folders; small ones last, for they cost more than they
    hold. When one does not fit any more, the rest follow from the largest down, as far as they fit. To protect most files:
    from the smallest up.
    """

    def __init__(self, group: Group, disk: DiskFacts, prefer: Literal["bytes", "files"], first: int) -> None:
        """``first``, any number, chooses the order of ordinary ones."""
        group.sort()
        self.group = group
        self.exhausted = False
        self._smallest_first = prefer == "files"
        self._first = first
        self._waits = bytearray(b"\1") * len(group)
        self._bulky = bisect_right(group.sizes, disk.capacity // _BULKY)
        self._small = min(self._bulky, bisect_left(group.sizes, _SMALL_BLOCKS * disk.block_size))
        self._order = self._order_below(len(group))
        self._rest: array[int] | None = None

    @property
    def left(self) -> array[int]:
        """Where those stand that did not come, ascending."""
        return array("q", compress(range(len(self.group)), self._waits))

    def next(self, largest: int) -> int | None:
        """Where the next one stands that is no larger than that; None: there is none any more.

        ``largest`` must not grow from call to call.
        """
        sizes = self.group.sizes
        while self._rest is None:
            position = next(self._order, None)
            if position is None or (sizes[position] > largest and self._smallest_first):
                self.exhausted = True
                return None
            if sizes[position] <= largest:
                self._waits[position] = 0
                return position
            if position >= self._bulky:
                self._order = self._order_below(bisect_right(sizes, largest))
            else:
                self._rest = self.left
        fitting = bisect_right(self._rest, largest, key=sizes.__getitem__)
        if not fitting:
            self.exhausted = True
            return None
        position = self._rest[fitting - 1]
        del self._rest[fitting - 1 :]
        self._waits[position] = 0
        return position

    def _order_below(self, end: int) -> Iterator[int]:
        if self._smallest_first:
            return iter(range(end))
        bulky = range(end - 1, self._bulky - 1, -1)
        return chain(bulky, _strewn(self._small, self._bulky, self._first), range(self._small - 1, -1, -1))


def _strewn(start: int, end: int, first: int) -> Iterator[int]:
    """All numbers from ``start`` to ``end``, neighbours far from each other: steps near the golden ratio."""
    count = end - start
    if not count:
        return iter(())
    step = int(count * 0.6180339887498949) | 1
    while gcd(step, count) > 1:
        step += 2
    first %= count
    return (start + position % count for position in range(first, first + step * count, step))


class Remainder:
    """What of a group found no room, or what of it could still leave."""

    def __init__(self, group: Group, positions: Sequence[int] | None) -> None:
        """``positions``: where in the sorted group they stand, ascending; None: all of it."""
        self.group = group
        self._positions = positions
        self._columns: tuple[array[int], array[int]] | None = None

    @property
    def content(self) -> int:
        """Bytes of content of all of them."""
        return sum(self._sorted()[1])

    def largest(self, limit: int) -> int | None:
        """Where the largest stands that is no larger than ``limit``; None: there is none."""
        if self._columns is None and not self.group.sorted and min(self.group.sizes) > limit:
            return None
        position = bisect_right(self._sorted()[1], limit) - 1
        return position if position >= 0 else None

    def packed(self, disk: DiskFacts, room: int, content: int, end: int, most: int) -> list[int]:
        """Where objects stand, the largest first, that together take no more than ``room`` and have so much content.

        All of them stand before ``end``, and they are ``most`` at the most.
        """
        sizes = self._sorted()[1]
        found: list[int] = []
        most = min(most, _TOGETHER)
        while end and len(found) < most:
            position = bisect_right(sizes, min(disk.largest_within(room), content), 0, end) - 1
            if position < 0:
                break
            found.append(position)
            room -= disk.footprint(sizes[position])
            content -= sizes[position]
            end = position
        return found

    def covering(self, disk: DiskFacts, room: int) -> list[int] | None:
        """Where objects stand, the largest first, that together take at least ``room``, none without need; None: too few."""
        sizes = self._sorted()[1]
        found: list[int] = []
        end = len(sizes)
        while room > 0:
            position = bisect_left(sizes, disk.largest_within(room - 1) + 1, 0, end)
            if position == end:
                position = end = end - 1
                if position < 0 or len(found) == _TOGETHER:
                    return None
            found.append(position)
            room -= disk.footprint(sizes[position])
        return found

    def size_at(self, position: int) -> int:
        """The size of the object that stands there."""
        return self._sorted()[1][position]

    def take(self, position: int) -> tuple[int, int]:
        """Its id and size; it is taken out."""
        ids, sizes = self._sorted()
        return ids.pop(position), sizes.pop(position)

    def put_back(self, identifier: int, size: int) -> None:
        """It is there again."""
        ids, sizes = self._sorted()
        position = bisect_right(sizes, size)
        ids.insert(position, identifier)
        sizes.insert(position, size)

    def _sorted(self) -> tuple[array[int], array[int]]:
        if self._columns is None:
            self.group.sort()
            ids, sizes = self.group.ids, self.group.sizes
            if self._positions is not None:
                ids = array("q", map(ids.__getitem__, self._positions))
                sizes = array("q", map(sizes.__getitem__, self._positions))
            self._columns = ids, sizes
        return self._columns
