"""Whether what lies somewhere may be the backup disk that it says it is: what its file system and its top folder tell.

Anybody can write a ``distbackup-disk.json`` with any UUID, and root would copy everything there. So a disk is

* a mount of a block device with the recorded file-system UUID, as the device itself says it, never what a mount claims; or
* a folder that was made known as such, known by its inode and by the file system that it lies on: its UUID, or where there
  is none its type and source, as ``nfs4 server:/export``; device numbers of network and memory file systems change.

In both cases nobody but root, and who works for himself, may own or change the top folder where the file system has owners,
and nobody else may have mounted it. On FAT and the like the session's token is what is left, and who can read the disk can
copy that.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from distbackupd.model.disks import BackupDisk, Footing, Mount
from distbackupd.model.text import printable

_WITHOUT_OWNERS = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfs", "udf"})
"""Who owns a file there is what the mount's options say, or not kept by every driver."""
_FLEETING_INODES = frozenset({"vfat", "msdos", "exfat", "fuseblk", "ntfs", "9p", "smb3", "cifs"})
"""Numbers there may be others after the next mount."""
_OTHERS_WRITE = 0o022


class Doubt(NamedTuple):
    """Why something is not believed, and what to do, each a part of a sentence."""

    reason: str
    remedy: str

    def sentence(self, kept: str = "nothing on it was touched") -> str:
        """With what did not happen because of it."""
        return f"{self.reason}; {kept}: {self.remedy}"


def unsafe(place: bytes, mount: Mount, footing: Footing, owners: Collection[int]) -> Doubt | None:
    """Why the top folder at ``place`` could be exchanged by others than root and its ``owners``; None: it cannot."""
    path = printable(place)
    if footing.mount_id and mount.mount_id and footing.mount_id != mount.mount_id:
        return Doubt(f"something else is mounted at {path}", "unmount that, and try again")
    if mount.mounted_by not in owners and mount.mounted_by != 0:
        return Doubt(f"what is mounted at {path} was mounted by the user {mount.mounted_by}", "mount the disk as root")
    if _has_no_owners(mount):
        return None
    if footing.owner not in owners and footing.owner != 0:
        whom = "root" if 0 in owners else str(min(owners, default=0))
        return Doubt(
            f"the folder {path} belongs to the user {footing.owner}, who could exchange what lies there",
            f"'chown {whom}: {path}' makes it yours",
        )
    if footing.mode & _OTHERS_WRITE:
        return Doubt(
            f"others may write to the folder {path}, so they could exchange what lies there",
            f"'chmod go-w {path}' ends that",
        )
    return None


def doubt(disk: BackupDisk, place: bytes, mount: Mount, footing: Footing, owners: Collection[int]) -> Doubt | None:
    """Why what lies at ``place`` is not believed to be the disk; None: it is believed.

    What was made known before anything was recorded of folders is believed where it was last seen.
    """
    path = printable(place)
    says = f"say 'dsb disk set {disk.name} --path {path}"
    if disk.folder_on:
        replaces = f"if it is the right one, {says} --folder'"
        if disk.folder_on not in (names := names_of(mount)):
            return Doubt(f"{path} lies on {names[0]}, and '{disk.name}' lay on {disk.folder_on}", replaces)
        if disk.folder_inode and disk.folder_inode != footing.inode:
            return Doubt(f"{path} is another folder than the one that was made known as '{disk.name}'", replaces)
    elif disk.filesystem_uuid:
        if not mount.on_device:
            kind = printable(mount.filesystem_type)
            return Doubt(f"{path} lies on {kind}, on no device that could be '{disk.name}'", f"if it replaces that, {says}'")
        # An ordinary user may not ask a device.
        unasked = mount.filesystem_uuid is None and 0 not in owners
        if not unasked and mount.filesystem_uuid != disk.filesystem_uuid:
            return Doubt(
                f"what lies at {path} is a copy of '{disk.name}' on another file system",
                f"if it replaces the old disk, {says}'",
            )
    elif place != disk.last_path:
        where = printable(disk.last_path)
        return Doubt(f"'{disk.name}' was known at {where}, not at {path}", f"if it lies there now, {says} --folder'")
    return unsafe(place, mount, footing, owners)


def names_of(mount: Mount) -> tuple[str, ...]:
    """Lasting names of a mounted file system, the best first."""
    plain = printable(f"{mount.filesystem_type} {mount.device}")
    return (f"UUID={mount.filesystem_uuid}", plain) if mount.filesystem_uuid else (plain,)


def lasting_inode(mount: Mount, footing: Footing) -> int:
    """The folder's inode; 0 where its file system has no lasting ones."""
    kind = mount.filesystem_type
    return 0 if kind in _FLEETING_INODES or kind.startswith("fuse") else footing.inode


def _has_no_owners(mount: Mount) -> bool:
    return mount.filesystem_type in _WITHOUT_OWNERS or mount.filesystem_type.startswith("fuse.")
