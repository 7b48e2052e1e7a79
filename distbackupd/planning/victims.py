"""Which copies make way for a newcomer: those that are worth least, and no more of them than must."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from distbackupd.model.plans import Eviction
from distbackupd.planning.exposure import Exposure
from distbackupd.planning.groups import Pool

_SLICES = 200
"""In so many slices of the disk; after each it is looked at again whose copies are missed least."""
_TOLERABLE = 10_000
"""More than this part of the disk is not freed in vain, if it can be helped."""


class Victims:
    """All copies that may make way, least valuable first.

    First second copies of orphans in grace, then copies of the living objects that stand best without them (lowest
    priority first, then those that the fewest disks together would lose), at last the last copies of orphans in grace, the
    oldest first, and those only for the first copy of a living object.
    """

    def __init__(self, pools: Iterable[Pool], exposure: Exposure, capacity: int) -> None:
        self._exposure = exposure
        self._slice = capacity // _SLICES
        self._tolerance = capacity // _TOLERABLE
        self._until_look = 0
        self.pools = sorted((pool for pool in pools if pool.room), key=_worth)

    def room(self, standing: int) -> int:
        """Bytes that could be freed for an object that stands so: by what stands better than it, without its copy here."""
        return sum(pool.room for pool in self.pools if pool.standing > standing)

    def make_room(self, need: int, standing: int) -> tuple[Eviction, ...]:
        """Victims of at least ``need`` bytes of footprint, at most ``room(standing)``; less valuable ones first.

        None of them could have stayed, and none if less valuable ones would have made the room.
        """
        if self._until_look <= 0:
            self._look_again(standing)
        used, found = [], 0
        for pool in self.pools:
            if pool.standing <= standing or found >= need:
                break
            used.append(pool)
            found += pool.room
        assert found >= need
        found -= used[-1].room
        used.append(self._most_fitting(used.pop(), need - found, used))
        found += used[-1].room
        picked: list[list[Eviction]] = []
        # From the most valuable down: a large one that must leave may spare many small ones that are worth less.
        for pool in reversed(used):
            found -= pool.room
            if need > found:
                before = pool.room
                picked.append(pool.pick(need - found))
                need -= self.left(pool, before - pool.room)
        return tuple(victim for victims in reversed(picked) for victim in victims)

    def _most_fitting(self, first: Pool, need: int, used: list[Pool]) -> Pool:
        """A pool as good as ``first`` that frees not much more than needed: what is freed in vain must be filled again."""
        if first.surplus(need) <= self._tolerance:
            return first
        equals = [pool for pool in self.pools if pool.room >= need and _worth(pool) == _worth(first) and pool not in used]
        return min(equals, key=lambda pool: max(self._tolerance, pool.surplus(need)))

    def left(self, pool: Pool, freed: int) -> int:
        """Note that so many bytes of the pool have left; returns them."""
        self._until_look -= freed
        if pool.exposed:
            self._exposure.move(pool.group.mask, freed)
        return freed

    def _look_again(self, standing: int) -> None:
        """Among equally valuable copies those first that are missed least."""
        self._until_look = self._slice
        pools: list[Pool] = []
        looked = False
        for _, equals in groupby((pool for pool in self.pools if pool.room), key=_worth):
            several = list(equals)
            if not looked and len(several) > 1 and several[0].exposed and several[0].standing > standing:
                several.sort(key=lambda pool: self._exposure.of(pool.group.mask))
                looked = True
            pools += several
        self.pools = pools


def _worth(pool: Pool) -> tuple[int, bool, int]:
    return (-pool.standing, not pool.exposed, pool.worth)
