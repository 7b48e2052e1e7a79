"""What the use cases need to reach a disk."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from distbackupd.model.disks import Mount, Volume


class Mounter(Protocol):
    """Mounts disks, or uses them where they are mounted."""

    def mounted(self, volume: Volume, name: str, read_only: bool = False) -> AbstractContextManager[Mount]:
        """The volume, mounted while the context lasts; on exit what was mounted here is flushed and unmounted.

        A LUKS container is unlocked with the key that is kept for it, the file system in it is mounted, and on exit it
        is locked again if it was locked before. A file system that was not left clean is mended first, where it has a
        checker that needs no answers; ``Mount.remark`` tells so. One that is mounted already is used as it is.

        ``read_only``: nothing will be written or mended; else a disk that can only be read raises DiskReadOnly. Raises
        DiskGone if it was pulled out, DiskTrouble in a sentence if it cannot be unlocked, mended or mounted; on exit, if
        it is busy, naming who uses it. If the body raised, its error wins.
        """

    def release(self, volume: Volume, name: str) -> None:
        """Flush and unmount the volume wherever it is mounted, whoever mounted it, and lock what was unlocked.

        Raises DiskTrouble naming who uses it; nothing is ever unmounted under somebody's hands. What is neither mounted
        nor unlocked is released already.
        """

    def power_off(self, volume: Volume) -> bool:
        """Switch the drive off on which the volume lies, with all that lies on it; the volume must be released.

        False: here nobody can, or may, or the drive is still needed for something else; the log has the reason.
        """

    def share_drive(self, one: Volume, other: Volume) -> bool:
        """Whether both lie on one drive (a stick, an enclosure's disk), so that they are unplugged together."""

    def also_mounted(self, volume: Volume) -> list[str]:
        """Where other file systems of the same drive are mounted, by whomever: they must not be unplugged with it."""

    def container_of(self, mount: Mount) -> Volume | None:
        """The LUKS container in which the mounted file system lies; None: it is not encrypted."""

    def keep_key(self, container: Volume, key: bytes) -> str:
        """Keep the key by which :meth:`mounted` unlocks the container from now on; where and how, as a sentence's end.

        Raises UsageError if it does not open the container, or cannot be kept; a key that was kept before still is then.
        A line's end that a text editor put behind the key is left out.
        """

    def mounts(self) -> list[Mount]:
        """What is mounted now and could hold a backup disk: block devices and FUSE on them, no network."""

    def mount_of(self, path: bytes) -> Mount:
        """The mounted file system that ``path`` lies on."""

    def share_filesystem(self, one: bytes, other: bytes) -> bool:
        """Whether both paths lie on one file system, however it is mounted; False where one of them is not there."""

    def attached(self, filesystem_uuid: str) -> list[Volume]:
        """Every plugged-in volume with this UUID, of a file system or of a container: more than one are clones.

        The inside of a container that was unlocked here is none; that of one which somebody else unlocked is.
        """
