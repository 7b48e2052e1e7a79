"""How much of what one disk does not hold dies with others: what a copy to this disk would save.

A *risk* is a set of disks that may die together: any one, any two, any three, or all of one place. Its *loss* is the bytes
of living objects that have copies on these disks alone. The *unevenness* of a shelf is the sum of the squares of all
losses, pairs counted whole, triples at :data:`TRIPLES`: the one number that spreading copies makes smaller. As the sum of
all losses is given by how many copies there are, it is least where all risks lose alike.

A copy on a disk saves its object from every risk that this disk is not part of. So what a session changes is only what
the disk does *not* hold, kept here by the other disks that hold it: a copy takes bytes out, an eviction puts them in.
:meth:`Exposure.of` is the slope of the unevenness: half of what it falls by with each byte that comes out.

Sets of disks are integers here, a bit for each disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from math import comb

TRIPLES = 0.05
"""So little, that the pairs decide; so much, that among plans with equal pairs the triples become even."""
PLACES = 4.0
"""A place (a fire, a burglar) counts as much as four pairs of disks with the same loss."""
_WEIGHTS = {1: 1.0, 2: 1.0, 3: TRIPLES}


class Exposure:
    """The bytes that one disk does not hold, by their holders, and how exposed each set of holders is.

    All answers but the slow one take the same short time, however many disks and holder sets there are.
    """

    def __init__(self, others: Iterable[int], places: Iterable[int] = ()) -> None:
        """``others``: a bit for each other disk. ``places``: the disks of each place that this disk is not at."""
        self._others = list(others)
        self._places = dict.fromkeys(places, 0)
        self._bytes: dict[int, int] = {}
        self._of_count = [0] * 4
        self._around: dict[tuple[int, int], int] = {}

    def move(self, holders: int, size: int) -> None:
        """``size`` bytes more (or fewer, if negative) are on these other disks and not on this one."""
        self._bytes[holders] = self._bytes.get(holders, 0) + size
        for place in self._places:
            if not holders & ~place:
                self._places[place] += size
        count = holders.bit_count()
        if 1 <= count <= 3:
            self._of_count[count] += size
            for part in _parts(holders):
                self._around[part, count] = self._around.get((part, count), 0) + size

    def loss(self, risk: int) -> int:
        """Bytes that have copies on these disks alone."""
        total = 0
        part = risk
        sizes = self._bytes
        while part:
            total += sizes.get(part, 0)
            part = (part - 1) & risk
        return total

    def of(self, holders: int) -> float:
        """How much the unevenness falls, halved, with each byte that comes to the disk from these holders.

        With more than three holders no three disks lose it: then simply the bytes that have the same ones.
        """
        count = holders.bit_count()
        if not 1 <= count <= 3:
            return float(self._bytes.get(holders, 0)) if holders else 0.0
        own = self.loss(holders)
        total = _WEIGHTS[count] * own
        others = len(self._others) - count
        if count == 1:
            pairs = self._around.get((holders, 2), 0)
            beside = self._of_count[1] - own + pairs
            apart = self._of_count[2] - pairs + self._around.get((holders, 3), 0)
            total += _WEIGHTS[2] * (others * own + beside)
            total += TRIPLES * (comb(others, 2) * own + (others - 1) * beside + apart)
        elif count == 2:
            one = holders & -holders
            both = self._bytes.get(holders, 0)
            beside = self._of_count[1] - (own - both) - 2 * both + self._around.get((holders, 3), 0)
            beside += self._around.get((one, 2), 0) + self._around.get((holders ^ one, 2), 0)
            total += TRIPLES * (others * own + beside)
        return total + sum(PLACES * loss for place, loss in self._places.items() if not holders & ~place)

    def curvature(self, holders: int) -> float:
        """By how much :meth:`of` these holders changes with each byte that all of them hold, whoever holds it beside."""
        count, others = holders.bit_count(), len(self._others)
        risks = sum(weight * comb(others - count, size - count) for size, weight in _WEIGHTS.items() if size >= count)
        return risks + sum(PLACES for place in self._places if not holders & ~place)

    def unevenness(self) -> float:
        """The sum of the squares of all losses with risks that this disk is not part of; slow, for tests."""
        total = sum(PLACES * loss * loss for loss in self._places.values())
        for size, weight in _WEIGHTS.items():
            total += sum(weight * self.loss(sum(risk)) ** 2 for risk in combinations(self._others, size))
        return total


def _parts(holders: int) -> Iterator[int]:
    """The sets of one or two of these disks, of one to three."""
    part = holders
    while part:
        if part.bit_count() < 3:
            yield part
        part = (part - 1) & holders
