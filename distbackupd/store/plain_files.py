"""Regular files of a disk, looked at before they are opened: on a damaged or hostile disk anything may stand in their place.

Opening a FIFO waits for ever, opening a device node may do something, a symbolic link leads off the disk. So each file is
reached by a single name in an open folder, nothing is opened that is no regular file, and what stands in the way is moved
aside, never followed and never deleted. A file that is written is always a new one: what is there may have other names.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from distbackupd.store.folders import Folder, NotAFolder

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device node",
    stat.S_IFBLK: "a device node",
    stat.S_IFSOCK: "a socket",
}
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
PRIVATE = 0o600
READABLE = 0o644
_OTHERS = 0o077


class NotAFile(OSError):
    """Something else stands where a regular file should; ``strerror`` says what."""

    def __init__(self, mode: int) -> None:
        super().__init__(errno.EINVAL, f"{_KINDS.get(stat.S_IFMT(mode), 'another file system')} stands in its place")


def beside(name: bytes) -> bytes:
    """Where the successor of a file is written before it takes its name."""
    return name + b".new"


def open_file(folder: Folder, name: bytes) -> int:
    """A descriptor to read a regular file from. Never waits, follows nothing. Raises NotAFile, OSError."""
    mode = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False).st_mode
    if not stat.S_ISREG(mode):
        raise NotAFile(mode)
    descriptor = os.open(name, _READ, dir_fd=folder.descriptor)
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode) or state.st_dev != folder.device:
        os.close(descriptor)
        raise NotAFile(state.st_mode)
    return descriptor


def read_file(folder: Folder, name: bytes, limit: int) -> bytes:
    """The beginning of a regular file, at most ``limit`` bytes. Raises NotAFile, OSError."""
    with open(open_file(folder, name), "rb") as file:
        return file.read(limit)


def exists(folder: Folder, name: bytes) -> bool:
    """Whether anything has this name, as far as that can be looked at."""
    return _format(folder, name) is not None


def is_file(folder: Folder, name: bytes) -> bool:
    """Whether a regular file is there, and can be looked at."""
    return _format(folder, name) == stat.S_IFREG


def is_folder(folder: Folder, name: bytes) -> bool:
    """Whether a real folder is there, and can be looked at."""
    return _format(folder, name) == stat.S_IFDIR


def is_open_to_others(state: os.stat_result) -> bool:
    """Whether somebody who is not its owner may read or write a file."""
    return bool(state.st_mode & _OTHERS)


def close_to_others(descriptor: int, state: os.stat_result) -> None:
    """Let nobody but its owner, who is the one who runs this, read an open file. Never fails.

    A file that has other names is left as it is: those may be somebody's.
    """
    if is_open_to_others(state) and state.st_nlink == 1:
        with contextlib.suppress(OSError):
            if state.st_uid != os.geteuid() and os.geteuid() == 0:
                os.fchown(descriptor, 0, 0)
            os.fchmod(descriptor, PRIVATE)


def close_file_to_others(folder: Folder, name: bytes) -> None:
    """The same for a file by its name. Raises NotAFile, OSError where there is none that can be opened."""
    descriptor = open_file(folder, name)
    try:
        close_to_others(descriptor, os.fstat(descriptor))
    finally:
        os.close(descriptor)


def create_file(folder: Folder, name: bytes, aside: Aside, mode: int = PRIVATE) -> int:
    """A descriptor to write a new, empty file, in the place of whatever stands there; a folder goes aside."""
    try:
        descriptor = os.open(name, _NEW, mode, dir_fd=folder.descriptor)
    except FileExistsError:
        remove_file(folder, name, aside)
        descriptor = os.open(name, _NEW, mode, dir_fd=folder.descriptor)
    folder.give_to_its_owner(descriptor)
    if mode != PRIVATE:  # whatever the process's mask
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, mode)
    return descriptor


def remove_file(folder: Folder, name: bytes, aside: Aside) -> None:
    """Remove what is no folder; a folder, which may hold anything, goes aside. What is not there is no error."""
    try:
        os.unlink(name, dir_fd=folder.descriptor)
    except FileNotFoundError:
        return
    except OSError:
        if not is_folder(folder, name):
            raise
        aside.take(folder, name)


def make_folder(folder: Folder, name: bytes, aside: Aside) -> Folder:
    """The real folder of this name, made if it is missing; what stands in its place goes aside. Raises OSError."""
    try:
        os.mkdir(name, 0o700, dir_fd=folder.descriptor)
    except FileExistsError:
        try:
            return folder.below(name)
        except NotAFolder as reason:
            _make_way(folder, name, aside, reason)
        except OSError:
            # Also a folder that cannot be looked at stands in its own way.
            if is_folder(folder, name):
                raise
            aside.take(folder, name)
        os.mkdir(name, 0o700, dir_fd=folder.descriptor)
    made = folder.below(name)
    folder.give_to_its_owner(made.descriptor)
    return made


def _make_way(folder: Folder, name: bytes, aside: Aside, reason: NotAFolder) -> None:
    try:
        aside.take(folder, name)
    except OSError as error:
        if error.errno == errno.EBUSY:  # it is mounted on
            raise reason from error
        raise


class Aside:
    """Where that goes which stands in the layout's way: the folder ``name`` in ``root``, made when it is first needed."""

    def __init__(self, root: Folder, name: bytes) -> None:
        self._root = root
        self._name = name

    def take(self, folder: Folder, name: bytes) -> None:
        """Move what has this name there, under a free name. What is not there is no error. Raises OSError."""
        try:
            os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError:
            pass  # damaged, and in the way all the same
        place = self._open()
        with contextlib.suppress(FileNotFoundError):
            os.rename(name, _free_name(place, name), src_dir_fd=folder.descriptor, dst_dir_fd=place.descriptor)

    def _open(self) -> Folder:
        try:
            place = self._root.below(self._name)
        except FileNotFoundError:
            os.mkdir(self._name, 0o700, dir_fd=self._root.descriptor)
            return self._root.below(self._name)
        except OSError:
            here = self._root.descriptor
            os.rename(self._name, _free_name(self._root, self._name), src_dir_fd=here, dst_dir_fd=here)
            os.mkdir(self._name, 0o700, dir_fd=here)
            return self._root.below(self._name)
        place.close_to_others()
        return place


def _free_name(folder: Folder, name: bytes) -> bytes:
    free, number = name, 0
    while exists(folder, free):
        number += 1
        free = name + b".%d" % number
    return free


def _format(folder: Folder, name: bytes) -> int | None:
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False).st_mode)
    except OSError:
        return None
