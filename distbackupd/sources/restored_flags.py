"""Flags of ``chattr`` at the destination: set last, and taken off in between where an earlier restore had set them."""

from __future__ import annotations

from distbackupd.model.files import EntryKind, InodeFlag, RestoreEntry
from distbackupd.sources.inode_flags import opened, write_flags


def give_flags(folder: int, name: bytes, flags: InodeFlag) -> bool:
    """Whether a file or folder has just these flags now."""
    try:
        with opened(folder, name) as descriptor:
            return not write_flags(descriptor, flags)
    except OSError:
        return False


def unlock(folder: int, name: bytes, entry: RestoreEntry) -> bool:
    """Let what an earlier restore locked be changed, whether it was that; it is to be locked again at the end.

    Where the backup knows of no lock, it is somebody else's, and stays.
    """
    locks = entry.inode_flags & InodeFlag.LOCKS
    return bool(locks) and give_flags(folder, name, entry.inode_flags & ~InodeFlag.LOCKS)


def give_before_content(descriptor: int, entry: RestoreEntry) -> None:
    """What only means something for what is written afterwards."""
    flags = entry.inode_flags & InodeFlag.BEFORE_CONTENT
    if flags:
        write_flags(descriptor, flags)


def is_locked_later(entry: RestoreEntry) -> bool:
    """Whether it is a file whose lock has to wait: what is locked takes no name and no link."""
    return entry.kind is EntryKind.FILE and bool(entry.inode_flags & InodeFlag.LOCKS)
