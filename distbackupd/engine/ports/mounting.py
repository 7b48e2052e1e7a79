"""What the use cases need to reach a disk."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from distbackupd.model.disks import Mount, Volume


class Mounter(Protocol):
    """Mounts disks, or uses them where they are mounted."""

    def mounted(self, volume: Volume, name: str, read_only: bool = False) -> AbstractContextManager[Mount]:
        """The volume, mounted while the context lasts; on exit what was mounted here is flushed and unmounted.

        ``read_only``: nothing will be written; else a disk that can only be read raises DiskReadOnly. Raises
        DiskTrouble in a sentence if it cannot be mounted; on exit, if it is busy, names who holds it.
        """

    def mounts(self) -> list[Mount]:
        """What is mounted now and could hold a backup disk: block devices and FUSE on them, no network."""

    def mount_of(self, path: bytes) -> Mount:
        """The mounted file system that ``path`` lies on."""

    def attached(self, filesystem_uuid: str) -> list[Volume]:
        """Every plugged-in volume with this file system UUID: more than one are clones."""
