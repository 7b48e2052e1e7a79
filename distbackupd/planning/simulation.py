"""What would happen: rounds of cycles over a shelf of disks, moving no bytes.

The same planner as that of a session plans each cycle; what it says is done at once. The shelf and the archive may change
between the rounds: disks come, die and are replaced, data grows. Nothing here reads a clock or makes its own chance.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from random import Random
from typing import Any

from distbackupd.model.disks import footprint
from distbackupd.model.plans import AnyFacts, DiskFacts, ObjectFacts, Plan, Policy
from distbackupd.planning.cycle import plan_cycle
from distbackupd.planning.losses import Loss, Losses


def synthetic_sizes(count: int, rng: Random) -> list[int]:
    """Sizes in bytes of a made-up archive: log-normal, from 1 byte to 4 GB, most files small, most bytes in large ones."""
    return [int(min(4e9, rng.lognormvariate(12, 2.5))) + 1 for _ in range(count)]


def share_of(total: int, share: float) -> int:
    """The capacity of a disk that holds such a share of ``total`` bytes of footprint, in whole 4 KiB blocks."""
    return int(total * share) & ~0xFFF


@dataclass(frozen=True, slots=True)
class Round:
    """How it stands after a round. Shares are of all living bytes of footprint at that time.

    ``copied`` and ``deleted`` count from the beginning of the simulation. ``copies``: the share of bytes by their number.
    """

    number: int
    copied: float
    deleted: float
    copies: dict[int, float]
    loss: list[Loss]

    def row(self, planner_cpu_s: float) -> dict[str, Any]:
        """As it is printed; the seconds are measured by the caller."""
        return {
            "round": self.number,
            "planner_cpu_s": round(planner_cpu_s, 2),
            "copied": round(self.copied, 3),
            "deleted": round(self.deleted, 3),
            "copies": {str(count): round(share, 4) for count, share in self.copies.items()},
            "loss": {str(loss.disks): {"mean": round(loss.mean, 5), "worst": round(loss.worst, 5)} for loss in self.loss},
        }


class Simulation:
    """An archive and a shelf of disks that are plugged in one after the other."""

    def __init__(self, policy: Policy, now: int, rng: Random) -> None:
        """``now``: unix seconds at which all of it happens."""
        self.policy = policy
        self._now = now
        self._rng = rng
        self._disks: dict[int, DiskFacts] = {}
        self._plugged: set[int] = set()
        self._ids: array[int] = array("q")
        self._sizes: array[int] = array("q")
        self._holders: array[int] = array("l")
        self._wishes: dict[int, tuple[int, int, int, int]] = {}
        self._sets: list[frozenset[int]] = [frozenset()]
        self._numbers: dict[frozenset[int], int] = {frozenset(): 0}
        self._positions: dict[int, int] = {}
        self._copied = 0
        self._deleted = 0
        self._rounds = 0

    @property
    def disks(self) -> tuple[DiskFacts, ...]:
        """The shelf, in the order in which the disks are plugged in."""
        return tuple(self._disks.values())

    @property
    def total(self) -> int:
        """Bytes of footprint of all living objects."""
        return sum(map(footprint, self._sizes)) - sum(
            footprint(self._sizes[position]) for position, wish in self._wishes.items() if wish[2]
        )

    def add_sizes(self, sizes: Iterable[int]) -> None:
        """Living objects of these sizes that no disk holds yet, with no wishes of their own."""
        before = len(self._sizes)
        self._sizes.extend(sizes)
        count = len(self._sizes) - before
        first = max(self._ids, default=-1) + 1
        self._extend(range(first, first + count), repeat(0, count))

    def add_objects(self, objects: Iterable[ObjectFacts], holder_sets: Mapping[int, frozenset[int]]) -> None:
        """The objects of a real catalogue, before any others. Objects of 2**63 bytes or more are left out."""
        numbers = {number: self._number(members) for number, members in holder_sets.items()}
        self._plugged.update(*holder_sets.values())
        ids, holders = array("q"), array("l")
        for item in objects:
            try:
                self._sizes.append(item.size)
            except OverflowError:
                continue
            if item[3:] != (1, 0, 0, 0):
                self._wishes[len(holders)] = item[3:]
            ids.append(item.id)
            holders.append(numbers[item.holders])
        self._extend(ids, holders)

    def grow(self, share: float) -> None:
        """New objects of so much of all living bytes, of sizes that are there already."""
        wanted = int(self.total * share)
        sizes = []
        while wanted > 0 and self._sizes:
            sizes.append(self._rng.choice(self._sizes))
            wanted -= footprint(sizes[-1])
        self.add_sizes(sizes)

    def add_disk(self, facts: DiskFacts) -> None:
        """A disk, empty unless objects name it. Raises ValueError if there is one with its id."""
        if facts.id in self._disks:
            raise ValueError(f"there is a disk {facts.id} already")
        self._disks[facts.id] = facts

    def lose_disk(self, disk: int) -> None:
        """The disk dies, with all copies on it. Raises KeyError if there is none."""
        del self._disks[disk]
        without = [self._number(members - {disk}) for members in self._sets[:]]
        self._holders = array("l", map(without.__getitem__, self._holders))

    def run_session(self, disk: int) -> Plan:
        """One cycle on one disk; what it did."""
        facts = self._disks[disk]
        self._plugged.add(disk)
        sets = dict(enumerate(self._sets))
        plan = plan_cycle(self._facts(), sets, facts, self.policy, self._now, self._rng, self.disks)
        with_disk: dict[int, int] = {}
        for eviction in plan.all_evictions():
            position = self._positions[eviction.object_id]
            self._holders[position] = self._number(self._sets[self._holders[position]] - {disk})
            self._deleted += footprint(eviction.size)
        for copy in plan.copies:
            position = self._positions[copy.object_id]
            before = self._holders[position]
            if before not in with_disk:
                with_disk[before] = self._number(self._sets[before] | {disk})
            self._holders[position] = with_disk[before]
            self._copied += footprint(copy.size)
        return plan

    def run_round(self) -> None:
        """One cycle on each disk: first on those that never had one, as anybody would bring a new disk at once."""
        for disk in sorted(self._disks, key=self._plugged.__contains__):
            self.run_session(disk)
        self._rounds += 1

    def state(self) -> Round:
        """How it stands now."""
        losses = self.losses()
        total = losses.total or 1
        copies: Counter[int] = Counter()
        for holders, size in self.sizes_by_holders().items():
            copies[len(holders)] += size
        return Round(
            self._rounds,
            self._copied / total,
            self._deleted / total,
            {count: size / total for count, size in sorted(copies.items())},
            losses.summary(),
        )

    def losses(self) -> Losses:
        """What is lost now when disks die."""
        return Losses(self.sizes_by_holders(), list(self._disks))

    def sizes_by_holders(self) -> dict[frozenset[int], int]:
        """Bytes of footprint of living objects by holders."""
        sizes = [0] * len(self._sets)
        for holders, size in zip(self._holders, self._sizes, strict=True):
            sizes[holders] += footprint(size)
        for position, wish in self._wishes.items():
            if wish[2]:
                sizes[self._holders[position]] -= footprint(self._sizes[position])
        return {self._sets[number]: size for number, size in enumerate(sizes) if size}

    def _facts(self) -> Iterable[AnyFacts]:
        columns = zip(self._ids, self._sizes, self._holders, repeat(1), repeat(0), repeat(0), repeat(0), strict=False)
        if not self._wishes:
            return columns
        return (
            item if position not in self._wishes else (*item[:3], *self._wishes[position])
            for position, item in enumerate(columns)
        )

    def _extend(self, ids: Iterable[int], holders: Iterable[int]) -> None:
        before = len(self._ids)
        self._ids.extend(ids)
        self._holders.extend(holders)
        for position in range(before, len(self._ids)):
            self._positions[self._ids[position]] = position

    def _number(self, members: frozenset[int]) -> int:
        number = self._numbers.get(members)
        if number is None:
            number = self._numbers[members] = len(self._sets)
            self._sets.append(members)
        return number
