"""The catalogue's copy on a disk, and what lies beside it for the day on which only the disk is left."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator

from distbackupd.model.disks import DiskIdentity
from distbackupd.store import stand_alone
from distbackupd.store.flushing import flush_paths
from distbackupd.store.identity import write_beside
from distbackupd.store.plain_files import create_file, is_file, move_aside, read_file
from distbackupd.store.trouble import is_full

CATALOGUE = b"distbackup.sqlite"
_SLACK_BLOCKS = 4
_KEPT = re.compile(re.escape(CATALOGUE) + rb"\.kept-\d+")


def find_copies(root: bytes, kept: bool) -> list[bytes]:
    """Paths of the copy and, if ``kept``, of those that are kept beside it. Raises OSError."""
    names = [name for name in os.listdir(root) if name == CATALOGUE or (kept and _KEPT.fullmatch(name))]
    return [path for name in sorted(names) if is_file(path := root + b"/" + name)]


def size_of_copy(root: bytes) -> int:
    """Bytes on the disk that the copy takes; 0: there is none."""
    try:
        return os.lstat(root + b"/" + CATALOGUE).st_blocks * 512
    except OSError:
        return 0


def replace_copy(
    root: bytes,
    write_copy: Callable[[bytes], None],
    must_be_kept: Callable[[bytes], bool],
    aside: bytes,
    spare: bytes,
) -> bytes:
    """Write a copy in the place of the one that lies there; its folder is not flushed yet. Raises OSError.

    One that is foreign, broken, of a newer program or ``must_be_kept`` is kept under another name: which (empty: none).
    Where there is no room for both, the new one is written to ``spare``, elsewhere; only then the old one goes.
    """
    path = root + b"/" + CATALOGUE
    beside = path + b".new"
    try:
        _write_beside(beside, write_copy, aside)
    except OSError as error:
        if not spare or not is_full(error) or not size_of_copy(root):
            raise
        with _written_to(spare, write_copy, error):
            if not _fits_instead(spare, root) or _is_strange(path, spare) or must_be_kept(path):
                raise
            os.unlink(path)
            _write_beside(beside, lambda target: _copy(spare, target), aside)
    strange = os.path.lexists(path) and (_is_strange(path, beside) or must_be_kept(path))
    kept = _keep_beside(path) if strange else b""
    os.rename(beside, path)
    return kept


def _write_beside(beside: bytes, write_copy: Callable[[bytes], None], aside: bytes) -> None:
    # What keeps a file from being made is told better here than by SQLite.
    os.close(create_file(beside, aside))
    try:
        write_copy(beside)
        flush_paths([beside])
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


@contextlib.contextmanager
def _written_to(spare: bytes, write_copy: Callable[[bytes], None], trouble: OSError) -> Iterator[None]:
    """The new copy lies there while this lasts. Raises ``trouble`` if it cannot."""
    try:
        _write_beside(spare, write_copy, os.path.dirname(spare))
    except OSError:
        raise trouble from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(spare)


def _fits_instead(spare: bytes, root: bytes) -> bool:
    """Whether what lies at ``spare`` has room on the disk once the copy there is gone."""
    state = os.statvfs(root)
    free = state.f_bavail * state.f_frsize + size_of_copy(root)
    return os.stat(spare).st_size + _SLACK_BLOCKS * state.f_frsize <= free


def _copy(source: bytes, target: bytes) -> None:
    with open(source, "rb") as content, open(target, "wb") as copy:
        shutil.copyfileobj(content, copy, 1 << 20)


def write_leaflets(root: bytes, identity: DiskIdentity | None, aside: bytes) -> None:
    """The restore script and, if the disk has a name, its README; durable. Raises OSError."""
    if identity is not None:
        written = time.strftime("%Y-%m-%d %H:%M")
        _replace_if_other(root + b"/README.txt", stand_alone.readme(identity.name, identity.uuid, written).encode(), aside)
    _replace_if_other(root + b"/distbackup-restore.py", stand_alone.restore_script(), aside)


def _is_strange(path: bytes, ours: bytes) -> bool:
    """Whether what lies at ``path`` is no file, cannot be read, or was written by another program, or a newer one."""
    try:
        application, version = _read_header(path)
    except OSError:
        return True
    our_application, our_version = _read_header(ours)
    return application != our_application or version > our_version


def _read_header(path: bytes) -> tuple[bytes, bytes]:
    """Application and version, which SQLite keeps at fixed places; empty where there is too little."""
    header = read_file(path, 100)
    return header[68:72], header[60:64]


def _keep_beside(path: bytes) -> bytes:
    """Give it another name beside: which."""
    number = 1
    while os.path.lexists(kept := path + b".kept-%d" % number):
        number += 1
    os.rename(path, kept)
    return kept


def _replace_if_other(path: bytes, content: bytes, aside: bytes) -> None:
    with contextlib.suppress(OSError):
        if read_file(path, len(content) + 1) == content:
            return
    if not is_file(path):
        move_aside(path, aside)
    try:
        write_beside(path, content, aside)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path + b".new")
        # Better an old one than no copy of the catalogue.
        if not is_full(error) or not os.path.exists(path):
            raise
