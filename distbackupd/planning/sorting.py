"""Every object sorted into what leaves the disk at once, what may make way, what may come, and how exposed it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from distbackupd.model.plans import AnyFacts, DiskFacts, Eviction, Policy, Reason
from distbackupd.planning.exposure import Exposure
from distbackupd.planning.groups import CONTENT, Group, Pool, standing

NAMED = 20
"""So many of the objects that fit nowhere are named."""
_Key = tuple[int, int, int, int, int]


class Sorted:
    """All objects, sorted. What the attributes say is told at each of them.

    Raises:
        ValueError: an object names a holder set that is not there.
    """

    def __init__(
        self,
        objects: Iterable[AnyFacts],
        holder_sets: Mapping[int, frozenset[int]],
        disk: DiskFacts,
        policy: Policy,
        now: int,
        shelf: Sequence[DiskFacts],
    ) -> None:
        """See :func:`distbackupd.planning.cycle.plan_cycle`."""
        self._holder_sets = holder_sets
        self._disk = disk
        self._policy = policy
        self._now = now
        self._largest = max(facts.largest_object for facts in (*shelf, disk)) if shelf else None
        known = {facts.id for facts in shelf} or set().union(*holder_sets.values())
        self._bits = {number: 1 << place for place, number in enumerate(sorted(known | {disk.id}))}
        self._here = self._bits[disk.id]
        self._places: dict[str, int] = {}
        for facts in shelf:
            if facts.place and facts.place != disk.place:
                self._places[facts.place] = self._places.get(facts.place, 0) | self._bits[facts.id]
        self._own_place = sum(self._bits[facts.id] for facts in shelf if disk.place and facts.place == disk.place)
        self.exposure = Exposure([bit for bit in self._bits.values() if bit != self._here], self._places.values())
        """How exposed is what the disk does not hold."""
        self.used = 0
        """Footprint of all that the disk holds."""
        self.held = 0
        """How many objects that is."""
        self.expired: list[Eviction] = []
        """Orphans past their grace, which leave at once."""
        self.surplus: list[Eviction] = []
        """Copies above maxcopies, which leave at once."""
        self.pools: list[Pool] = []
        """Copies that may make way."""
        self.waiting: list[Group] = []
        """What may come, and is not too large for the file system."""
        self.too_large = 0
        """How many might come if the file system held such large files."""
        self.fit_nowhere = 0
        """How many living objects without a copy are larger than each disk of the shelf."""
        self.fit_nowhere_ids: list[int] = []
        for key, group in self._grouped(objects).items():
            self._sort_in(key, group)

    def known_place(self, group: Group) -> bool:
        """Whether a disk that holds these objects is kept where this disk is."""
        return bool(group.mask & self._own_place)

    def _grouped(self, objects: Iterable[AnyFacts]) -> dict[_Key, Group]:
        groups: dict[_Key, Group] = {}
        columns: dict[tuple[int, ...], tuple[Callable[[int], None], Callable[[int], None]]] = {}
        for item in objects:
            key = item[2:]
            if key in columns:
                add_size, add_id = columns[key]
            else:
                group = groups[key] = self._new_group(item)
                add_size, add_id = columns[key] = (group.sizes.append, group.ids.append)
            try:
                add_size(item[1])
            except OverflowError:
                self._sort_in_oversized(item)
            else:
                add_id(item[0])
        return groups

    def _new_group(self, item: AnyFacts) -> Group:
        identifier, _, holders, priority, maxcopies, orphaned_at, wish = item
        members = self._holder_sets.get(holders)
        if members is None:
            raise ValueError(f"object {identifier} names the holder set {holders}, which is not there")
        mask = sum(self._bits.get(disk, 0) for disk in members) & ~self._here
        copies = mask.bit_count()
        return Group(mask, copies, priority, 0 if orphaned_at else standing(copies, wish, maxcopies, self._policy))

    def _sort_in(self, key: _Key, group: Group) -> None:
        if not group.sizes:
            return
        holders, _, maxcopies, orphaned_at, _ = key
        if self._disk.id in self._holder_sets[holders]:
            footprint = group.footprint(self._disk)
            self.used += footprint
            self.held += len(group)
            self._sort_in_held(group, maxcopies, orphaned_at)
        elif not orphaned_at:
            self.exposure.move(group.mask, group.footprint(self._disk))
            self._sort_in_absent(group, maxcopies)

    def _sort_in_held(self, group: Group, maxcopies: int, orphaned_at: int) -> None:
        copies, policy = group.copies, self._policy
        if policy.brake:
            return
        if orphaned_at:
            if self._now - orphaned_at >= policy.grace:
                self.expired += _evictions(group, Reason.ORPHAN_EXPIRED)
            elif copies:
                self.pools.append(Pool(group, self._disk, Reason.ORPHAN_SECOND_COPY, CONTENT << 1, 0))
            else:
                # They stand where living objects stand that have one more copy: only a first copy may take their room.
                self.pools.append(Pool(group, self._disk, Reason.ORPHAN_LAST_COPY, 1, orphaned_at))
        elif not policy.evict:
            return
        elif maxcopies and copies >= maxcopies:
            self.surplus += _evictions(group, Reason.ABOVE_MAXCOPIES)
        elif copies:
            self.pools.append(Pool(group, self._disk, Reason.BETTER_PROTECTED, group.standing, group.priority))

    def _sort_in_absent(self, group: Group, maxcopies: int) -> None:
        if not group.copies and self._largest is not None and max(group.sizes) > self._largest:
            for identifier, size in zip(group.ids, group.sizes, strict=True):
                if size > self._largest:
                    self._note_homeless(identifier)
        if not self._wanted(group, maxcopies):
            return
        largest_file = self._disk.largest_file
        if largest_file and max(group.sizes) > largest_file:
            kept = Group(group.mask, group.copies, group.priority, group.standing)
            for identifier, size in zip(group.ids, group.sizes, strict=True):
                if size <= largest_file:
                    kept.ids.append(identifier)
                    kept.sizes.append(size)
            self.too_large += len(group) - len(kept)
            group = kept
        if group.sizes:
            self.waiting.append(group)

    def _wanted(self, group: Group, maxcopies: int) -> bool:
        limit = self._policy.copies_limit
        return (
            group.standing < CONTENT
            and not (maxcopies and group.copies >= maxcopies)
            and (limit is None or group.copies < limit)
        )

    def _sort_in_oversized(self, item: AnyFacts) -> None:
        """No file system holds a file of 2**63 bytes: such an object can come nowhere, and none makes way."""
        group = self._new_group(item)
        if self._disk.id in self._holder_sets[item[2]]:
            self.used += self._disk.footprint(item[1])
            self.held += 1
        elif not item[5]:
            if self._wanted(group, item[4]):
                self.too_large += 1
            if not group.copies and self._largest is not None:
                self._note_homeless(item[0])

    def _note_homeless(self, identifier: int) -> None:
        self.fit_nowhere += 1
        if len(self.fit_nowhere_ids) < NAMED:
            self.fit_nowhere_ids.append(identifier)


def _evictions(group: Group, reason: Reason) -> list[Eviction]:
    return [
        Eviction(identifier, size, group.copies, reason) for identifier, size in zip(group.ids, group.sizes, strict=True)
    ]
