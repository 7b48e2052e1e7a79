"""The catalogue's copy on a disk, and what lies beside it for the day on which only the disk is left."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable

from distbackupd.model.disks import DiskIdentity
from distbackupd.store import stand_alone
from distbackupd.store.flushing import flush_paths
from distbackupd.store.identity import write_beside
from distbackupd.store.plain_files import create_file, is_file, move_aside, read_file

CATALOGUE = b"distbackup.sqlite"
_KEPT = re.compile(re.escape(CATALOGUE) + rb"\.kept-\d+")


def find_copies(root: bytes, kept: bool) -> list[bytes]:
    """Paths of the copy and, if ``kept``, of those that are kept beside it. Raises OSError."""
    names = [name for name in os.listdir(root) if name == CATALOGUE or (kept and _KEPT.fullmatch(name))]
    return [path for name in sorted(names) if is_file(path := root + b"/" + name)]


def replace_copy(
    root: bytes, write_copy: Callable[[bytes], None], must_be_kept: Callable[[bytes], bool], aside: bytes
) -> bytes:
    """Write a copy in the place of the one that lies there; its folder is not flushed yet. Raises OSError.

    One that is foreign, broken, of a newer program or ``must_be_kept`` is kept under another name: which (empty: none).
    """
    path = root + b"/" + CATALOGUE
    beside = path + b".new"
    # What keeps a file from being made is told better here than by SQLite.
    os.close(create_file(beside, aside))
    try:
        write_copy(beside)
        flush_paths([beside])
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    strange = os.path.lexists(path) and (_is_strange(path, beside) or must_be_kept(path))
    kept = _keep_beside(path) if strange else b""
    os.rename(beside, path)
    return kept


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
    write_beside(path, content, aside)
