"""Which disks a restore needs, and in which order: as few as have to be fetched, the one that brings most first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from distbackupd.planning.covering import cheapest_cover

_FETCH = 1 << 40
"""To fetch one disk more costs more than anything else."""
_READ = 1 << 20
"""To read one disk more costs more than any difference in freshness."""


class Share(NamedTuple):
    """So many files with so many bytes."""

    files: int
    size: int

    def with_more(self, files: int, size: int) -> Share:
        """And so many more."""
        return Share(self.files + files, self.size + size)


NOTHING = Share(0, 0)


class ReadableDisk(NamedTuple):
    """A disk that can be asked for. ``here``: it is plugged in; ``freshness``: higher where it was verified later."""

    id: int
    here: bool = False
    freshness: int = 0


class Turn(NamedTuple):
    """This disk's part of a restore."""

    disk: int
    share: Share


class Choice(NamedTuple):
    """The disks in their order, each with what is left for it when those before are done; and what is on none of them."""

    turns: tuple[Turn, ...]
    lost: Share


def choose_disks(wanted: Mapping[frozenset[int], Share], disks: Sequence[ReadableDisk]) -> Choice:
    """The disks that together hold all that is wanted, told by its holders.

    Never one more has to be fetched than necessary, and where several would do it is the one that was verified last (exact
    as long as :func:`cheapest_cover` is). What is here comes first, and then what brings the most bytes. If one has to be
    fetched, all that are here and hold anything are read before that; else none of them without need.
    """
    known = {disk.id: disk for disk in disks}
    shares: dict[frozenset[int], Share] = {}
    for holders, share in wanted.items():
        able = holders.intersection(known)
        shares[able] = shares.get(able, NOTHING).with_more(*share)
    lost = shares.pop(frozenset(), NOTHING)
    by_freshness = sorted(disks, key=lambda disk: (-disk.freshness, disk.id))
    costs = {disk.id: (_READ if disk.here else _FETCH) + rank for rank, disk in enumerate(by_freshness)}
    needed = cheapest_cover(shares, costs)
    here = frozenset(disk.id for disk in disks if disk.here)
    if needed - here:
        needed |= here
    turns = []
    while shares:
        bringing = {disk: share for disk in needed if (share := share_of(disk, shares)).files}
        best = max(bringing, key=lambda disk: (known[disk].here, bringing[disk].size, bringing[disk].files, -costs[disk]))
        turns.append(Turn(best, bringing[best]))
        needed -= {best}
        shares = {holders: share for holders, share in shares.items() if best not in holders}
    return Choice(tuple(turns), lost)


def share_of(disk: int, shares: Mapping[frozenset[int], Share]) -> Share:
    """How much of it the disk holds."""
    return total(share for holders, share in shares.items() if disk in holders)


def total(shares: Iterable[Share]) -> Share:
    """All of them together."""
    listed = list(shares)
    return Share(sum(share.files for share in listed), sum(share.size for share in listed))
