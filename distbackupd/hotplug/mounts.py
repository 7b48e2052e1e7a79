"""The engine's ``Mounter`` on the real machine."""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from distbackupd.hotplug import commands
from distbackupd.hotplug.devices import is_gone, probe_properties, properties_known_to_udev, volumes_with_uuid
from distbackupd.hotplug.mountinfo import MountLine, mount_id_of, read_mountinfo
from distbackupd.hotplug.syncfs import flush_filesystem
from distbackupd.hotplug.users import is_below, users_of
from distbackupd.model.disks import Mount, Volume
from distbackupd.model.errors import DiskGone, DiskReadOnly, DiskTrouble, UsageError
from distbackupd.model.text import join_words, printable

_log = logging.getLogger(__name__)

MOUNT_FOLDER = b"/run/distbackup-mnt"
"""Where disks are mounted. Not below /run/distbackupd, which systemd deletes when the service stops."""

_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.5, 2.0)
"""Seconds between the tries to unmount: virus scanners and thumbnailers let go within 5 s."""

_UNSAFE = re.compile(rb"[/\x00-\x1f\x7f]")


class SystemMounter:
    """Mounts disks below ``mount_folder``, which belongs to it alone; implements ``engine.ports.Mounter``.

    For one thread at a time. ``sleep`` takes seconds.
    """

    def __init__(self, mount_folder: bytes = MOUNT_FOLDER, sleep: Callable[[float], None] = time.sleep) -> None:
        self._mount_folder = os.path.realpath(mount_folder)  # as the kernel will list it
        self._sleep = sleep
        self._in_use: set[bytes] = set()

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
        for line in read_mountinfo():
            if line.mount_id == mount_id:
                properties = _properties_from_udev(line)
                if "ID_FS_UUID" not in properties and _block_number(line):
                    properties = probe_properties(_device(line))
                return self._mount(line, properties)
        raise UsageError(f"{printable(path)} lies on no file system that is mounted here")

    def attached(self, filesystem_uuid: str) -> list[Volume]:
        """Every plugged-in volume with this UUID: more than one are clones. See ``devices.volumes_with_uuid``."""
        return volumes_with_uuid(filesystem_uuid)

    @contextmanager
    def mounted(self, volume: Volume, name: str, read_only: bool = False) -> Iterator[Mount]:
        """The volume, mounted while the context lasts.

        Where it is mounted already, that mount is used and left as it is (``ours`` is False), unless it is a leftover
        below the mount folder: that one is taken over. ``name`` becomes the mount point's name. With ``read_only`` the
        disk is mounted read-only, or used as it is mounted; without, the mount can be written.

        On exit what is ours is flushed and unmounted, tried for 5 s, never while it is in use; its mount point is
        removed. If the body raised, its error wins, and trouble on exit is only logged.

        Raises:
            DiskReadOnly: only reading is possible; nothing of ours stays mounted.
            DiskGone: it was pulled out. The dead mount is cleaned away.
            DiskTrouble: it cannot be mounted; or, on exit, it could not be flushed, or somebody keeps it busy.
        """
        line = self._find(volume)
        ours = line is None or (self._is_ours(line) and line.mount_point not in self._in_use)
        if line is None:
            line = self._mount_here(volume, name, read_only)
        if ours:
            self._in_use.add(line.mount_point)
        finished = False
        try:
            if line.read_only and not read_only:
                raise DiskReadOnly(_say_read_only(line, name, ours))
            named = {"ID_FS_UUID": volume.filesystem_uuid, "ID_FS_TYPE": volume.filesystem_type}
            yield self._mount(line, named, ours)
            finished = True
        finally:
            if ours:
                self._in_use.discard(line.mount_point)
                try:
                    self._flush_and_unmount(line, name)
                except DiskTrouble as error:
                    if finished:
                        raise
                    _log.warning("%s", error)

    def unmount_leftovers(self) -> list[str]:
        """Unmount what a killed daemon left below the mount folder; a sentence for each that is still in use.

        One try each, without waiting.
        """
        sentences = []
        for line in reversed(read_mountinfo()):
            if self._is_ours(line) and line.mount_point not in self._in_use:
                try:
                    self._unmount(line, os.fsdecode(os.path.basename(line.mount_point)), pauses=())
                except DiskTrouble as error:
                    sentences.append(str(error))
        with suppress(OSError):
            for name in os.listdir(self._mount_folder):
                with suppress(OSError):
                    os.rmdir(os.path.join(self._mount_folder, name))
        return sentences

    def _find(self, volume: Volume) -> MountLine | None:
        """The mount of the volume that is reachable, preferably of its whole file system."""
        devices = _member_devices(volume)
        numbers = {_node_number(device) for device in devices} - {0}
        found = [line for line in read_mountinfo() if _block_number(line) in numbers and _is_visible(line)]
        return min(found, key=lambda line: line.root != b"/", default=None)

    def _mount_here(self, volume: Volume, name: str, read_only: bool) -> MountLine:
        folder = self._free_folder(volume, name)
        try:
            os.makedirs(self._mount_folder, mode=0o700, exist_ok=True)
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise DiskTrouble(f"{printable(name)} cannot be mounted at {printable(folder)}: {error.strerror}") from error
        try:
            commands.mount(volume.device, folder, volume.filesystem_type, read_only)
        except commands.CommandFailed as error:
            _remove_folder(folder)
            if is_gone(_node_number(volume.device)):
                raise DiskGone(f"{printable(name)} was pulled out before it was mounted; plug it in again") from error
            hint = f"if it stays so, check it: fsck {volume.device}"
            if "unknown filesystem type" in str(error):
                hint = "install what this system lacks to mount it"
            raise DiskTrouble(
                f"{printable(name)} ({volume.device}) cannot be mounted: {printable(str(error))}; {hint}"
            ) from error
        mounted = [line for line in read_mountinfo() if line.mount_point == folder]
        if not mounted:
            raise DiskTrouble(f"{printable(name)} was unmounted by somebody as soon as it was mounted; plug it in again")
        return mounted[-1]

    def _free_folder(self, volume: Volume, name: str) -> bytes:
        safe = _UNSAFE.sub(b"_", os.fsencode(name))[:200].lstrip(b".") or b"disk"
        taken = {line.mount_point for line in read_mountinfo()}
        folder = os.path.join(self._mount_folder, safe)
        return folder if folder not in taken else folder + b"-" + os.fsencode(os.path.basename(volume.device))

    def _flush_and_unmount(self, line: MountLine, name: str) -> None:
        failed = None
        try:
            flush_filesystem(line.mount_point)
        except OSError as error:
            failed = error
        gone = _is_dead(line)
        self._unmount(line, name, _PAUSES)
        if gone:
            raise DiskGone(
                f"{printable(name)} was pulled out before it was unmounted; "
                "what was recorded is safe on it, plug it in again to go on"
            ) from failed
        if failed:
            raise DiskTrouble(
                f"{printable(name)} did not take the last writes ({failed.strerror}) and is unmounted now; "
                "what was recorded before is safe, check the disk and its cable"
            ) from failed

    def _unmount(self, line: MountLine, name: str, pauses: tuple[float, ...]) -> None:
        """Unmount, lazily only where the device is gone, and remove the mount point. Raises DiskTrouble."""
        for pause in (*pauses, None):
            try:
                commands.unmount(line.mount_point, lazily=_is_dead(line))
                break
            except commands.CommandFailed as error:
                if not any(still.mount_id == line.mount_id for still in read_mountinfo()):
                    break
                if pause is None:
                    users = join_words(users_of(line)) or f"somebody ({printable(str(error))})"
                    raise DiskTrouble(
                        f"{printable(name)} is still mounted at {printable(line.mount_point)}, in use by {users}; "
                        "what was recorded is safe, but end that and unmount the disk before you unplug it"
                    ) from error
            self._sleep(pause)
        _remove_folder(line.mount_point)

    def _is_ours(self, line: MountLine) -> bool:
        return line.mount_point != self._mount_folder and is_below(line.mount_point, self._mount_folder)

    def _mount(self, line: MountLine, properties: Mapping[str, str], ours: bool | None = None) -> Mount:
        """The mount with udev's name for the type where there is one: ``ntfs``, not ``fuseblk`` or ``ntfs3``."""
        return Mount(
            root=line.mount_point,
            device=_device(line),
            filesystem_type=properties.get("ID_FS_TYPE") or os.fsdecode(line.filesystem_type),
            filesystem_uuid=properties.get("ID_FS_UUID"),
            read_only=line.read_only,
            ours=self._is_ours(line) if ours is None else ours,
        )


def _say_read_only(line: MountLine, name: str, ours: bool) -> str:
    place = printable(line.mount_point)
    if not ours:
        return (
            f"{printable(name)} is mounted read-only at {place}, nothing was changed on it; unmount it and plug it in again"
        )
    return (
        f"{printable(name)} can only be read, nothing was changed on it: it has a write-protection switch, "
        "or its file system is damaged and needs fsck; then plug it in again"
    )


def _is_visible(line: MountLine) -> bool:
    """Whether the mount point leads there, and not to something mounted over it."""
    try:
        return mount_id_of(line.mount_point) == line.mount_id
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a failing disk is still mounted there


def _properties_from_udev(line: MountLine) -> dict[str, str]:
    number = _block_number(line)
    return properties_known_to_udev(number) if number else {}


def _block_number(line: MountLine) -> int:
    """The number of the block device behind the mount, 0 where there is none: btrfs has an anonymous one of its own."""
    if os.major(line.device_number):
        return line.device_number
    return _node_number(os.fsdecode(line.source)) if line.source.startswith(b"/dev/") else 0


def _node_number(device: str) -> int:
    """The number of a block device, 0 if the node is not there or something else."""
    try:
        status = os.stat(device)
    except OSError:
        return 0
    return status.st_rdev if stat.S_ISBLK(status.st_mode) else 0


def _is_dead(line: MountLine) -> bool:
    """Whether the device behind the mount was pulled out."""
    if os.major(line.device_number) or line.source.startswith(b"/dev/"):
        return is_gone(_block_number(line))
    return False


def _device(line: MountLine) -> str:
    """The device's node as udev names it (``/dev/dm-0``, not ``/dev/mapper/music``); else the kernel's word for it."""
    number = _block_number(line)
    with suppress(OSError), open(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/uevent", encoding="utf-8") as uevent:
        for fact in uevent:
            if fact.startswith("DEVNAME="):
                return "/dev/" + fact.removeprefix("DEVNAME=").rstrip("\n")
    return os.fsdecode(line.source)


def _member_devices(volume: Volume) -> set[str]:
    """The volume's device, and the others of the same file system when that is a mounted btrfs."""
    devices = {volume.device}
    with suppress(OSError):
        devices |= {f"/dev/{name}" for name in os.listdir(f"/sys/fs/btrfs/{volume.filesystem_uuid}/devices")}
    return devices


def _remove_folder(folder: bytes) -> None:
    with suppress(OSError):
        os.rmdir(folder)
