"""The cheapest set of disks of which each group of holders has at least one: weighted set cover.

Sets of disks are bits of a number here. Groups that are implied by smaller ones and disks that another one makes
needless go first; what remains falls into parts that have nothing to do with each other; each part is searched, best
choices first, and a branch is left where even a lower bound of its cost is too much.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

_WORK = 5_000_000
"""Steps that a search may take: some seconds. Shelves of sixty disks with two or three copies need far fewer."""
_SMALL = 8
"""Of groups up to this size every part is looked up; larger ones are compared with all smaller groups."""


def cheapest_cover(groups: Iterable[frozenset[int]], costs: Mapping[int, int]) -> frozenset[int]:
    """The disks with the lowest sum of ``costs`` that meet every group; no group may be empty, costs are positive.

    Exact but for instances that would take longer than some seconds; those get the better of what greedy choice gives,
    with its needless disks dropped, and of what was found in that time.
    """
    numbers = sorted(costs)
    bit = {disk: 1 << number for number, disk in enumerate(numbers)}
    prices = {bit[disk]: costs[disk] for disk in numbers}
    chosen, masks = _reduce({_mask(group, bit) for group in groups}, prices)
    for part in _parts(masks):
        chosen |= _Search(part, prices).run()
    return frozenset(disk for disk in numbers if bit[disk] & chosen)


def _mask(group: Iterable[int], bit: Mapping[int, int]) -> int:
    return sum(bit[disk] for disk in group)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest
        mask ^= lowest


def _reduce(masks: set[int], prices: Mapping[int, int]) -> tuple[int, list[int]]:
    """The disks that are needed in any case, and what is left of the groups without disks that are never needed."""
    chosen = 0
    while True:
        least = _without_implied(masks)
        forced = sum({mask for mask in least if mask.bit_count() == 1})
        chosen |= forced
        least = [mask for mask in least if not mask & forced]
        needless = _needless_disks(least, prices)
        if not needless:
            return chosen, least
        masks = {mask & ~needless for mask in least}


def _without_implied(masks: set[int]) -> list[int]:
    """The groups of which no other one is a part, small ones first: who meets that one meets the larger ones too."""
    least: list[int] = []
    known: set[int] = set()
    for mask in sorted(masks, key=int.bit_count):
        implied = (
            any(part in known for part in _parts_of(mask))
            if mask.bit_count() <= _SMALL
            else any(other & mask == other for other in least)
        )
        if not implied:
            least.append(mask)
            known.add(mask)
    return least


def _parts_of(mask: int) -> Iterator[int]:
    part = (mask - 1) & mask
    while part:
        yield part
        part = (part - 1) & mask


def _needless_disks(masks: list[int], prices: Mapping[int, int]) -> int:
    """Disks that meet no group but what a cheaper one meets too."""
    met: dict[int, int] = {}
    for number, mask in enumerate(masks):
        for disk in _bits(mask):
            met[disk] = met.get(disk, 0) | 1 << number
    needless = 0
    for disk in sorted(met, key=lambda disk: (prices[disk], disk), reverse=True):
        rivals = (other for other in met if other != disk and not other & needless and prices[other] <= prices[disk])
        if any(met[disk] & ~met[rival] == 0 for rival in rivals):
            needless |= disk
    return needless


def _parts(masks: Collection[int]) -> list[list[int]]:
    """Groups that are connected by common disks."""
    parts: list[tuple[int, list[int]]] = []
    for mask in masks:
        apart = [part for part in parts if not part[0] & mask]
        joined = [part for part in parts if part[0] & mask]
        union = mask
        members = [mask]
        for disks, others in joined:
            union |= disks
            members += others
        parts = [*apart, (union, members)]
    return [members for _, members in parts]


@dataclass(frozen=True, slots=True)
class _Open:
    """A group that is not met yet: the disks that may still be chosen for it, and the least that any costs."""

    mask: int
    least: int


class _Search:
    """Branch and bound on one part."""

    def __init__(self, masks: list[int], prices: Mapping[int, int]) -> None:
        self._prices = prices
        self._groups = [_Open(mask, min(prices[disk] for disk in _bits(mask))) for mask in masks]
        self._best = self._pruned(self._greedy())
        self._best_cost = self._cost(self._best)
        self._work = 0

    def run(self) -> int:
        """The best cover, or the best that was found in time."""
        self._descend(self._groups, 0, 0)
        return self._best

    def _cost(self, disks: int) -> int:
        return sum(self._prices[disk] for disk in _bits(disks))

    def _greedy(self) -> int:
        chosen, left = 0, self._groups
        while left:
            chosen |= self._by_use(left)[0]
            left = [group for group in left if not group.mask & chosen]
        return chosen

    def _pruned(self, chosen: int) -> int:
        for disk in sorted(_bits(chosen), key=lambda disk: self._prices[disk], reverse=True):
            if all(group.mask & chosen & ~disk for group in self._groups):
                chosen &= ~disk
        return chosen

    def _by_use(self, groups: list[_Open], among: int = -1) -> list[int]:
        """Disks by how many of the groups they meet, the cheaper first."""
        use: dict[int, int] = {}
        for group in groups:
            for disk in _bits(group.mask & among):
                use[disk] = use.get(disk, 0) + 1
        return sorted(use, key=lambda disk: (-use[disk], self._prices[disk], disk))

    def _descend(self, groups: list[_Open], chosen: int, cost: int) -> None:
        if not groups:
            if cost < self._best_cost:
                self._best, self._best_cost = chosen, cost
            return
        self._work += len(groups)
        if self._work > _WORK:
            return
        groups = sorted(groups, key=lambda group: group.mask.bit_count())
        if cost + _lower_bound(groups) >= self._best_cost:
            return
        smallest = groups[0].mask.bit_count()
        most_used = self._by_use([group for group in groups if group.mask.bit_count() == smallest])[0]
        branching = next(group for group in groups if group.mask & most_used)
        excluded = 0
        for disk in self._by_use(groups, among=branching.mask):
            left = [group for group in groups if not group.mask & disk]
            if excluded:
                if any(not group.mask & ~excluded for group in left):
                    return
                left = [_Open(group.mask & ~excluded, group.least) for group in left]
            self._descend(left, chosen | disk, cost + self._prices[disk])
            # What comes next is for covers without this disk: those with it have been seen.
            excluded |= disk


def _lower_bound(groups: list[_Open]) -> int:
    """Groups without a common disk need one disk each."""
    bound = used = 0
    for group in groups:
        if not group.mask & used:
            used |= group.mask
            bound += group.least
    return bound
