"""Regular files and real folders, looked at before they are opened: on a damaged disk anything may stand in their place.

Opening a FIFO waits for ever, opening a device node may do something, a symbolic link leads off the disk. So nothing is
opened that is no regular file, and what stands in the way is moved aside, never followed and never deleted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device node",
    stat.S_IFBLK: "a device node",
    stat.S_IFSOCK: "a socket",
}
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class NotAFile(OSError):
    """Something else stands where a regular file should; ``strerror`` says what."""

    def __init__(self, mode: int) -> None:
        super().__init__(errno.EINVAL, f"{_KINDS.get(stat.S_IFMT(mode), 'something else')} stands in its place")


def open_file(path: bytes) -> int:
    """A descriptor to read a regular file from. Never waits, follows nothing. Raises NotAFile, OSError."""
    mode = os.lstat(path).st_mode
    if not stat.S_ISREG(mode):
        raise NotAFile(mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFile(mode)
    return descriptor


def read_file(path: bytes, limit: int) -> bytes:
    """The beginning of a regular file, at most ``limit`` bytes. Raises NotAFile, OSError."""
    with open(open_file(path), "rb") as file:
        return file.read(limit)


def is_file(path: bytes) -> bool:
    """Whether a regular file is there, and can be looked at."""
    return _has_format(path, stat.S_IFREG)


def is_folder(path: bytes) -> bool:
    """Whether a real folder is there, and can be looked at."""
    return _has_format(path, stat.S_IFDIR)


def create_file(path: bytes, aside: bytes) -> int:
    """A descriptor to write a new, empty file, in the place of whatever stands there; a folder goes to ``aside``."""
    try:
        return os.open(path, _NEW, 0o644)
    except FileExistsError:
        remove_file(path, aside)
    return os.open(path, _NEW, 0o644)


def remove_file(path: bytes, aside: bytes) -> None:
    """Remove what is no folder; a folder, which may hold anything, goes to ``aside``. What is not there is no error."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        if not is_folder(path):
            raise
        move_aside(path, aside)


def make_folder(path: bytes, aside: bytes) -> None:
    """See to it that a real folder is there; what stands in its place goes to the folder ``aside``. Raises OSError."""
    try:
        os.mkdir(path)
    except FileExistsError:
        # Also a folder that cannot be looked at stands in its own way.
        if not is_folder(path):
            move_aside(path, aside)
            os.mkdir(path)


def move_aside(path: bytes, aside: bytes) -> None:
    """Move what is at the path into the folder ``aside``, which is made if it is missing, under a free name.

    What is not there is no error. Raises OSError.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        pass  # damaged, and in the way all the same
    if path != aside and not is_folder(aside):
        if os.path.lexists(aside):
            os.rename(aside, _free_name(aside))
        os.mkdir(aside)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.rename(path, _free_name(aside + b"/" + os.path.basename(path)))


def _free_name(path: bytes) -> bytes:
    name, number = path, 0
    while os.path.lexists(name):
        number += 1
        name = path + b".%d" % number
    return name


def _has_format(path: bytes, kind: int) -> bool:
    try:
        return stat.S_IFMT(os.lstat(path).st_mode) == kind
    except OSError:
        return False
