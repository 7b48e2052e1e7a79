"""A ``Mounter`` whose disks are plain folders. Needs no root."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from distbackupd.model.disks import LUKS, Mount, Volume
from distbackupd.model.errors import DiskGone, DiskReadOnly, DiskTrouble, UsageError


@dataclass
class _Disk:
    """One disk: its content lies in ``folder``, which moves to the mount point and back.

    ``inside`` is its file system: ``volume`` itself, unless that is a container, which ``key`` opens.
    """

    volume: Volume
    inside: Volume
    folder: Path
    drive: str
    key: bytes = b""
    write_protected: bool = False
    plugged: bool = True
    mount_point: Path | None = None
    ours: bool = False
    in_use: bool = False
    user: str = ""


class FakeMounter:
    """Disks are folders below ``folder/shelf``; mounting moves one to ``folder/mnt``, so it is really gone afterwards.

    ``log`` tells what happened: ``unlock photos``, ``mount photos``, ``unmount photos``, ``lock photos``, ``power off
    /dev/fake0``. ``can_power_off``: whether drives can be switched off.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shelf: dict[str, _Disk] = {}
        self._keys: dict[str, bytes] = {}
        self.can_power_off = True
        self._remarks: dict[str, str] = {}
        self.log: list[str] = []

    def new_disk(
        self,
        filesystem_uuid: str = "",
        filesystem_type: str = "ext4",
        write_protected: bool = False,
        key: bytes = b"",
        beside: Volume | None = None,
    ) -> Volume:
        """A fresh, empty, plugged disk. ``key``: it is encrypted, and what is given back is the container.

        ``beside``: it is a partition on the same drive as that one.
        """
        device = f"/dev/fake{len(self._shelf)}"
        content = self._folder / "shelf" / os.path.basename(device)
        content.mkdir(parents=True)
        inside = Volume(device, filesystem_uuid or str(uuid.uuid4()), filesystem_type)
        volume = inside
        if key:
            volume = Volume(device, str(uuid.uuid4()), LUKS)
            inside = replace(inside, device=f"/dev/inside{len(self._shelf)}")
        drive = self._shelf[beside.device].drive if beside else device
        self._shelf[device] = _Disk(volume, inside, content, drive, key, write_protected)
        return volume

    def plug(self, volume: Volume) -> None:
        """Plug a disk in again."""
        self._shelf[volume.device].plugged = True

    def unplug(self, volume: Volume) -> None:
        """Pull a disk out. If it is mounted, its files are out of reach at once, and the mounted context raises DiskGone."""
        disk = self._shelf[volume.device]
        disk.plugged = False
        if disk.mount_point:
            self._leave(disk)

    def content(self, volume: Volume) -> Path:
        """Where the disk's files lie now, to look at them or to damage them behind the program's back."""
        disk = self._shelf[volume.device]
        return disk.mount_point or disk.folder

    def keep_busy(self, volume: Volume, user: str) -> None:
        """From now on unmounting fails and names ``user``; empty: it can be unmounted again."""
        self._shelf[volume.device].user = user

    def leave_unclean(self, volume: Volume, remark: str) -> None:
        """The next mount finds the file system unclean, mends it and makes this remark."""
        self._remarks[volume.device] = remark

    def mount_elsewhere(self, volume: Volume, mount_point: Path) -> None:
        """Somebody else mounts the disk, and unlocks it for that."""
        self._enter(self._shelf[volume.device], mount_point, ours=False)

    def unlocked(self) -> int:
        """How many containers are unlocked now."""
        return sum(1 for disk in self._shelf.values() if disk.key and disk.mount_point)

    @contextmanager
    def mounted(self, volume: Volume, name: str, read_only: bool = False) -> Iterator[Mount]:
        """See the port."""
        disk = self._shelf[volume.device]
        if not disk.plugged:
            raise DiskGone(f"{name} was pulled out before it was mounted; plug it in again")
        if disk.mount_point is None and disk.key:
            self._unlock(disk, name)
        if disk.write_protected and not read_only:
            raise DiskReadOnly(f"{name} can only be read, nothing was changed on it: it has a write-protection switch")
        ours = disk.mount_point is None or (disk.ours and not disk.in_use)
        remark = ""
        if disk.mount_point is None:
            remark = "" if read_only else self._remarks.pop(volume.device, "")
            self._enter(disk, self._free_folder(disk, name), ours=True)
            self.log.append(f"mount {name}")
        disk.in_use = ours or disk.in_use
        finished = False
        try:
            yield replace(self._mount(disk), ours=ours, remark=remark)
            finished = True
        finally:
            if ours:
                disk.in_use = False
                trouble = self._unmount(disk, name)
                if trouble and finished:
                    raise trouble

    def release(self, volume: Volume, name: str) -> None:
        """See the port."""
        disk = self._disk(volume)
        if disk.mount_point and (trouble := self._unmount(disk, name)):
            raise trouble

    def power_off(self, volume: Volume) -> bool:
        """See the port."""
        disk = self._disk(volume)
        if self.can_power_off:
            for sibling in self._shelf.values():
                if sibling.drive == disk.drive:
                    sibling.plugged = False
            self.log.append(f"power off {disk.drive}")
        return self.can_power_off

    def share_drive(self, one: Volume, other: Volume) -> bool:
        """See the port."""
        return self._disk(one).drive == self._disk(other).drive

    def also_mounted(self, volume: Volume) -> list[str]:
        """See the port."""
        own = self._disk(volume)
        others = [disk for disk in self._shelf.values() if disk.drive == own.drive and disk is not own]
        return [str(disk.mount_point) for disk in others if disk.mount_point]

    def container_of(self, mount: Mount) -> Volume | None:
        """See the port."""
        return next((disk.volume for disk in self._shelf.values() if disk.key and disk.inside.device == mount.device), None)

    def keep_key(self, container: Volume, key: bytes) -> str:
        """See the port."""
        disk = self._shelf[container.device]
        if disk.key not in {key, key.removesuffix(b"\n").removesuffix(b"\r")}:
            raise UsageError(f"the key does not open {container.device}, so it was not kept")
        self._keys[container.filesystem_uuid] = disk.key
        return "in memory"

    def mounts(self) -> list[Mount]:
        """See the port."""
        return [self._mount(disk) for disk in self._shelf.values() if disk.mount_point]

    def mount_of(self, path: bytes) -> Mount:
        """See the port; what lies on no fake disk lies on one without UUID, mounted at /."""
        if not os.path.lexists(path):
            raise UsageError(f"{os.fsdecode(path)} cannot be reached: No such file or directory")
        real = Path(os.path.realpath(os.fsdecode(path)))
        for disk in self._shelf.values():
            if disk.mount_point and real.is_relative_to(disk.mount_point.resolve()):
                return self._mount(disk)
        return Mount(b"/", "rootfs", "tmpfs")

    def share_filesystem(self, one: bytes, other: bytes) -> bool:
        """See the port."""
        try:
            return self.mount_of(one).device == self.mount_of(other).device
        except UsageError:
            return False

    def attached(self, filesystem_uuid: str) -> list[Volume]:
        """See the port."""
        plugged = [disk for disk in self._shelf.values() if disk.plugged]
        volumes = [disk.volume for disk in plugged]
        # What somebody else unlocked is a volume of its own.
        volumes += [disk.inside for disk in plugged if disk.key and disk.mount_point and not disk.ours]
        return [volume for volume in volumes if volume.filesystem_uuid == filesystem_uuid]

    def _disk(self, volume: Volume) -> _Disk:
        return next(disk for disk in self._shelf.values() if volume.device in {disk.volume.device, disk.inside.device})

    def _mount(self, disk: _Disk) -> Mount:
        volume = disk.inside
        return Mount(
            root=os.fsencode(disk.mount_point or disk.folder),
            device=volume.device,
            filesystem_type=volume.filesystem_type,
            filesystem_uuid=volume.filesystem_uuid,
            read_only=disk.write_protected,
            ours=disk.ours,
            on_device=True,
        )

    def _free_folder(self, disk: _Disk, name: str) -> Path:
        folder = self._folder / "mnt" / (re.sub(r"[/\0-\x1f\x7f]", "_", name).lstrip(".") or "disk")
        return folder.with_name(f"{folder.name}-{os.path.basename(disk.volume.device)}") if folder.exists() else folder

    def _unlock(self, disk: _Disk, name: str) -> None:
        kept = self._keys.get(disk.volume.filesystem_uuid)
        if kept is None:
            raise DiskTrouble(f"{name} ({disk.volume.device}) is encrypted and no key to it is kept; nothing was touched")
        if kept != disk.key:
            raise DiskTrouble(f"{name} ({disk.volume.device}) is not opened by the key that is kept for it")
        self.log.append(f"unlock {name}")

    def _enter(self, disk: _Disk, mount_point: Path, ours: bool) -> None:
        mount_point.parent.mkdir(parents=True, exist_ok=True)
        if mount_point.exists():
            mount_point.rmdir()
        disk.folder.rename(mount_point)
        disk.mount_point, disk.ours = mount_point, ours

    def _leave(self, disk: _Disk) -> None:
        if disk.mount_point:
            disk.mount_point.rename(disk.folder)
            disk.mount_point = None

    def _unmount(self, disk: _Disk, name: str) -> DiskTrouble | None:
        if not disk.plugged:
            return DiskGone(f"{name} was pulled out before it was unmounted; what was recorded is safe on it")
        if disk.user:
            return DiskTrouble(f"{name} is still mounted at {disk.mount_point}, in use by {disk.user}")
        self._leave(disk)
        self.log.append(f"unmount {name}")
        if disk.key:
            self.log.append(f"lock {name}")
        return None
