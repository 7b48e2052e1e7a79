"""A cycle's plan: ordered steps, each with its reason, good for a simulation, a report and the executor alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from distbackupd.model.disks import OBJECT_OVERHEAD, USUAL_BLOCK_SIZE


class Reason(Enum):
    """Why a step is taken; the value is what people read."""

    ORPHAN_EXPIRED = "no file refers to it any more and its grace is over"
    ABOVE_MAXCOPIES = "it has more copies than its maxcopies"
    ORPHAN_SECOND_COPY = "no file refers to it any more and another disk keeps a copy"
    BETTER_PROTECTED = "it stays better protected than what takes its room"
    SPREAD_ELSEWHERE = "it keeps copies enough, on disks with which less would be lost"
    NO_ROOM = "it stays protected without this copy, and the disk lacks room for the catalogue's own copy"
    ORPHAN_LAST_COPY = "no file refers to it any more, and the room is needed for the first copy of a living one"
    FIRST_COPY = "it has no copy yet"
    MORE_COPIES = "it has the fewest copies of what fits"
    BAD_COPY = "its copy here was bad"
    MORE_EVEN = "too much would be lost together with the disks that hold it"


class ObjectFacts(NamedTuple):
    """One object as the planner sees it.

    ``holders`` is the id of an interned set of disks. ``maxcopies`` 0: no limit. ``orphaned_at``: unix seconds since
    when no living file refers to it; 0: it lives. ``copies``: how many it wants, and no more; 0: as many as fit.

    Nothing here, nor in :class:`DiskFacts`, has a default: what the catalogue forgets to tell is an error, and not a wish
    that nobody had.
    """

    id: int
    size: int
    holders: int
    priority: int
    maxcopies: int
    orphaned_at: int
    copies: int


AnyFacts = tuple[int, int, int, int, int, int, int]
"""Facts of one object, named (:class:`ObjectFacts`) or, where there are millions, only in the same order."""


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """One enrolled disk as the planner sees it: ``capacity`` in bytes of footprint; ``largest_file`` 0: no limit.

    ``overhead``: bytes that each object takes beside its blocks. ``place``: where the disk is kept; empty: not told.
    ``most_objects``: so many at once; 0: no limit but room.
    """

    id: int
    capacity: int
    block_size: int
    largest_file: int
    overhead: int
    place: str
    most_objects: int

    def footprint(self, size: int) -> int:
        """Bytes that an object of ``size`` takes on this disk."""
        return self.overhead - (-size // self.block_size) * self.block_size

    def largest_within(self, room: int) -> int:
        """The size of the largest object whose footprint is at most ``room``; -1: not even an empty one fits."""
        return (room - self.overhead) // self.block_size * self.block_size if room >= self.overhead else -1

    @property
    def largest_object(self) -> int:
        """The size of the largest object that this disk holds when it is empty; -1: none."""
        largest = self.largest_within(self.capacity)
        return min(largest, self.largest_file) if self.largest_file else largest


def imagined_disk(number: int, capacity: int) -> DiskFacts:
    """A disk that nobody has: of the usual kind, kept nowhere."""
    return DiskFacts(number, capacity, USUAL_BLOCK_SIZE, 0, OBJECT_OVERHEAD, "", 0)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants of a cycle.

    ``grace``: seconds for which the last copy of an orphan is kept. ``copy_limit``: bytes to copy at the most.
    ``copies_limit``: make no copy of what has that many already. ``evict``: whether living objects may lose a copy,
    to make room or for their maxcopies (distbackup's ``--noflush`` says no). None: no limit.

    ``protect_copies``: with so many copies an object that wants no number of its own counts as protected.
    ``rebalance``: the share of a disk's size that one cycle may copy only to spread the risk better; 0: never.
    ``brake``: nothing leaves any disk, for no reason; what needs no room made still comes.
    ``shortage``: bytes by which less is free on the disk than must stay free; copies of what stays protected leave for it,
    and nothing takes their room.

    ``prefer`` decides among equals (as many copies, the same priority, holders as exposed) when room runs out.
    ``"bytes"``, the default, takes the largest first and fills the gaps with what is smaller: each object costs room
    beside its content, so most content is protected, and it is protected soonest, for large files are written faster.
    ``"files"`` takes the smallest first: that protects the greatest number of objects that the room allows, but leaves
    the large ones, often most of the bytes, to the disks that come later.
    """

    grace: int = 30 * 86400
    copy_limit: int | None = None
    copies_limit: int | None = None
    evict: bool = True
    protect_copies: int = 2
    prefer: Literal["bytes", "files"] = "bytes"
    rebalance: float = 0.1
    brake: bool = False
    shortage: int = 0


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

    Guarantees (property-tested): after every copy, in every prefix of the steps, the disk's footprint is at most its
    capacity, and it holds at most as many objects as it may, or as it held when the ``evictions`` had left it;
    no step takes the last copy of a living object; a victim keeps more copies than its successor had, or is protected
    and its successor was not. Copies that only spread the risk (``Reason.MORE_EVEN``) come last: those
    that follow each other take the room of the same victims, which stay protected and keep as many copies as these had
    before; and the plan exchanges no more bytes for fewer.

    ``unplaced_objects`` and ``unplaced_bytes`` count living objects that have fewer copies than they may and found no
    room here; ``too_large`` counts those that this file system cannot hold at all. ``crowded``: in the end the disk holds
    as many objects as it may, so that is why the unplaced ones found none. ``fit_nowhere`` counts living objects
    without a copy that are larger than any disk of the shelf, and ``fit_nowhere_ids`` names the first of them.
    """

    evictions: tuple[Eviction, ...] = ()
    copies: tuple[Copy, ...] = ()
    used_before: int = 0
    unplaced_objects: int = 0
    unplaced_bytes: int = 0
    too_large: int = 0
    crowded: bool = False
    fit_nowhere: int = 0
    fit_nowhere_ids: tuple[int, ...] = ()

    @property
    def copy_bytes(self) -> int:
        """Bytes of content that the plan copies."""
        return sum(copy.size for copy in self.copies)

    @property
    def rebalanced_bytes(self) -> int:
        """Bytes of content that the plan copies only to spread the risk better; they come last."""
        return sum(copy.size for copy in self.copies if copy.reason is Reason.MORE_EVEN)

    def all_evictions(self) -> list[Eviction]:
        """Every eviction of the plan, in order."""
        return [*self.evictions, *(victim for copy in self.copies for victim in copy.victims)]
