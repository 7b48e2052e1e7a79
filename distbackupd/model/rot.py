"""Source files whose content changed though nobody wrote them."""

from __future__ import annotations

from typing import NamedTuple

from distbackupd.model.files import Entry, UnconfirmedFile


class KnownContent(NamedTuple):
    """A living regular file and the content that the catalogue knows of it, to be read again.

    ``file`` is the row of its version: newer versions have higher numbers. ``is_rotten``: found so already.
    """

    file: int
    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int
    object_id: int
    digest: bytes
    is_rotten: bool


class Reading(NamedTuple):
    """What a source file holds now: the SHA-256, empty where its medium does not give it.

    ``entry`` is the file as it stood from the first to the last byte read, without its name. ``settled``: whoever writes to
    it from now on leaves a trace in its times. ``is_witnessed``: its file system sets the time of change at each write,
    and keeps it.
    """

    digest: bytes
    entry: Entry
    settled: bool
    is_witnessed: bool


class Confirmation(NamedTuple):
    """A file whose content was believed, and what was read of it."""

    file: UnconfirmedFile
    reading: Reading


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
