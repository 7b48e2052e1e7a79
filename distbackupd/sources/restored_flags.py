"""Flags of ``chattr`` at the destination: set last, and taken off in between where an earlier restore had set them.

``handle`` is a path below ``/proc/self/fd`` to a file or folder that is held: flags never go to another one.
"""

from __future__ import annotations

import os

from distbackupd.model.files import EntryKind, InodeFlag, RestoreEntry
from distbackupd.sources.inode_flags import read_flags, write_flags


def give_flags(handle: bytes, flags: InodeFlag) -> bool:
    """Whether a file or folder has just these flags now."""
    try:
        descriptor = os.open(handle, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not write_flags(descriptor, flags)
    finally:
        os.close(descriptor)


def has_flags(handle: bytes, flags: InodeFlag) -> bool:
    """Whether it has just these flags."""
    try:
        descriptor = os.open(handle, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return read_flags(descriptor) == flags
    except OSError:
        return False
    finally:
        os.close(descriptor)


def unlock(handle: bytes, entry: RestoreEntry) -> bool:
    """Let what an earlier restore locked be changed, whether it was that; it is to be locked again at the end.

    Where the backup knows of no lock, it is somebody else's, and stays. While it is locked, nobody can rename or link it.
    """
    locks = entry.inode_flags & InodeFlag.LOCKS
    return entry.kind is EntryKind.FILE and bool(locks) and give_flags(handle, entry.inode_flags & ~InodeFlag.LOCKS)


def give_before_content(descriptor: int, entry: RestoreEntry) -> None:
    """What only means something for what is written afterwards."""
    flags = entry.inode_flags & InodeFlag.BEFORE_CONTENT
    if flags:
        write_flags(descriptor, flags)


def is_locked_later(entry: RestoreEntry) -> bool:
    """Whether it is a file whose lock has to wait: what is locked takes no name and no link."""
    return entry.kind is EntryKind.FILE and bool(entry.inode_flags & InodeFlag.LOCKS)
