"""The engine's ``Mounter`` on the real machine.

unlock -> check -> mount -> ... -> flush -> unmount -> lock
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from distbackupd.hotplug import filesystems, sysfs
from distbackupd.hotplug.afterwards import afterwards
from distbackupd.hotplug.checking import check, refuse_read_only
from distbackupd.hotplug.commands import CommandFailed, Commands
from distbackupd.hotplug.held import held
from distbackupd.hotplug.keys import KEY_FOLDER, KeptKeys
from distbackupd.hotplug.lookups import Lookups, member_devices
from distbackupd.hotplug.mountinfo import MountLine, read_mountinfo
from distbackupd.hotplug.power import power_off
from distbackupd.hotplug.syncfs import device_of, flush_device, flush_filesystem
from distbackupd.hotplug.unlocking import Containers
from distbackupd.hotplug.users import users_of
from distbackupd.model.disks import Mount, Volume
from distbackupd.model.errors import DiskGone, DiskTrouble
from distbackupd.model.text import join_words, printable

MOUNT_FOLDER = b"/run/distbackup-mnt"
"""Where disks are mounted. Not below /run/distbackupd, which systemd deletes when the service stops."""

_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.5, 2.0)
"""Seconds between the tries to unmount: virus scanners and thumbnailers let go within 5 s."""

_UNSAFE = re.compile(rb"[/\x00-\x1f\x7f]")


class SystemMounter(Lookups):
    """Mounts disks below ``mount_folder``, which belongs to it alone; implements ``engine.ports.Mounter``.

    For one thread at a time. ``commands`` says who runs mount(8) and the like; keys are kept in ``key_folder``; ``sleep``
    takes seconds.
    """

    def __init__(
        self,
        mount_folder: bytes = MOUNT_FOLDER,
        commands: Commands | None = None,
        key_folder: Path = KEY_FOLDER,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(mount_folder, commands or Commands())
        self._containers = Containers(self._commands, KeptKeys(self._commands, key_folder))
        self._sleep = sleep
        self._in_use: set[bytes] = set()

    @contextmanager
    def mounted(self, volume: Volume, name: str, read_only: bool = False) -> Iterator[Mount]:
        """The volume, unlocked if it is encrypted, and mounted while the context lasts.

        Where it is mounted already, that mount is used and left as it is (``ours`` is False), unless it is a leftover
        below the mount folder: that one is taken over. ``name`` becomes the mount point's name. With ``read_only`` the
        disk is neither mended nor written, and mounted read-only, or used as it is mounted; without, the mount can be
        written.

        On exit what is ours is flushed and unmounted, tried for 5 s, never while it is in use; its mount point is
        removed, and the container locked. If the body raised, its error wins, and trouble on exit is only logged.

        Raises:
            DiskReadOnly: only reading is possible; nothing of ours stays mounted.
            DiskGone: it was pulled out. The dead mount is cleaned away.
            DiskTrouble: it cannot be unlocked, checked or mounted; or, on exit, it could not be flushed, or somebody
                keeps it busy.
        """
        with self.entered(volume, name, read_only) as mount:
            if not read_only:
                refuse_read_only(mount, self._line_of(mount, name), name)
            yield mount

    @contextmanager
    def entered(self, volume: Volume, name: str, read_only: bool) -> Iterator[Mount]:
        """As :meth:`mounted`, but whether it can be written is for somebody else to find out, where he sees it."""
        with self._containers.unlocked(volume, name, read_only) as inside:
            line, remark = self._find(inside), ""
            ours = line is None or (self._is_ours(line) and line.mount_point not in self._in_use)
            if line is None:
                with held(inside, name) as number:
                    remark = "" if read_only else check(self._commands, inside, name)
                    line = self._mount_here(inside, number, name, read_only)
            named = {"ID_FS_UUID": inside.filesystem_uuid, "ID_FS_TYPE": inside.filesystem_type}
            mount = replace(self._mount(line, named), ours=ours, remark=remark)
            if ours:
                self._in_use.add(line.mount_point)
            with afterwards(lambda: self._leave(line, name) if ours else None):
                yield mount

    def release(self, volume: Volume, name: str) -> None:
        """Flush and unmount the volume wherever it is mounted, whoever mounted it, and lock what was unlocked.

        Raises DiskTrouble if it could not be flushed, or naming who keeps it busy.
        """
        mapping = sysfs.mapping_on(volume.device) if volume.encrypted else None
        inside = mapping[1] if mapping else volume.device
        container = volume.device if mapping else sysfs.container_under(volume.device)
        self._remember_drives(volume)
        devices = member_devices(inside, volume.filesystem_uuid)
        with afterwards(lambda: self._containers.lock(container, name) if container else None):
            # In the sandbox one mount may show twice, once visibly; both go at once.
            while lines := self._lines_on(devices):
                visible = next((line for line in reversed(lines) if line.is_visible), None)
                if visible is None:
                    place = printable(lines[-1].mount_point)
                    raise DiskTrouble(
                        f"{printable(name)} is still mounted at {place}, below another mount; end both before you unplug it"
                    )
                self._flush_and_unmount(visible, name)

    def power_off(self, volume: Volume) -> bool:
        """Switch off every drive that the volume lies on. False, with the reason in the log: nobody can, or may."""
        drives = self._drives_of(volume)
        return bool(drives) and all(power_off(drive, self._commands) for drive in sorted(drives))

    def keep_key(self, container: Volume, key: bytes) -> str:
        """Keep the key if it opens the container; where and how it is kept, as a sentence's end.

        A line's end behind the key is left out where the key opens the container only without it. Raises UsageError if
        it does not open it, or cannot be tested or kept.
        """
        return self._containers.keep_key(container, key)

    def unmount_leftovers(self) -> list[str]:
        """Unmount and lock what a killed daemon left behind; a sentence for each that is still in use.

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
        return sentences + ([] if sentences else self._containers.lock_leftovers())

    def _find(self, volume: Volume) -> MountLine | None:
        """The mount of the volume that is reachable, preferably of its whole file system."""
        found = [line for line in self._lines_on(member_devices(volume.device, volume.filesystem_uuid)) if line.is_visible]
        return min(found, key=lambda line: line.root != b"/", default=None)

    def _lines_on(self, devices: set[str]) -> list[MountLine]:
        numbers = {sysfs.number_of(device) for device in devices} - {0}
        return [line for line in read_mountinfo() if line.block_number in numbers]

    def _mount_here(self, volume: Volume, number: int, name: str, read_only: bool) -> MountLine:
        folder = self._free_folder(volume, name)
        try:
            os.makedirs(self._mount_folder, mode=0o700, exist_ok=True)
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise DiskTrouble(f"{printable(name)} cannot be mounted at {printable(folder)}: {error.strerror}") from error
        try:
            filesystems.mount(self._commands, volume.device, folder, volume.filesystem_type, read_only)
        except CommandFailed as error:
            _remove_folder(folder)
            if sysfs.is_gone(sysfs.number_of(volume.device)):
                raise DiskGone(f"{printable(name)} was pulled out before it was mounted; plug it in again") from error
            hint = f"if it stays so, {filesystems.remedy(volume.device, volume.filesystem_type)}"
            if error.status < 0:
                hint = "see to that, then plug it in again"
            elif "unknown filesystem type" in str(error):
                hint = filesystems.lacking(volume.filesystem_type)
            raise DiskTrouble(
                f"{printable(name)} ({volume.device}) cannot be mounted: {printable(str(error))}; {hint}"
            ) from error
        mounted = [line for line in read_mountinfo() if line.mount_point == folder and line.is_visible]
        if not mounted:
            raise DiskTrouble(f"{printable(name)} was unmounted by somebody as soon as it was mounted; plug it in again")
        if mounted[-1].block_number != number:
            self._unmount(mounted[-1], name, pauses=())
            raise DiskGone(f"{printable(name)} ({volume.device}) is another device now and was unmounted; plug it in again")
        return filesystems.harden(self._commands, mounted[-1])

    def _free_folder(self, volume: Volume, name: str) -> bytes:
        safe = _UNSAFE.sub(b"_", os.fsencode(name))[:200].lstrip(b".") or b"disk"
        taken = {line.mount_point for line in read_mountinfo()}
        folder = os.path.join(self._mount_folder, safe)
        return folder if folder not in taken else folder + b"-" + os.fsencode(os.path.basename(volume.device))

    def _leave(self, line: MountLine, name: str) -> None:
        self._in_use.discard(line.mount_point)
        self._flush_and_unmount(line, name)

    def _flush_and_unmount(self, line: MountLine, name: str) -> None:
        failed = None
        # Held open, so that what is flushed at last is the device that was mounted.
        with device_of(line.device) as device:
            try:
                flush_filesystem(line.mount_point)
            except OSError as error:
                failed = error
            gone = line.is_dead
            self._unmount(line, name, _PAUSES)
            try:
                flush_device(device)
            except OSError as error:
                failed = failed or error
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
                filesystems.unmount(self._commands, line.mount_point, lazily=line.is_dead)
                break
            except CommandFailed as error:
                if not any(still.mount_id == line.mount_id for still in read_mountinfo()):
                    break
                if pause is None:
                    users = join_words(users_of(line.mount_point, self._commands))
                    reason = f"in use by {users}" if users else f"because of this: {printable(str(error))}"
                    raise DiskTrouble(
                        f"{printable(name)} is still mounted at {printable(line.mount_point)}, {reason}; "
                        "what was recorded is safe, but end that and unmount the disk before you unplug it"
                    ) from error
            self._sleep(pause)
        if self._is_ours(line):
            _remove_folder(line.mount_point)


def _remove_folder(folder: bytes) -> None:
    with suppress(OSError):
        os.rmdir(folder)
