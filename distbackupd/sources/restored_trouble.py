"""What an error of the system means for a restore."""

from __future__ import annotations

import errno

from distbackupd.engine.ports import EntryRefused, TargetTrouble
from distbackupd.model.text import printable

UNABLE = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
"""The destination, or this user, cannot do such a thing."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_GONE = (errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.ENOMEM, errno.EMFILE)


def told(error: OSError, destination: bytes) -> TargetTrouble | EntryRefused:
    """Trouble that ends the restore, or that concerns one entry only."""
    place = printable(destination)
    if error.errno in _FULL:
        return TargetTrouble(
            f"{place} is full; what was restored stays: make room and restore again, what is right is left alone"
        )
    if error.errno in _GONE:
        return TargetTrouble(f"{place} cannot be written: {error.strerror}; what was restored stays")
    return EntryRefused(f"it cannot be written: {error.strerror}")
