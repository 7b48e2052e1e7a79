"""What stands at a name below the folder that is restored to, and the temporary names beside it."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import stat

from distbackupd.engine.ports import Placement, Pulse
from distbackupd.model.files import EntryKind, RestoreEntry
from distbackupd.sources.restored_mark import RestoreMark
from distbackupd.sources.restored_metadata import same_time
from distbackupd.streams import hash_descriptor

FORMATS = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.FOLDER: stat.S_IFDIR,
    EntryKind.SYMBOLIC_LINK: stat.S_IFLNK,
    EntryKind.FIFO: stat.S_IFIFO,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
}
_NO_REPLACE = 1
_libc = ctypes.CDLL(None, use_errno=True)
_TEMPORARY = re.compile(rb"\.dbtmp~[0-9a-f]{20}")


class _Unwatched:
    """The pulse of short work that nobody stops."""

    def is_set(self) -> bool:
        return False

    def beat(self, done_bytes: int) -> None:
        pass


class Standing:
    """What stands at a name, of whatever kind, held so that it is the same one for as long as it is looked at.

    ``handle``: a path to it and to nothing else, whoever renames things; to a symbolic link itself.
    """

    __slots__ = ("descriptor", "handle", "state")

    def __init__(self, descriptor: int) -> None:
        """``descriptor`` is one of O_PATH, closed by :meth:`close`."""
        self.descriptor = descriptor
        self.handle = b"/proc/self/fd/%d" % descriptor
        self.state = os.fstat(descriptor)

    def __enter__(self) -> Standing:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let it go."""
        os.close(self.descriptor)

    @property
    def identity(self) -> tuple[int, int]:
        """What no other file has as long as it is held."""
        return self.state.st_dev, self.state.st_ino

    def open(self) -> int:
        """A descriptor to read the regular file or folder with. Raises OSError."""
        return os.open(self.handle, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def hold(folder: int, name: bytes) -> Standing | None:
    """What stands at a name in an open folder, to be closed; None: nothing. Raises OSError."""
    try:
        return Standing(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))
    except FileNotFoundError:
        return None


class Compared:
    """Files that were read and found right, so that the next disk's turn need not read them again.

    Only so many are kept: beyond that, reading twice is better than remembering millions.
    """

    MOST = 500_000

    def __init__(self) -> None:
        self._right: set[int] = set()

    def knows(self, entry: RestoreEntry, state: os.stat_result) -> bool:
        """Whether it looks as it did when it was found right."""
        return self._mark(entry, state) in self._right

    def remember(self, entry: RestoreEntry, state: os.stat_result) -> None:
        """It was found right."""
        if len(self._right) < self.MOST:
            self._right.add(self._mark(entry, state))

    def _mark(self, entry: RestoreEntry, state: os.stat_result) -> int:
        looks = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        return hash((entry.path, entry.digest, looks))


def compare(
    found: Standing,
    entry: RestoreEntry,
    overwrite: bool,
    mark: RestoreMark | None,
    compared: Compared,
    pulse: Pulse | None = None,
) -> Placement:
    """What is to become of an entry where something stands already; RESTORED: it is to be replaced.

    With ``overwrite`` the content counts, so it is read, unless ``compared`` knows it. What ``mark`` doubts is read too.
    What turns out to be the remains of our own work is replaced. Raises Interrupted.
    """
    state = found.state
    right = stat.S_IFMT(state.st_mode) == FORMATS[entry.kind]
    if right and entry.kind is EntryKind.FILE and overwrite:
        right = state.st_size == entry.size and (
            entry.digest is None or compared.knows(entry, state) or _holds(found, entry, pulse or _Unwatched())
        )
        if right:
            compared.remember(entry, state)
    elif right and entry.kind is EntryKind.FILE:
        if mark is not None and state.st_mtime_ns == entry.mtime_ns and mark.doubts(state):
            return _looked_at(found, entry, mark)
        right = state.st_size == entry.size and same_time(state.st_mtime_ns, entry.mtime_ns)
    elif right and entry.kind is EntryKind.SYMBOLIC_LINK:
        right = os.readlink(b"", dir_fd=found.descriptor) == entry.target
    elif right and entry.kind in (EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE):
        right = state.st_rdev == entry.attributes.rdev
    if right:
        return Placement.LEFT_ALONE
    if overwrite and not stat.S_ISDIR(state.st_mode) and entry.kind is not EntryKind.FOLDER:
        return Placement.RESTORED
    return Placement.IN_THE_WAY


def _holds(found: Standing, entry: RestoreEntry, pulse: Pulse) -> bool:
    """Whether the file of the right size has the entry's content; what cannot be read has not."""
    try:
        descriptor = found.open()
    except OSError:
        return False
    try:
        return hash_descriptor(descriptor, entry.size, pulse) == (entry.size, entry.digest)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _looked_at(found: Standing, entry: RestoreEntry, mark: RestoreMark) -> Placement:
    if found.state.st_size != entry.size:
        return Placement.RESTORED
    if entry.digest is not None and not _holds(found, entry, _Unwatched()):
        return Placement.RESTORED
    mark.trust(found.state)
    return Placement.LEFT_ALONE


def temporary_name(name: bytes) -> bytes:
    """Always the same for a name, so that the next restore replaces what an interrupted one left."""
    return b".dbtmp~" + hashlib.blake2b(name, digest_size=10).hexdigest().encode()


def is_temporary(name: bytes) -> bool:
    """Whether it is what :func:`temporary_name` gives."""
    return _TEMPORARY.fullmatch(name) is not None


def create(folder: int, temporary: bytes) -> int:
    """A descriptor of a new, empty file under a temporary name, whatever stood there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(temporary, flags, 0o600, dir_fd=folder)
    except FileExistsError:
        os.unlink(temporary, dir_fd=folder)
        return os.open(temporary, flags, 0o600, dir_fd=folder)


def rename_to_free_name(folder: int, name: bytes, free: bytes) -> None:
    """Rename in an open folder, never over something else. Raises OSError; FileExistsError if the name is not free."""
    if _libc.renameat2(folder, name, folder, free, _NO_REPLACE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), free)


def discard(folder: int, temporary: bytes) -> None:
    """Remove what has a temporary name, if anything has."""
    with contextlib.suppress(OSError):
        os.unlink(temporary, dir_fd=folder)
