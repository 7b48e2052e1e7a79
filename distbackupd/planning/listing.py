"""Which of the layout's folders on a disk are listed when it comes, to see whether what should lie there lies there.

A folder's time of change tells whether it got or lost a name since its disk was left. What a repair of the file system
takes out of a folder it may take without changing that time, so a share of the others is listed too, in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

FOLDERS = 4096
LISTED_SHARE = 64
"""So many that look unchanged are listed in each session whatever time it takes: all of them in 64 sessions."""


class Listing(NamedTuple):
    """Folders to list, in this order; the first ``due`` of them whatever time it takes, the others while there is time."""

    folders: list[int]
    due: int


EVERYTHING = Listing(list(range(FOLDERS)), FOLDERS)


def runs(folders: Sequence[int], longest: int) -> Iterator[range]:
    """The same folders in the same order, those that follow each other together, at the most ``longest``."""
    start = 0
    for end in range(1, len(folders) + 1):
        if end == len(folders) or end - start == longest or folders[end] != folders[end - 1] + 1:
            yield range(folders[start], folders[start] + end - start)
            start = end


class LeftFolder(NamedTuple):
    """How a session left a folder. ``mtime_ns`` 0: it was not there. ``listed_at``: when it was listed, unix seconds."""

    mtime_ns: int
    listed_at: int


NEVER_LEFT = LeftFolder(0, 0)


def folders_to_list(times: Mapping[int, int], left: Mapping[int, LeftFolder], share: int = LISTED_SHARE) -> Listing:
    """All that are not as they were left (``times`` are what they are now), then the others, those listed longest ago first.

    Due are those that changed, and a ``share`` of the others.
    """
    changed: list[int] = []
    others: list[int] = []
    for folder in range(FOLDERS):
        is_as_left = times.get(folder, 0) == left.get(folder, NEVER_LEFT).mtime_ns
        (others if is_as_left else changed).append(folder)
    others.sort(key=lambda folder: left.get(folder, NEVER_LEFT).listed_at)
    return Listing(changed + others, min(len(changed) + share, FOLDERS))


def folders_left(
    times: Mapping[int, int], left: Mapping[int, LeftFolder], listed: frozenset[int], now: int
) -> dict[int, LeftFolder]:
    """What is to be noted when the disk is left: only of those that are other than noted before, or were ``listed``."""
    noted = {}
    for folder in range(FOLDERS):
        before = left.get(folder, NEVER_LEFT)
        # One that went in this very session must show in the next.
        mtime_ns = times.get(folder, before.mtime_ns)
        after = LeftFolder(mtime_ns, now if folder in listed else before.listed_at)
        if after != before:
            noted[folder] = after
    return noted
