"""What another program's database knows: distbackup 1.0.20's, before it is taken over."""

from __future__ import annotations

from typing import NamedTuple


class FormerDisk(NamedTuple):
    """A disk as distbackup knows it. ``number``: its place in ``object.nexus``, from 0. None, or empty: unknown."""

    number: int
    uuid: str
    name: str
    relative_path: bytes
    filesystem_uuid: str | None
    filesystem_type: str | None
    capacity: int


class FormerFile(NamedTuple):
    """A file or a symbolic link (with a ``target``) as distbackup knows it.

    ``path`` is virtual and absolute. ``digest`` is None where the content is unknown, or there is none.
    """

    path: bytes
    size: int
    mtime_ms: int
    inode: int
    digest: bytes | None
    priority: int
    maxcopies: int
    target: bytes = b""
