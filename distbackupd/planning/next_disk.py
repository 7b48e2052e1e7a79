"""Which disk to bring next: the one that would do the most good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class ShelfDisk(NamedTuple):
    """An enrolled disk: ``room``, bytes that are free on it; ``last_session_at``, unix seconds, 0 for never.

    ``orphans``: bytes that it holds and no file needs. ``declined``: bytes of what lacks copies that its last session found
    no room for.
    """

    id: int
    room: int
    last_session_at: int
    orphans: int
    declined: int


class Holding(NamedTuple):
    """Living content with the same holders, which may have more copies than it has: ``size`` bytes."""

    holders: frozenset[int]
    size: int


class Errand(NamedTuple):
    """Bring this disk: it has room for ``size`` bytes that have ``copies`` copies."""

    disk: int
    copies: int
    size: int


def most_wanted(disks: Sequence[ShelfDisk], holdings: Iterable[Holding], protect_copies: int = 2) -> Errand | None:
    """The disk that takes the most of what has no copy; among equals, of what has one; then the one away for longest.

    What has ``protect_copies`` is no reason to fetch a disk. Room counts as free where the disk holds what stays as well
    protected without it, and orphans. What it declined it does not take by being brought once more: only what has come to
    lack copies since then. None: no disk would help, all that fits anywhere is protected. Cost: holder sets times disks.
    """
    lacking = [0] * protect_copies
    held = {disk.id: [0] * protect_copies for disk in disks}
    spare = {disk.id: [disk.orphans, *[0] * (protect_copies - 1)] for disk in disks}
    for holding in holdings:
        copies = len(holding.holders)
        if copies < protect_copies:
            lacking[copies] += holding.size
        for holder in holding.holders & held.keys():
            for level in range(protect_copies):
                if copies == level:
                    held[holder][level] += holding.size
                elif copies >= level + 2:
                    spare[holder][level] += holding.size
    best: tuple[tuple[int, ...], Errand] | None = None
    for disk in disks:
        room = max(0, disk.room)
        absent = [lacking[level] - held[disk.id][level] for level in range(protect_copies)]
        news = max(0, sum(absent) - max(0, disk.declined - disk.orphans))
        takes = [min(size, news, room + more) for size, more in zip(absent, spare[disk.id], strict=True)]
        copies = next((level for level, size in enumerate(takes) if size > 0), protect_copies)
        rank = (*takes, -disk.last_session_at, -disk.id)
        if copies < protect_copies and (best is None or rank > best[0]):
            best = (rank, Errand(disk.id, copies, takes[copies]))
    return best[1] if best else None
