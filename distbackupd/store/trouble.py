"""What a system error on a backup disk means, in one sentence."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from distbackupd.beneath import is_mounted_read_only, open_folder
from distbackupd.model.errors import DiskForbidden, DiskFull, DiskGone, DiskReadOnly, DiskTrouble
from distbackupd.model.text import printable

_GONE = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESHUTDOWN, errno.ENOTCONN, errno.EREMOTEIO)
_DAMAGED = (errno.EUCLEAN, errno.EBADMSG)


def concerns_the_whole_disk(error: OSError) -> bool:
    """Whether the error cannot be that of a single damaged file or folder."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def is_full(error: OSError) -> bool:
    """Whether there is no room for it, of blocks, inodes or quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_trouble(error: OSError, root: bytes) -> DiskTrouble:
    """The trouble that a system error on the disk mounted at ``root`` means."""
    place = printable(root)
    if is_full(error):
        return DiskFull(
            f"the disk at {place} is full, fuller than expected; what was copied is recorded: "
            "remove what else lies on it, and try again"
        )
    if error.errno == errno.EROFS:
        return read_only(root, changed=True)
    if error.errno in (errno.EACCES, errno.EPERM):
        return DiskForbidden(
            f"the disk at {place} may not be read or written by this user, for what lies on it is its owner's alone; "
            "what was recorded before is safe: ask as root"
        )
    if error.errno in _GONE:
        return DiskGone(
            f"the disk at {place} does not answer any more ({error.strerror}); what was recorded before is safe: "
            "plug it in again, and if this repeats check its cable and its health"
        )
    if error.errno in _DAMAGED:
        return DiskTrouble(
            f"the file system of the disk at {place} is damaged ({error.strerror}); what was recorded before is safe: "
            "unmount it, let fsck check it, and plug it in again"
        )
    return DiskTrouble(f"the disk at {place} failed: {error.strerror}; what was recorded before is safe")


def read_only(root: bytes, changed: bool) -> DiskReadOnly:
    """The disk cannot be written. ``changed``: something may have been, before: a damaged file system turns read-only."""
    place = printable(root)
    kept = "what was recorded before is safe" if changed else "nothing was changed on it"
    if _is_mounted_read_only(root):
        return DiskReadOnly(
            f"the disk at {place} is read-only; {kept}: look for its write-protect switch, or check its file system"
        )
    return DiskReadOnly(
        f"the disk at {place} was mounted to be written and became read-only since, as the system makes it when the disk or "
        f"its file system fails; {kept}: unmount it, look at its health, let fsck check it, and plug it in again"
    )


def _is_mounted_read_only(root: bytes) -> bool:
    """Whether somebody, or a switch, had it mounted so; what the kernel does after errors does not show there."""
    with contextlib.suppress(OSError):
        folder = open_folder(root)
        try:
            return is_mounted_read_only(folder)
        finally:
            os.close(folder)
    return False


@contextlib.contextmanager
def in_words(root: bytes) -> Iterator[None]:
    """Turn system errors on the disk mounted at ``root`` into DiskTrouble."""
    try:
        yield
    except OSError as error:
        raise disk_trouble(error, root) from error
