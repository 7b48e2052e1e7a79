"""The catalogue's copy on a disk, and what lies beside it for the day on which only the disk is left."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator

from distbackupd.model.disks import DiskIdentity
from distbackupd.model.errors import CatalogueTrouble, NoRoomForCopy
from distbackupd.model.text import printable
from distbackupd.store import stand_alone
from distbackupd.store.folders import Folder
from distbackupd.store.identity import write_beside
from distbackupd.store.plain_files import READABLE, Aside, beside, create_file, exists, is_file, open_file, read_file
from distbackupd.store.trouble import is_full

CATALOGUE = b"distbackup.sqlite"
README = b"README.txt"
RESTORE_SCRIPT = b"distbackup-restore.py"
_SLACK_BLOCKS = 16
_AT_ONCE = 8 << 20
_WORTH_KEEPING = 8 << 20
"""Bytes: a smaller copy is soon known again."""
_KEPT = re.compile(re.escape(CATALOGUE) + rb"\.kept-([1-9]\d{0,8})")
_MOST_KEPT = 100
"""So many copies that are kept beside are looked at, the last ones: nobody has more by honest means."""


def find_copies(root: Folder, kept: bool) -> list[bytes]:
    """Names of the copy and, if ``kept``, of the last of those that are kept beside it. Raises OSError."""
    found = [CATALOGUE]
    if kept:
        numbers = sorted(int(match[1]) for name in root.names() if (match := _KEPT.fullmatch(name)))
        found += [CATALOGUE + b".kept-%d" % number for number in numbers[-_MOST_KEPT:]]
    return [name for name in found if is_file(root, name)]


def open_copy(root: Folder, name: bytes) -> int:
    """A descriptor to read one of them from. Raises NotAFile, OSError."""
    if name != CATALOGUE and not _KEPT.fullmatch(name):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return open_file(root, name)


def size_of_copy(root: Folder) -> int:
    """Bytes on the disk that the copy takes; 0: there is none."""
    try:
        return os.stat(CATALOGUE, dir_fd=root.descriptor, follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0


def replace_copy(
    root: Folder,
    write_copy: Callable[[bytes], None],
    must_be_kept: Callable[[int], bool],
    aside: Aside,
    spare: bytes,
    assure: Callable[[], object] = lambda: None,
    flush: Callable[[], object] = lambda: None,
) -> bytes:
    """Write a copy in the place of the one that lies there; its folder is not flushed yet.

    SQLite opens files by their paths, which may lead anywhere on a disk that somebody else can write to. So it writes the
    copy to ``spare``, elsewhere (empty: a temporary folder), and that is copied onto the disk. One there that is foreign,
    broken, of a newer program, much larger or ``must_be_kept`` (it is given a descriptor) is kept under another name: which
    (empty: none). ``assure`` raises before anything is replaced if the copy is not sound. Where there is no room for both,
    the old one goes first; ``flush`` makes file systems give room back that they hold until then. Raises OSError,
    CatalogueTrouble; nothing of ours is left beside it then.
    """
    here = root.descriptor
    with _written(write_copy, spare) as ours:
        try:
            _copy_onto(root, ours, must_be_kept, aside, assure, flush)
            assure()
            kept = b""
            if exists(root, CATALOGUE) and _is_to_be_kept(root, ours, must_be_kept):
                kept = _keep_beside(root)
            os.rename(beside(CATALOGUE), CATALOGUE, src_dir_fd=here, dst_dir_fd=here)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside(CATALOGUE), dir_fd=here)
            raise
    return kept


def _copy_onto(
    root: Folder,
    ours: int,
    must_be_kept: Callable[[int], bool],
    aside: Aside,
    assure: Callable[[], object],
    flush: Callable[[], object],
) -> None:
    """The copy lies beside the old one then, or alone where there is no room for both; flushed. Raises OSError."""
    try:
        _write_beside(root, ours, aside)
    except OSError as error:
        if not is_full(error) or not size_of_copy(root):
            raise
        with contextlib.suppress(OSError):
            os.unlink(beside(CATALOGUE), dir_fd=root.descriptor)
        flush()
        if not _fits_instead(ours, root) or _is_to_be_kept(root, ours, must_be_kept):
            raise
        assure()
        os.unlink(CATALOGUE, dir_fd=root.descriptor)
        flush()
        _write_beside(root, ours, aside)


@contextlib.contextmanager
def _written(write_copy: Callable[[bytes], None], spare: bytes) -> Iterator[int]:
    """A descriptor to read the new copy from, which is gone at the end. Raises CatalogueTrouble."""
    with contextlib.ExitStack() as stack:
        if not spare:
            spare = os.fsencode(stack.enter_context(tempfile.TemporaryDirectory())) + b"/" + CATALOGUE
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(spare)
            descriptor = os.open(spare, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, descriptor)
            stack.callback(os.unlink, spare)
            write_copy(spare)
        except OSError as error:
            trouble = NoRoomForCopy if is_full(error) else CatalogueTrouble
            raise trouble(
                f"the copy of the catalogue for the disk cannot be written to {printable(os.path.dirname(spare))} first: "
                f"{error.strerror}; what was copied is recorded: make room there, and try again"
            ) from error
        yield descriptor


def _write_beside(root: Folder, ours: int, aside: Aside) -> None:
    # What keeps a file from being made is told here.
    target = create_file(root, beside(CATALOGUE), aside)
    try:
        size, done = os.fstat(ours).st_size, 0
        while done < size and (count := os.sendfile(target, ours, done, min(_AT_ONCE, size - done))):
            done += count
        os.fsync(target)
    finally:
        os.close(target)


def _fits_instead(ours: int, root: Folder) -> bool:
    """Whether the new copy has room on the disk once the one there is gone."""
    state = os.fstatvfs(root.descriptor)
    free = state.f_bavail * state.f_frsize + size_of_copy(root)
    return os.fstat(ours).st_size + _SLACK_BLOCKS * state.f_frsize <= free


def write_leaflets(root: Folder, identity: DiskIdentity | None, aside: Aside) -> None:
    """The restore script and, if the disk has a name, its README; durable, and for everybody to read. Raises OSError."""
    if identity is not None:
        written = time.strftime("%Y-%m-%d %H:%M")
        _replace_if_other(root, README, stand_alone.readme(identity.name, identity.uuid, written).encode(), aside)
    _replace_if_other(root, RESTORE_SCRIPT, stand_alone.restore_script(), aside)


def _is_to_be_kept(root: Folder, ours: int, must_be_kept: Callable[[int], bool]) -> bool:
    """Whether the copy that lies there is no file, cannot be read, was written by another or a newer program, or must be."""
    try:
        theirs = open_file(root, CATALOGUE)
    except OSError:
        return True
    try:
        application, version = _read_header(theirs)
        our_application, our_version = _read_header(ours)
        return (
            application != our_application
            or version > our_version
            or _lost_much(os.fstat(theirs).st_size, os.fstat(ours).st_size)
            or must_be_kept(theirs)
        )
    except OSError:
        return True
    finally:
        os.close(theirs)


def _lost_much(before: int, now: int) -> bool:
    """Whether a catalogue of these sizes forgot most of what it knew. It never shrinks, unless it is made anew."""
    return before > _WORTH_KEEPING and now < before // 2


def _read_header(descriptor: int) -> tuple[bytes, bytes]:
    """Application and version, which SQLite keeps at fixed places; empty where there is too little."""
    header = os.pread(descriptor, 100, 0)
    return header[68:72], header[60:64]


def _keep_beside(root: Folder) -> bytes:
    """Give it another name beside: which."""
    number = 1
    while exists(root, kept := CATALOGUE + b".kept-%d" % number):
        number += 1
    os.rename(CATALOGUE, kept, src_dir_fd=root.descriptor, dst_dir_fd=root.descriptor)
    return kept


def _replace_if_other(root: Folder, name: bytes, content: bytes, aside: Aside) -> None:
    with contextlib.suppress(OSError):
        if read_file(root, name, len(content) + 1) == content:
            return
    if not is_file(root, name):
        aside.take(root, name)
    try:
        write_beside(root, name, content, aside, READABLE)
    except OSError as error:
        # Better an old one than no copy of the catalogue.
        if not is_full(error) or not exists(root, name):
            raise
