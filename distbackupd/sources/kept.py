"""What file systems say of an entry, as numbers that fit into 64 bits with a sign, which is what the catalogue keeps.

Whoever compares what stands there with what is known does it with these numbers, so that what did not fit is still the
same the next time.
"""

from __future__ import annotations

import os

_LARGEST = 2**63 - 1
_SMALLEST = -(2**63)


def kept_time(nanoseconds: int) -> int:
    """The nearest time that can be kept, in nanoseconds since 1970: from the year 1677 to the year 2262."""
    if _SMALLEST <= nanoseconds <= _LARGEST:
        return nanoseconds
    return _LARGEST if nanoseconds > 0 else _SMALLEST


def kept_number(number: int) -> int:
    """A number of up to 64 bits (an inode, a device), another one for each."""
    return number - 2**64 if number > _LARGEST else number


def is_as_known(state: os.stat_result, size: int, mtime_ns: int, inode: int = 0) -> bool:
    """Whether an open file still has this size, time and inode (0: whichever)."""
    return (
        state.st_size == size
        and kept_time(state.st_mtime_ns) == mtime_ns
        and (not inode or kept_number(state.st_ino) == inode)
    )
