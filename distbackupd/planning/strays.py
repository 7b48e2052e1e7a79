"""What becomes of files that lie whole on a disk although nobody recorded it: what a killed session, a power cut, an
eviction that was not carried out or a disk that was given up left there.

They are copies again, and the plan decides about them as about all others, but for what has no place and is safe elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple


class Stray(NamedTuple):
    """``footprint``: bytes that it takes on this disk; ``elsewhere``: how many other disks hold the object."""

    digest: bytes
    size: int
    footprint: int
    elsewhere: int


def still_to_leave(
    pending: Iterable[bytes], living: Collection[bytes], holders: Mapping[bytes, frozenset[int]], disk: int
) -> list[bytes]:
    """Which of the files whose removal from ``disk`` was decided, and not carried out, may still be removed.

    Not those that the disk holds again; nor, for other disks may have been lost meanwhile, what a living file refers to and
    no other disk holds. ``holders``: of those objects that are known.
    """
    return [
        digest for digest in pending if disk not in holders.get(digest, ()) and (digest not in living or holders.get(digest))
    ]


def with_places(strays: Sequence[Stray], room: int) -> tuple[list[Stray], list[Stray]]:
    """Those that stay on a disk that has so many bytes left, and those for which it has no place.

    What no other disk holds stays whatever room there is; of the others as many as fit, those with fewest copies first.
    """
    staying, leaving = [], []
    for stray in sorted(strays, key=lambda stray: stray.elsewhere):
        if stray.elsewhere and stray.footprint > room:
            leaving.append(stray)
        else:
            room -= stray.footprint
            staying.append(stray)
    return staying, leaving
