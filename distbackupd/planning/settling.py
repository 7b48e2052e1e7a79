"""When what is known of a file's content may be believed, and when it has to be read (again)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from distbackupd.model.files import UnconfirmedFile
from distbackupd.model.rot import Reading

BUDGET = 1 << 30
"""Bytes, with :data:`EFFORT` for each file, that a scan reads again. The rest waits until nothing else is to be done."""
EFFORT = 64 << 10
"""What it costs to open a file and read its first byte, in bytes of reading."""
_LOOKED_AT = 50_000


def is_settled(mtime_ns: int, ctime_ns: int, read_from_ns: int, blur_ns: int) -> bool:
    """Whether a content that was read from ``read_from_ns`` on cannot be written to with the file's times staying so.

    ``blur_ns``: by so much the file system's clock may be behind or coarse. The time of change alone decides where there is
    one (it is not 0): each write sets it, while a modification time may be set at will, also to one that is still to come.
    """
    return (ctime_ns or mtime_ns) + blur_ns < read_from_ns


def is_rot(known_ctime_ns: int, confirmed: bool, found: Reading) -> bool:
    """Whether a content other than known is a fault of the medium, given that size, mtime and inode are as known.

    All else is a change. ``confirmed``: the known content was settled when it was read.
    """
    return confirmed and found.is_witnessed and known_ctime_ns != 0 and found.entry.ctime_ns == known_ctime_ns


def chosen_to_confirm(waiting: Iterable[UnconfirmedFile], budget: int | None) -> Iterator[UnconfirmedFile]:
    """Those that are to be read now, in their order: each inode once, and no more than the budget (None: all).

    What is too large for the whole budget is passed over.
    """
    inodes = set()
    left = budget
    for looked_at, file in enumerate(waiting):
        if file.is_linked and file.inode:
            identity = (file.device, file.inode, file.object_id)
            if identity in inodes:
                continue
            inodes.add(identity)
        if budget is not None and left is not None:
            cost = file.size + EFFORT
            if cost > budget:
                if looked_at > _LOOKED_AT:
                    return
                continue
            if cost > left:
                return
            left -= cost
        yield file
