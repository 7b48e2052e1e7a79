"""The engine's ``Mounter`` for a daemon that may not mount: it looks for itself, and has the helper do the rest.

The connection to the helper lasts as long as something is mounted through it, and a little longer. When it ends, however it
ends, the helper unmounts and locks what it mounted: so nothing stays behind a daemon that was killed.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.afterwards import afterwards
from distbackupd.hotplug.checking import refuse_read_only
from distbackupd.hotplug.commands import Commands
from distbackupd.hotplug.errands import SOCKET_PATH, Answer, Errand, Verb, ask
from distbackupd.hotplug.lookups import Lookups
from distbackupd.hotplug.mounts import MOUNT_FOLDER
from distbackupd.model.disks import Mount, Volume
from distbackupd.model.errors import DiskGone, DiskTrouble, UsageError
from distbackupd.model.text import printable

_log = logging.getLogger(__name__)


def connect_to_helper() -> socket.socket:
    """Raises OSError: it is not there, or lets nobody like us in."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(SOCKET_PATH)
    except BaseException:
        connection.close()
        raise
    return connection


class HelperMounter(Lookups):
    """Implements ``engine.ports.Mounter`` by way of the helper. For one thread at a time; ``connect`` reaches the helper."""

    def __init__(self, mount_folder: bytes = MOUNT_FOLDER, connect: Callable[[], socket.socket] = connect_to_helper) -> None:
        super().__init__(mount_folder, Commands())
        self._connect = connect
        self._connection: socket.socket | None = None
        self._mounted = 0

    @contextmanager
    def mounted(self, volume: Volume, name: str, read_only: bool = False) -> Iterator[Mount]:
        """As ``SystemMounter.mounted``; the mount point's name is the one that root's list has for the disk."""
        answer = self._ask("mount", volume, name, read_only)
        assert answer.mount is not None
        self._mounted += 1
        with afterwards(lambda: self._leave(volume, name)):
            if answer.device != volume.device:
                raise DiskGone(
                    f"{printable(name)} is plugged in as {answer.device} now, no longer as {volume.device}; "
                    "nothing was touched: plug it in again"
                )
            line = self._line_of(answer.mount, name)
            if line.block_number != sysfs.number_of(answer.mount.device):
                raise DiskGone(
                    f"what is mounted at {printable(answer.mount.root)} is not {printable(name)}; plug it in again"
                )
            # What the helper sees of the mount need not be what is seen here.
            named = {"ID_FS_UUID": answer.mount.filesystem_uuid or "", "ID_FS_TYPE": answer.mount.filesystem_type}
            mount = replace(self._mount(line, named), ours=answer.mount.ours, remark=answer.mount.remark)
            if not read_only:
                refuse_read_only(mount, line, name)
            yield mount

    def release(self, volume: Volume, name: str) -> None:
        """As ``SystemMounter.release``."""
        self._remember_drives(volume)
        self._ask("release", volume, name)

    def power_off(self, volume: Volume) -> bool:
        """As ``SystemMounter.power_off``."""
        try:
            return self._ask("power-off", volume, volume.device).done
        except DiskTrouble as trouble:
            _log.info("%s stays switched on: %s", volume.device, trouble)
            return False

    def keep_key(self, container: Volume, key: bytes) -> str:  # noqa: ARG002 - the port's words
        """Keys come from root alone, never by way of the daemon: always raises UsageError."""
        raise UsageError(f"the key to {container.device} was not kept: only root can have it kept, by 'dsb disk add'")

    def unmount_leftovers(self) -> list[str]:
        """As ``SystemMounter.unmount_leftovers``."""
        try:
            return list(self._ask("leftovers").remarks)
        except DiskTrouble as trouble:
            return [str(trouble)]

    def _leave(self, volume: Volume, name: str) -> None:
        self._mounted -= 1
        self._ask("leave", volume, name)

    def _ask(self, verb: Verb, volume: Volume | None = None, name: str = "", read_only: bool = False) -> Answer:
        """Raises DiskTrouble: what the helper met, or that it cannot be asked."""
        errand = Errand(verb, volume.filesystem_uuid if volume else "", read_only)
        while True:
            is_new = self._connection is None
            try:
                self._connection = self._connection or self._connect()
                answer = ask(self._connection, errand)
                reason = "it ended in the middle"
            except OSError as error:
                answer, reason = None, error.strerror or str(error)
            if answer is not None:
                return answer
            self._hang_up()
            # One that had nothing to do for a while has ended, and a new one is asked. But what is mounted only it knows.
            if is_new or self._mounted:
                raise DiskTrouble(
                    f"{printable(name) or 'what was left mounted'} cannot be mounted or unmounted: distbackupd-helper does "
                    f"not answer ({reason}); see 'systemctl status distbackupd-helper.socket', then plug the disk in again"
                )

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
