"""Whether a folder is marked to be left out by somebody who may decide that."""

from __future__ import annotations

import os
import stat

SKIP_MARKER = b".distbackup.skip"
_ALL_WRITE = stat.S_IWGRP | stat.S_IWOTH


def distrust_marker(folder: int) -> str:
    """Why the marker in an open folder does not count; empty: it does. Raises OSError.

    It counts if it is the folder's owner's or root's, and if nobody else could have put it there: who may write in the
    folder can give a file of the owner this name. A group with the number of the owner is taken for his own.
    """
    try:
        marker = os.stat(SKIP_MARKER, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return "is not there any more"
    own = os.fstat(folder)
    if not stat.S_ISREG(marker.st_mode):
        return "is no regular file"
    if marker.st_uid not in (own.st_uid, 0):
        return "belongs to somebody else than the folder"
    if marker.st_nlink > 1:
        return "is another name of a file that somebody may have linked there"
    others = own.st_mode & (_ALL_WRITE if own.st_gid != own.st_uid else stat.S_IWOTH)
    if others and not own.st_mode & stat.S_ISVTX:
        return "lies in a folder in which others than its owner may write"
    return ""
