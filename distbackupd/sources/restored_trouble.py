"""What an error of the system means for a restore."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from distbackupd.engine.ports import EntryRefused, TargetTrouble
from distbackupd.model.text import printable

UNABLE = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
"""The destination, or this user, cannot do such a thing."""
_NO_SUCH_NAME = (errno.ENOENT, errno.EINVAL, errno.EILSEQ)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_GONE = (errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.ENOMEM, errno.EMFILE)


def may_be_dead(error: OSError) -> bool:
    """Whether such an error can also mean that the whole destination is gone, and not only that it cannot do this."""
    return error.errno in _GONE


def answers(folder: int, name: bytes) -> bool:
    """Whether the open folder takes a small file of this name, and gives it up again; whoever may not write is answered."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC  # never into what somebody else put there
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
    try:
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            os.write(descriptor, b"?")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def told(error: OSError, destination: bytes, is_alive: Callable[[], bool] = lambda: False) -> TargetTrouble | EntryRefused:
    """Trouble that ends the restore, or that concerns one entry only: then the destination ``is_alive`` still."""
    place = printable(destination)
    if error.errno in _FULL:
        return TargetTrouble(
            f"{place} is full; what was restored stays: make room and restore again, what is right is left alone"
        )
    if may_be_dead(error) and not is_alive():
        return TargetTrouble(f"{place} cannot be written: {error.strerror}; what was restored stays")
    # exfat-fuse says "no such file" of a name that it cannot have.
    hint = "; the destination may not take such a name" if error.errno in _NO_SUCH_NAME else ""
    return EntryRefused(f"it cannot be written: {error.strerror}{hint}")
