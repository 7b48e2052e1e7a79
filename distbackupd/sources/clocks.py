"""What the times and inode numbers of a file system tell, by its type."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from typing import NamedTuple

_SECOND = 10**9
_FLEETING_INODES = {"vfat", "msdos", "exfat", "fuseblk", "9p"}
"""File systems that number inodes anew at each mount; so does FUSE in general."""
_NO_CHANGE_TIMES = {"vfat", "msdos", "exfat"}
"""What they give as time of change is made up, and another one after the next mount."""
_NO_TRACE = {"tmpfs", "ramfs", "hugetlbfs"}
"""They lie in memory, and a write through a mapping leaves their files' times alone."""
_OTHER_CLOCKS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "virtiofs", "vboxsf", "vmhgfs", "prl_fs"}
"""Another machine's clock sets their times, and what this machine knows of them may be a minute old."""
_TICK_NS = _SECOND // 10
"""Longer than between two ticks of the clock from which file systems take their times."""
_WHOLE_SECONDS_NS = 2 * _SECOND
_WIDE_BLUR_NS = 60 * _SECOND
_WRITTEN_BACK_NS = 900 * _SECOND
"""By then no page is dirty any more: half a minute is usual, and what saves power in laptops waits for ten."""
_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


class Clock(NamedTuple):
    """Of one file system. ``lasting_inodes``: they are the same after the next mount. ``change_times``: it keeps them.

    ``is_local``: this machine's clock sets its times, at once. ``witnesses``: each write sets the time of change.
    """

    lasting_inodes: bool
    change_times: bool
    is_local: bool
    witnesses: bool

    def blur_ns(self, changed_ns: int) -> int:
        """By so much a time may be behind the moment of the write that set it. File systems with whole seconds show it."""
        if not self.is_local:
            return _WIDE_BLUR_NS
        return _TICK_NS if changed_ns % _SECOND else _WHOLE_SECONDS_NS


def clock_of_type(filesystem_type: str) -> Clock:
    """The clock of a type of file systems, as ``/proc/self/mountinfo`` names it; empty: not known, a local one."""
    in_user_space = filesystem_type.startswith("fuse")
    elsewhere = in_user_space or filesystem_type in _OTHER_CLOCKS
    change_times = filesystem_type not in _NO_CHANGE_TIMES
    return Clock(
        lasting_inodes=filesystem_type not in _FLEETING_INODES and not filesystem_type.startswith("fuse."),
        change_times=change_times,
        is_local=change_times and not elsewhere,
        witnesses=change_times and not in_user_space and filesystem_type not in _NO_TRACE,
    )


def clock_of_device(device: int) -> Clock:
    """The clock of the file system that is mounted from this device now."""
    number = f"{os.major(device)}:{os.minor(device)}"
    return clock_of_type(next((kind for found, kind in _mounted_filesystems() if found == number), ""))


def write_back_if_recent(descriptor: int, state: os.stat_result, now_ns: int) -> None:
    """Let no page of the open file be dirty if it was changed lately.

    The times of a dirty page's file stay as they are however often the page is written to through a mapping. When it is
    written back it is write-protected, and the next write sets the times anew.
    """
    changed = max(state.st_mtime_ns, state.st_ctime_ns)
    if now_ns - changed < _WRITTEN_BACK_NS:
        # What fails to be written is read as it is in memory, and whoever wrote it is told when it asks.
        _libc.sync_file_range(descriptor, 0, 0, _WAIT_BEFORE | _WRITE | _WAIT_AFTER)


def _mounted_filesystems() -> Iterator[tuple[str, str]]:
    """(major:minor, type) of each mounted file system."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            yield before.split()[2], after.split()[0]
