"""What stands at a name below the folder that is restored to, and the temporary names beside it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat

from distbackupd.engine.ports import Placement
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
_TEMPORARY = re.compile(rb"\.dbtmp~[0-9a-f]{20}")


class _Unwatched:
    """The pulse of short work that nobody stops."""

    def is_set(self) -> bool:
        return False

    def beat(self, done_bytes: int) -> None:
        pass


def state_of(folder: int, name: bytes) -> os.stat_result | None:
    """How the entry of an open folder stands; None: there is none."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def compare(
    folder: int, name: bytes, state: os.stat_result, entry: RestoreEntry, overwrite: bool, mark: RestoreMark | None
) -> Placement:
    """What is to become of an entry where something stands already; RESTORED: it is to be replaced.

    What ``mark`` doubts is read. What turns out to be the remains of our own work is replaced.
    """
    right = stat.S_IFMT(state.st_mode) == FORMATS[entry.kind]
    if right and entry.kind is EntryKind.FILE:
        if mark is not None and state.st_mtime_ns == entry.mtime_ns and mark.doubts(state):
            return _looked_at(folder, name, state, entry, mark)
        right = state.st_size == entry.size and same_time(state.st_mtime_ns, entry.mtime_ns)
    elif right and entry.kind is EntryKind.SYMBOLIC_LINK:
        right = os.readlink(name, dir_fd=folder) == entry.target
    elif right and entry.kind in (EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE):
        right = state.st_rdev == entry.attributes.rdev
    if right:
        return Placement.LEFT_ALONE
    if overwrite and not stat.S_ISDIR(state.st_mode) and entry.kind is not EntryKind.FOLDER:
        return Placement.RESTORED
    return Placement.IN_THE_WAY


def _looked_at(folder: int, name: bytes, state: os.stat_result, entry: RestoreEntry, mark: RestoreMark) -> Placement:
    if state.st_size != entry.size:
        return Placement.RESTORED
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = hash_descriptor(descriptor, entry.size, _Unwatched())
    finally:
        os.close(descriptor)
    if entry.digest is not None and found != (entry.size, entry.digest):
        return Placement.RESTORED
    mark.trust(state)
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


def discard(folder: int, temporary: bytes) -> None:
    """Remove what has a temporary name, if anything has."""
    with contextlib.suppress(OSError):
        os.unlink(temporary, dir_fd=folder)
