"""Objects that are alike to the planner, kept together and by size, so that millions of them stay cheap."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from distbackupd.model.plans import DiskFacts, Eviction, Policy, Reason

PROTECTED = 1 << 32
"""Added to the copies of what has as many as it needs: it stands better than all that does not."""
CONTENT = 1 << 33
"""Added to the copies of what has as many as it wants, and wants no more."""


def standing(copies: int, wish: int, maxcopies: int, policy: Policy) -> int:
    """How well an object stands with so many copies; who stands worst comes first.

    Whatever lacks copies that it needs (``wish``, else ``protect_copies``, but never more than ``maxcopies``) stands below
    everything that does not; among both kinds the number of copies counts.
    """
    needed = wish or policy.protect_copies
    if maxcopies:
        needed = min(needed, maxcopies)
    if copies < max(1, needed):
        return copies
    return copies + (CONTENT if wish else PROTECTED)


class Group:
    """Objects with the same holders, priority, maxcopies, wish and day of becoming orphans, in two columns.

    They keep the order in which they came until :meth:`sort` is called, and lie from small to large then.
    """

    __slots__ = ("copies", "ids", "mask", "priority", "sizes", "sorted", "standing")

    def __init__(self, mask: int, copies: int, priority: int, standing: int) -> None:
        """``mask``: the disks that hold it beside the one whose cycle is planned. ``copies``: how many they are."""
        self.mask = mask
        self.copies = copies
        self.priority = priority
        self.standing = standing
        self.ids = array("q")
        self.sizes = array("q")
        self.sorted = False

    def __len__(self) -> int:
        return len(self.sizes)

    def footprint(self, disk: DiskFacts) -> int:
        """Bytes that all of them take on the disk."""
        block = disk.block_size
        return disk.overhead * len(self.sizes) - block * sum([-size // block for size in self.sizes])

    def sort(self) -> None:
        """By size."""
        if not self.sorted:
            order = sorted(range(len(self.sizes)), key=self.sizes.__getitem__)
            self.ids = array("q", map(self.ids.__getitem__, order))
            self.sizes = array("q", map(self.sizes.__getitem__, order))
            self.sorted = True


class Pool:
    """Copies of one group on the disk that may leave it. They leave one by one and never come back."""

    __slots__ = ("_after", "_largest", "disk", "group", "reason", "room", "standing", "worth")

    def __init__(self, group: Group, disk: DiskFacts, reason: Reason, standing: int, worth: int) -> None:
        """``standing``: how well its objects stand without their copy here. ``worth``: among equals, less goes first."""
        self.group = group
        self.disk = disk
        self.reason = reason
        self.standing = standing
        self.worth = worth
        self.room = group.footprint(disk)
        self._largest = len(group) - 1
        self._after: array[int] | None = None

    @property
    def exposed(self) -> bool:
        """Whether it holds living objects, whose loss would matter."""
        return self.reason is Reason.BETTER_PROTECTED

    def pick(self, need: int) -> list[Eviction]:
        """Take the fewest, largest copies that make room for ``need`` bytes (at most ``room``), the last as small as can be.

        None of them could have stayed.
        """
        picked = []
        while (size := self.largest_size()) >= 0 and (freed := self.disk.footprint(size)) < need:
            picked.append(self.take(self._largest))
            need -= freed
        last = self.smallest(need)
        assert last is not None
        picked.append(self.take(last))
        return picked

    def surplus(self, need: int) -> int:
        """How much more than needed one copy frees; 0 if several must leave."""
        found = self.smallest(need)
        return 0 if found is None else self.disk.footprint(self.size_at(found)) - need

    def smallest(self, need: int) -> int | None:
        """Where the smallest copy stands whose footprint is at least ``need``; None: there is none."""
        after = self._links()
        position = bisect_left(self.group.sizes, self.disk.largest_within(need - 1) + 1)
        while after[position] != position:
            after[position] = after[after[position]]
            position = after[position]
        return position if position < len(self.group) else None

    def staying(self) -> list[int] | None:
        """Where the copies stand that have not left, ascending; None: all of them."""
        if self._after is None:
            return None
        return [position for position, after in enumerate(self._after[:-1]) if position == after]

    def size_at(self, position: int) -> int:
        """The size of the copy that stands there."""
        return self.group.sizes[position]

    def largest_size(self) -> int:
        """The size of the largest copy; -1: there is none."""
        after = self._links()
        while self._largest >= 0 and after[self._largest] != self._largest:
            self._largest -= 1
        return self.group.sizes[self._largest] if self._largest >= 0 else -1

    def take(self, position: int) -> Eviction:
        """The copy that stands there leaves."""
        after = self._links()
        after[position] = position + 1
        group = self.group
        size = group.sizes[position]
        self.room -= self.disk.footprint(size)
        return Eviction(group.ids[position], size, group.copies, self.reason)

    def _links(self) -> array[int]:
        """For each copy itself, or, if it has left, one that stands behind it."""
        if self._after is None:
            self.group.sort()
            self._after = array("q", range(len(self.group) + 1))
        return self._after
