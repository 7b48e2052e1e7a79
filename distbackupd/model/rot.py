"""Source files whose content changed though nobody wrote them."""

from __future__ import annotations

from typing import NamedTuple


class KnownContent(NamedTuple):
    """A living regular file and the content that the catalogue knows of it, to be read again.

    ``file`` is the row of its version: newer versions have higher numbers. ``is_rotten``: found so already.
    """

    file: int
    path: bytes
    size: int
    mtime_ns: int
    device: int
    inode: int
    object_id: int
    digest: bytes
    is_rotten: bool


class Reading(NamedTuple):
    """What a source file holds now: the SHA-256, empty where its medium does not give it; and its time of change."""

    digest: bytes
    ctime_ns: int


class RottenFile(NamedTuple):
    """A living file that holds ``found`` (empty: it cannot be read) where ``digest`` is known; see :class:`Reading`.

    ``seen``: when the good content was recorded; ``holders``: disks that hold it. Unix seconds. Names of one inode are
    found together.
    """

    file: int
    path: bytes
    size: int
    mtime_ns: int
    device: int
    inode: int
    object_id: int
    digest: bytes
    holders: frozenset[int]
    seen: int
    found_at: int
    found: bytes
    ctime_ns: int

    @property
    def perhaps_written(self) -> bool:
        """Whether something was done to the file since its content was recorded: somebody may have put its time back."""
        return self.ctime_ns // 10**9 > self.seen
