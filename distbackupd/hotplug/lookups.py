"""What can be seen of disks and mounts by whoever may read ``/proc``, sysfs and udev's database. Nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.commands import Commands
from distbackupd.hotplug.devices import (
    properties_known_to_udev,
    properties_of,
    volume_from_properties,
    volumes_with_uuid,
)
from distbackupd.hotplug.mountinfo import MountLine, mount_id_of, read_mountinfo, unlisted_root
from distbackupd.hotplug.users import is_below
from distbackupd.model.disks import Mount, Volume
from distbackupd.model.errors import DiskTrouble, UsageError
from distbackupd.model.text import printable


class Lookups:
    """The part of ``engine.ports.Mounter`` that only looks. Mounts below ``mount_folder`` are ours."""

    def __init__(self, mount_folder: bytes, commands: Commands) -> None:
        self._mount_folder = os.path.realpath(mount_folder)  # as the kernel will list it
        self._commands = commands
        self._drives: dict[str, set[str]] = {}

    def mounts(self) -> list[Mount]:
        """What is mounted now and could hold a backup disk; UUIDs as far as udev knows them. Asks no device."""
        visible = {line.mount_point: line for line in read_mountinfo()}
        return [self._mount(line, _properties_from_udev(line)) for line in visible.values() if line.could_hold_a_disk]

    def mount_of(self, path: bytes) -> Mount:
        """The mounted file system that ``path`` lies on; where udev has no UUID for it, its device is probed.

        Raises UsageError if the path is not there or lies on nothing that this process sees mounted.
        """
        try:
            mount_id = mount_id_of(path)
        except OSError as error:
            raise UsageError(f"{printable(path)} cannot be reached: {error.strerror}") from error
        line = next((line for line in read_mountinfo() if line.mount_id == mount_id), None) or unlisted_root(mount_id)
        if line is None:
            raise UsageError(
                f"{printable(path)} lies on a file system whose mount is not shown here, as in a container or a chroot into "
                "which it was brought; mount it, or bind it with 'mount --bind', inside, where /proc/self/mountinfo lists it"
            )
        return self._mount(line, properties_of(line.device, self._commands) if line.block_number else {})

    def share_filesystem(self, one: bytes, other: bytes) -> bool:
        """Whether both paths lie on one file system, however it is mounted; False where one of them is not there."""
        lines = {line.mount_id: line for line in read_mountinfo()}
        numbers = set()
        for path in (one, other):
            try:
                line = lines.get(mount_id_of(path))
                # Only btrfs has other numbers than its mount: one for each subvolume.
                numbers.add(line.block_number or line.device_number if line else os.stat(path).st_dev)
            except OSError:
                return False
        return len(numbers) == 1

    def attached(self, filesystem_uuid: str) -> list[Volume]:
        """Every plugged-in volume with this UUID: more than one are clones. See ``devices.volumes_with_uuid``."""
        return volumes_with_uuid(filesystem_uuid, self._commands)

    def share_drive(self, one: Volume, other: Volume) -> bool:
        """Whether some whole disk carries part of both, so that they are unplugged together."""
        return not sysfs.drives_under(one.device).isdisjoint(sysfs.drives_under(other.device))

    def also_mounted(self, volume: Volume) -> list[str]:
        """Where other file systems of the same drive are mounted, by whomever: they must not be unplugged with it."""
        drives = self._drives_of(volume)
        own = member_devices(volume.device, volume.filesystem_uuid)
        numbers = {line.device_number: line for line in read_mountinfo() if line.could_hold_a_disk}
        found = []
        for number, line in numbers.items():
            device = sysfs.device_of(number)
            if device and device not in own and not drives.isdisjoint(sysfs.drives_under(device)):
                found.append(printable(line.mount_point))
        return sorted(found)

    def container_of(self, mount: Mount) -> Volume | None:
        """The LUKS container in which the mounted file system lies; None: it is not encrypted."""
        container = sysfs.container_under(mount.device)
        return volume_from_properties(container, properties_of(container, self._commands)) if container else None

    def _line_of(self, mount: Mount, name: str) -> MountLine:
        """The mount in the kernel's list, as this process sees it. Raises DiskTrouble: it is not there."""
        for line in reversed(read_mountinfo()):
            if line.mount_point == mount.root and line.is_visible:
                return line
        raise DiskTrouble(f"{printable(name)} is mounted at {printable(mount.root)}, where this program does not see it")

    def _remember_drives(self, volume: Volume) -> None:
        """An inside is no more once its container is locked: its drive could not be found then."""
        self._drives[volume.device] = sysfs.drives_under(volume.device)

    def _drives_of(self, volume: Volume) -> set[str]:
        return sysfs.drives_under(volume.device) or self._drives.get(volume.device, set())

    def _is_ours(self, line: MountLine) -> bool:
        return line.mount_point != self._mount_folder and is_below(line.mount_point, self._mount_folder)

    def _mount(self, line: MountLine, properties: Mapping[str, str]) -> Mount:
        """The mount with udev's name for the type where there is one: ``ntfs``, not ``fuseblk`` or ``ntfs3``."""
        return Mount(
            root=line.mount_point,
            device=line.device,
            filesystem_type=properties.get("ID_FS_TYPE") or os.fsdecode(line.filesystem_type),
            filesystem_uuid=properties.get("ID_FS_UUID"),
            read_only=line.read_only,
            ours=self._is_ours(line),
            on_device=line.is_on_device,
            mounted_by=line.mounted_by,
            mount_id=line.mount_id,
        )


def member_devices(device: str, filesystem_uuid: str) -> set[str]:
    """The volume's device, and the others on which the same file system shows: it may be mounted as any of them."""
    devices = {device, *sysfs.partitions_that_begin_with(device)}
    with suppress(OSError):
        devices |= {f"/dev/{name}" for name in os.listdir(f"/sys/fs/btrfs/{filesystem_uuid}/devices")}
    return devices


def _properties_from_udev(line: MountLine) -> dict[str, str]:
    number = line.block_number
    return properties_known_to_udev(number) if number else {}
