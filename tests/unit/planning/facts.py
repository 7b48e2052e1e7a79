"""Disks and objects as the planner sees them, with all that a test does not care for as it usually is."""

from __future__ import annotations

from distbackupd.model.disks import OBJECT_OVERHEAD, USUAL_BLOCK_SIZE
from distbackupd.model.plans import DiskFacts, ObjectFacts


def a_disk(
    number: int,
    capacity: int,
    block_size: int = USUAL_BLOCK_SIZE,
    largest_file: int = 0,
    overhead: int = OBJECT_OVERHEAD,
    place: str = "",
    most_objects: int = 0,
) -> DiskFacts:
    return DiskFacts(number, capacity, block_size, largest_file, overhead, place, most_objects)


def an_object(
    number: int, size: int, holders: int, priority: int = 1, maxcopies: int = 0, orphaned_at: int = 0, copies: int = 0
) -> ObjectFacts:
    return ObjectFacts(number, size, holders, priority, maxcopies, orphaned_at, copies)
