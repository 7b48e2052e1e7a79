"""A cycle's plan: ordered steps, each with its reason, good for a simulation, a report and the executor alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Reason(Enum):
    """Why a step is taken; the value is what people read."""

    ORPHAN_EXPIRED = "no file refers to it any more and its grace is over"
    ABOVE_MAXCOPIES = "it has more copies than its maxcopies"
    ORPHAN_SECOND_COPY = "no file refers to it any more and another disk keeps a copy"
    BETTER_PROTECTED = "it stays better protected than what takes its room"
    ORPHAN_LAST_COPY = "no file refers to it any more, and the room is needed for the first copy of a living one"
    FIRST_COPY = "it has no copy yet"
    MORE_COPIES = "it has the fewest copies of what fits"


class ObjectFacts(NamedTuple):
    """One object as the planner sees it.

    ``holders`` is the id of an interned set of disks. ``maxcopies`` 0: no limit. ``orphaned_at``: unix seconds since
    when no living file refers to it; 0: it lives.
    """

    id: int
    size: int
    holders: int
    priority: int
    maxcopies: int
    orphaned_at: int


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """One enrolled disk as the planner sees it: ``capacity`` in bytes of footprint; ``largest_file`` 0: no limit."""

    id: int
    capacity: int
    block_size: int = 4096
    largest_file: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants of a cycle.

    ``grace``: seconds for which the last copy of an orphan is kept. ``copy_limit``: bytes to copy at the most.
    ``copies_limit``: make no copy of what has that many already. ``evict``: whether living objects may lose a copy,
    to make room or for their maxcopies (distbackup's ``--noflush`` says no). None: no limit.
    """

    grace: int = 30 * 86400
    copy_limit: int | None = None
    copies_limit: int | None = None
    evict: bool = True


@dataclass(frozen=True, slots=True)
class BackupWish:
    """What somebody asks of one session beyond the settings; see :class:`Policy` for the limits.

    ``update``: scan the sources first, with ``ignore_lock`` also what cannot be trusted.
    """

    copy_limit: int | None = None
    copies_limit: int | None = None
    evict: bool = True
    update: bool = False
    ignore_lock: bool = False


class Eviction(NamedTuple):
    """Take this object's copy off the disk. ``remaining``: copies on other disks, which stay."""

    object_id: int
    size: int
    remaining: int
    reason: Reason


class Copy(NamedTuple):
    """Copy this object to the disk after ``victims`` have left it. ``copies``: how many other disks hold it."""

    object_id: int
    size: int
    copies: int
    reason: Reason
    victims: tuple[Eviction, ...] = ()


Step = Eviction | Copy


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cycle will do: ``evictions`` that need no reason but their own, then ``copies`` in order.

    Guarantees (property-tested): the footprint on the disk is at most its capacity after every prefix of the steps;
    no step takes the last copy of a living object; no victim is left with fewer copies than its successor gets.
    ``unplaced_objects`` and ``unplaced_bytes`` count living objects that have fewer copies than they may and found no
    room here; ``too_large`` counts those that this file system cannot hold at all.
    """

    evictions: tuple[Eviction, ...] = ()
    copies: tuple[Copy, ...] = ()
    used_before: int = 0
    unplaced_objects: int = 0
    unplaced_bytes: int = 0
    too_large: int = 0

    @property
    def copy_bytes(self) -> int:
        """Bytes of content that the plan copies."""
        return sum(copy.size for copy in self.copies)

    def all_evictions(self) -> list[Eviction]:
        """Every eviction of the plan, in order."""
        return [*self.evictions, *(victim for copy in self.copies for victim in copy.victims)]
