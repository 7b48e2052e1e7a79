"""How little any two (or three) disks can take with them at best, given their sizes: a linear program over the holder sets.

Every byte has as many copies as any other, or one more, as many as the disks hold. Disks of equal size are exchangeable, so
the unknowns are not the holder sets but their kinds: how many disks of each size they have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from math import comb, prod

_NOTHING = 1e-9

Kind = tuple[int, ...]
"""How many disks of each size."""


def least_worst_loss(shares: Sequence[float], dead: int = 2) -> float:
    """The least that the worst choice of ``dead`` disks can lose, as a share of the data.

    ``shares``: the size of each disk as a share of the data. Time grows fast with the number of different sizes; up to
    eight it is seconds.
    """
    disks = Counter(min(1.0, round(share, 9)) for share in shares)
    sizes = sorted(disks)
    numbers = [disks[size] for size in sizes]
    copies = sum(size * number for size, number in disks.items())
    fewest = min(int(copies + _NOTHING), len(shares))
    if dead >= len(shares):
        return 1.0
    levels = {fewest: fewest + 1 - copies, fewest + 1: copies - fewest}
    kinds = [kind for level, amount in levels.items() if level and amount > _NOTHING for kind in _kinds(numbers, level)]
    # Unknowns: the bytes of each kind, the worst loss, and what the loss with each choice of dead disks is less than that.
    risks = list(_kinds(numbers, dead))
    width = len(kinds) + 1 + len(risks)
    rows, right = [], []
    for level, amount in levels.items():
        if level and amount > _NOTHING:
            rows.append([float(sum(kind) == level) for kind in kinds] + [0.0] * (width - len(kinds)))
            right.append(amount)
    for place, size in enumerate(sizes):
        rows.append([float(kind[place]) for kind in kinds] + [0.0] * (width - len(kinds)))
        right.append(size * numbers[place])
    for place, risk in enumerate(risks):
        shares_of_kinds = [prod(map(comb, risk, kind)) / prod(map(comb, numbers, kind)) for kind in kinds]
        rows.append([*shares_of_kinds, -1.0] + [float(place == other) for other in range(len(risks))])
        right.append(0.0)
    goal = [0.0] * len(kinds) + [1.0] + [0.0] * len(risks)
    return minimum(goal, rows, right) + (levels[0] if fewest == 0 else 0.0)


def _kinds(numbers: Sequence[int], disks: int) -> Iterator[Kind]:
    for kind in product(*(range(min(number, disks) + 1) for number in numbers)):
        if sum(kind) == disks:
            yield kind


def minimum(goal: Sequence[float], rows: Sequence[Sequence[float]], right: Sequence[float]) -> float:
    """The least of ``goal`` times x where ``rows`` times x is ``right`` (none negative) and no x is negative.

    The simplex method in two phases, with Bland's rule, which never goes in circles. Raises ValueError if there is no x.
    """
    count, width = len(rows), len(goal)
    table = [
        [*row, *(float(place == other) for other in range(count)), value]
        for place, (row, value) in enumerate(zip(rows, right, strict=True))
    ]
    basis = list(range(width, width + count))
    lack = [-sum(column) for column in zip(*table, strict=True)]
    for place in basis:
        lack[place] = 0.0
    _descend(table, basis, lack, width)
    if lack[-1] < -1e-6:
        raise ValueError("no amounts fit these sizes")
    for place in [place for place, name in enumerate(basis) if name >= width]:
        # A row that says what others say keeps its helper, at zero: it must not grow again.
        entering = next((name for name in range(width) if abs(table[place][name]) > _NOTHING), None)
        if entering is not None:
            _pivot(table, basis, lack, place, entering)
    costs = [*goal, *([0.0] * (count + 1))]
    for row, place in zip(table, basis, strict=True):
        if place < width and costs[place]:
            factor = costs[place]
            costs = [cost - factor * value for cost, value in zip(costs, row, strict=True)]
    _descend(table, basis, costs, width)
    return -costs[-1]


def _descend(table: list[list[float]], basis: list[int], costs: list[float], width: int) -> None:
    while True:
        entering = next((place for place in range(width) if costs[place] < -_NOTHING), None)
        if entering is None:
            return
        ratios = [
            (row[-1] / row[entering], basis[place], place) for place, row in enumerate(table) if row[entering] > _NOTHING
        ]
        if not ratios:
            return
        least = min(ratio for ratio, _, _ in ratios)
        leaving = min((name, place) for ratio, name, place in ratios if ratio <= least + 1e-12)[1]
        _pivot(table, basis, costs, leaving, entering)


def _pivot(table: list[list[float]], basis: list[int], costs: list[float], leaving: int, entering: int) -> None:
    pivot = table[leaving][entering]
    table[leaving] = [value / pivot for value in table[leaving]]
    for row in [*table[:leaving], *table[leaving + 1 :], costs]:
        if row[entering]:
            factor = row[entering]
            row[:] = [value - factor * taken for value, taken in zip(row, table[leaving], strict=True)]
    basis[leaving] = entering
