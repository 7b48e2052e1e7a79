"""Does the disk itself still answer? One thing on it that fails is one bad thing; a disk that does not answer is trouble.

A disk that was pulled out still answers from memory for a while: its folders can be listed, small files be read. So only
what is read past the page cache counts, or what is flushed.
"""

from __future__ import annotations

import errno
import os

from distbackupd.store.folders import Folder
from distbackupd.store.identity import FILE_NAME
from distbackupd.store.plain_files import Aside, NotAFile, create_file, open_file

_LARGER = (b"distbackup-restore.py", b"distbackup.sqlite")
"""Some file systems keep very small files among their tables, which stay in memory; these are larger."""
_ANSWER = b"answer"
_CANNOT_TELL = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def read_something(root: Folder) -> None:
    """Read from the medium. Raises OSError if nothing of what lies on every disk can be read."""
    failed: OSError | None = None
    for name in _LARGER:
        try:
            if _read_uncached(root, name):
                return
        except (FileNotFoundError, NotAFile):
            continue
        except OSError as error:
            failed = error
    if failed is not None:
        raise failed
    if not _read_uncached(root, FILE_NAME):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def write_something(folder: Folder, aside: Aside) -> None:
    """Write to the medium, if there is room and it may be written. Raises OSError."""
    try:
        descriptor = create_file(folder, _ANSWER, aside)
    except OSError as error:
        if error.errno in _CANNOT_TELL:
            return
        raise
    try:
        os.write(descriptor, b"?")
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_TELL:
            raise
    finally:
        os.close(descriptor)
        os.unlink(_ANSWER, dir_fd=folder.descriptor)


def _read_uncached(root: Folder, name: bytes) -> bool:
    """Whether there was anything to read. Raises OSError."""
    descriptor = open_file(root, name)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return bool(os.read(descriptor, 1))
    finally:
        os.close(descriptor)
