"""Backup disks as the catalogue knows them, and volumes as they are plugged in and mounted."""

from __future__ import annotations

import re
from dataclasses import dataclass

FAT_LARGEST_FILE = 2**32 - 1
"""FAT32 holds no file of 4 GiB or more."""

LUKS = "crypto_LUKS"
"""What udev calls the type of a LUKS container."""

USUAL_BLOCK_SIZE = 4096
_LIKE_A_UUID = re.compile(r"[0-9a-fA-F-]{32,36}")

OBJECT_OVERHEAD = 4096
"""Bytes counted for each object beside its blocks: inode, folder entry, extents (distbackup counts the same)."""


def may_name_a_disk(name: str) -> bool:
    """Whether a disk may be called so: in one line of a terminal, and like no path, option or UUID."""
    plain = name.isprintable() and "/" not in name and not name.startswith("-") and 0 < len(name.encode()) <= 200
    return plain and not looks_like_a_uuid(name)


def looks_like_a_uuid(name: str) -> bool:
    """Whether whoever gives it as a name would be understood to give a UUID."""
    return _LIKE_A_UUID.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class DiskIdentity:
    """What ``distbackup-disk.json`` says."""

    uuid: str
    name: str


@dataclass(frozen=True, slots=True)
class BackupDisk:
    """An enrolled disk.

    ``id`` is the catalogue's own small number; it is never used again for another disk. ``capacity`` is how many
    bytes of the disk objects may fill. ``relative_path`` is where the layout lies below the mount point (empty: at its
    top). ``last_path`` is where it was last seen. Times are unix seconds, None for never.
    """

    id: int
    uuid: str
    name: str
    capacity: int
    relative_path: bytes
    filesystem_uuid: str | None
    filesystem_type: str | None
    last_path: bytes
    added_at: int
    last_session_at: int | None = None
    catalogue_generation: int = -1
    """Generation of the catalogue's copy on it (see ``Catalogue.generation``); -1: none."""
    clean: bool = True
    """Whether its last session came to its end. If not, finished copies may lie there that were never recorded."""
    luks_uuid: str | None = None
    """UUID of the LUKS container that its file system lies in, if a key to that is kept; None: it is not ours to open."""
    location: str = ""
    """Where it is kept (home, office, bank); empty: not said. Copies prefer places that have none."""

    block_size: int = USUAL_BLOCK_SIZE
    """In so many bytes its file system gives room to a file."""
    largest_file: int = 0
    """Bytes of the largest file that its file system holds; 0: no limit of its own."""
    overhead: int = OBJECT_OVERHEAD
    """Bytes that an object takes on it beside its blocks: a guess, until a session has measured it."""
    token: str = ""
    """Random; what its last session left on the disk, so that an older image or a clone of it is known; empty: none."""
    next_token: str = ""
    """What a session that died before it came to record it may have left there instead; empty: nothing."""
    most_objects: int = 0
    """So many objects its file system has inodes for, as it last told; 0: no limit of its own."""
    fillable: int = -1
    """Bytes of footprint that objects may take on it, as its file system last told; -1: it never did."""
    folder_on: str = ""
    """A folder that is no disk of its own: the file system it was made known on, see ``planning.genuine``; empty: it is."""
    folder_inode: int = 0
    """Of that folder, there; 0: its file system has no lasting ones."""
    declined: int = 0
    """Bytes with fewer copies than protect them that it does not hold, because its last session found no room for them."""

    @property
    def room(self) -> int:
        """Bytes of footprint that objects may take on it: its size, or less where its file system has less."""
        return self.capacity if self.fillable < 0 else min(self.capacity, self.fillable)

    def footprint(self, size: int) -> int:
        """Bytes that an object of ``size`` takes on it."""
        return self.overhead - (-size // self.block_size) * self.block_size

    def lies_on(self, volume: Volume) -> bool:
        """Whether the volume is its file system, or the container of it."""
        return self.lies_in(volume.filesystem_uuid)

    def lies_in(self, uuid: str) -> bool:
        """Whether the UUID is that of its file system, or of the container of it."""
        return uuid in {self.filesystem_uuid, self.luks_uuid}


@dataclass(frozen=True, slots=True)
class Volume:
    """A file system on a block device that is plugged in, as udev names it. ``device`` is ``/dev/sdb1`` and the like.

    A LUKS container is a volume too: :attr:`encrypted`.
    """

    device: str
    filesystem_uuid: str
    filesystem_type: str
    label: str = ""

    @property
    def encrypted(self) -> bool:
        """Whether it is a LUKS container, which must be unlocked to reach the file system in it."""
        return self.filesystem_type == LUKS


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system. ``ours``: this program mounted it and will unmount it.

    ``device``: its node in /dev, else the kernel's word for where it comes from, which any user may choose for FUSE.
    ``on_device``: the kernel says that this is a block device. ``mounted_by``: the user who mounted it, 0: root.
    ``mount_id``: the kernel's number of the mount, 0: not known. ``remark``: what was found and mended when it was mounted,
    as the end of a sentence; empty: nothing.
    """

    root: bytes
    device: str
    filesystem_type: str
    filesystem_uuid: str | None = None
    read_only: bool = False
    ours: bool = False
    remark: str = ""
    on_device: bool = False
    mounted_by: int = 0
    mount_id: int = 0


@dataclass(frozen=True, slots=True)
class Footing:
    """The top folder of a layout, as it was opened; ``mount_id`` as in :class:`Mount`."""

    owner: int
    mode: int
    inode: int
    mount_id: int = 0


@dataclass(frozen=True, slots=True)
class Space:
    """Room on a mounted backup disk, in bytes, as its file system tells. ``largest_file`` 0: no limit of its own."""

    total: int
    free: int
    block_size: int
    largest_file: int = 0
    reserved: int = 0
    """Bytes that only root may fill (ext4's reserved blocks); no part of ``free``."""
    free_files: int | None = None
    """So many files and folders more it has inodes for; None: as many as there is room for."""
    folders: int = 0
    """How many of the layout's folders for objects are there."""
    catalogue: int = 0
    """Bytes that the catalogue's copy takes there."""


def footprint(size: int, block_size: int = 4096) -> int:
    """Bytes that an object of ``size`` takes on a disk: whole blocks and :data:`OBJECT_OVERHEAD`."""
    return OBJECT_OVERHEAD + -(-size // block_size) * block_size


def default_capacity(total: int) -> int:
    """What of the ``total`` bytes that a disk takes is filled: all but 10 GB or 5%, the smaller of them, in 4 KiB blocks."""
    return (total - min(10_000_000_000, total // 20)) & ~0xFFF
