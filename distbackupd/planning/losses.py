"""What is lost when disks die: exact, for any one, two and three of them, from how many bytes each holder set has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True, slots=True)
class Loss:
    """What dies when so many disks die at once, as shares of all bytes (0 to 1).

    ``mean`` over all choices of the disks, ``worst`` with the worst choice, ``worst_disks``, in ascending order.
    """

    disks: int
    mean: float
    worst: float
    worst_disks: tuple[int, ...]


class Losses:
    """How many bytes have copies on given disks alone, for any disks of a shelf.

    Bytes that have no copy at all are lost whatever dies. Time: for all pairs of 60 disks a few milliseconds, for all
    triples less than a tenth of a second, however many holder sets there are.
    """

    def __init__(self, sizes: Mapping[frozenset[int], int], disks: Sequence[int]) -> None:
        """``sizes``: bytes by holders. Holders that are none of ``disks`` are dead already: their copies do not count."""
        known = frozenset(disks)
        self._disks = sorted(known)
        self._sizes: dict[frozenset[int], int] = {}
        for holders, size in sizes.items():
            living = holders & known
            self._sizes[living] = self._sizes.get(living, 0) + size
        self.total = sum(self._sizes.values())
        """All bytes."""
        self.without_copy = self._sizes.get(frozenset(), 0)
        """Bytes that no disk of the shelf holds."""

    def lost(self, dead: Sequence[int]) -> int:
        """Bytes that are lost when these disks die (any number of them)."""
        if len(dead) > 3:
            gone = frozenset(dead)
            return sum(size for holders, size in self._sizes.items() if holders <= gone)
        get = self._sizes.get
        total = self.without_copy
        for count in range(1, len(dead) + 1):
            for holders in combinations(dead, count):
                total += get(frozenset(holders), 0)
        return total

    def of_one(self) -> dict[int, int]:
        """Bytes that die with each disk."""
        return {disk: self.lost((disk,)) for disk in self._disks}

    def of_two(self) -> dict[tuple[int, int], int]:
        """Bytes that die with each two disks, named in ascending order."""
        return {(one, other): self.lost((one, other)) for one, other in combinations(self._disks, 2)}

    def of_place(self, disks: Sequence[int]) -> int:
        """Bytes that exist at one place only, the one of these disks; what has no copy is not among them."""
        return self.lost(disks) - self.without_copy if disks else 0

    def summary(self, most: int = 3) -> list[Loss]:
        """One :class:`Loss` for each number of dead disks, from one to ``most``; some disk stays alive in each.

        Without any bytes nothing is lost.
        """
        found = []
        for count in range(1, min(most, len(self._disks) - 1) + 1):
            choices = list(combinations(self._disks, count))
            lost = [self.lost(dead) for dead in choices]
            worst = max(range(len(lost)), key=lost.__getitem__)
            whole = self.total or 1
            found.append(Loss(count, sum(lost) / len(lost) / whole, lost[worst] / whole, choices[worst]))
        return found
