"""How much room a disk's file system says that it has."""

from __future__ import annotations

import os

from distbackupd.model.disks import FAT_LARGEST_FILE, Space

_FIXED_INODES = ("ext2", "ext3", "ext4")


def space_on(root: int, filesystem_type: str, folders: int, catalogue: int) -> Space:
    """The room on the file system that the open ``root`` lies on, and what is told of the layout there. Raises OSError."""
    state = os.fstatvfs(root)
    return Space(
        total=state.f_blocks * state.f_frsize,
        free=state.f_bavail * state.f_frsize,
        block_size=max(512, state.f_frsize),
        largest_file=FAT_LARGEST_FILE if filesystem_type in ("vfat", "msdos") else 0,
        reserved=max(0, state.f_bfree - state.f_bavail) * state.f_frsize,
        free_files=_free_files(state, filesystem_type),
        folders=folders,
        catalogue=catalogue,
    )


def _free_files(state: os.statvfs_result, filesystem_type: str) -> int | None:
    """None where inodes are made of free blocks as they are needed (xfs, btrfs, FAT and exFAT, NTFS).

    Some of these tell no number, some a number that follows the free blocks; one that is less than these is a limit.
    """
    if not state.f_files or (filesystem_type not in _FIXED_INODES and state.f_favail >= state.f_bavail):
        return None
    return int(state.f_favail)
