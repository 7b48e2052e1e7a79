"""Errands of the daemon, done one after the other."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Collection
from contextlib import ExitStack, suppress

from distbackupd.hotplug.enrolled import EnrolledDisks
from distbackupd.hotplug.errands import (
    LONGEST_ERRAND,
    Answer,
    Errand,
    NoErrand,
    answer_of_trouble,
    read_errand,
    write_answer,
)
from distbackupd.hotplug.mounts import SystemMounter
from distbackupd.model.disks import Volume
from distbackupd.model.errors import DiskClone, DiskGone, DiskTrouble
from distbackupd.model.text import join_words

_log = logging.getLogger(__name__)

IDLE_SECONDS = 60.0
"""So long a caller for whom nothing is mounted may be silent, and then so long it is waited for another one."""

_CREDENTIALS = struct.Struct("3i")


class Helper:
    """Does errands for callers that run as one of ``users`` (by number), for disks that are ``enrolled``."""

    def __init__(
        self, mounter: SystemMounter, enrolled: EnrolledDisks, users: Collection[int], idle: float = IDLE_SECONDS
    ) -> None:
        self._mounter = mounter
        self._enrolled = enrolled
        self._users = users
        self._idle = idle

    def serve(self, listener: socket.socket) -> None:
        """Attend to one caller after the other, until none has come for a while."""
        listener.settimeout(self._idle)
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                return
            self.attend(connection)

    def attend(self, connection: socket.socket) -> None:
        """Do what this caller asks until it hangs up; what was mounted for it is unmounted and locked then, in any case."""
        with connection, ExitStack() as cleanup:
            user = _user_of(connection)
            if user not in self._users:
                _log.warning("user %d is none for whom disks are mounted; it was not answered", user)
                return
            caller = _Caller(self._mounter, self._enrolled)
            cleanup.callback(caller.leave_all)
            while True:
                connection.settimeout(None if caller.has_mounts else self._idle)
                try:
                    message = connection.recv(LONGEST_ERRAND)
                    if not message:
                        return
                    connection.settimeout(None)
                    connection.sendall(write_answer(_answer(caller, read_errand(message))))
                except NoErrand as error:
                    _log.warning("what user %d said is no errand, nothing was done: %s", user, error)
                    return
                except OSError:  # TimeoutError too
                    return


class _Caller:
    """One connection: what is mounted for it."""

    def __init__(self, mounter: SystemMounter, enrolled: EnrolledDisks) -> None:
        self._mounter = mounter
        self._enrolled = enrolled
        self._mounts: list[tuple[str, ExitStack]] = []
        self._released: dict[str, list[Volume]] = {}

    @property
    def has_mounts(self) -> bool:
        return bool(self._mounts)

    def do(self, errand: Errand) -> Answer:
        """Raises DiskTrouble."""
        if errand.verb == "leftovers":
            return Answer(remarks=self._mounter.unmount_leftovers())
        name = self._enrolled.name_of(errand.uuid)
        if name is None:
            raise DiskTrouble(
                f"no disk with the UUID {errand.uuid or '(none)'} is on root's list, so it was not touched: "
                "'sudo dsb disk set NAME' puts a disk that the catalogue knows on it"
            )
        match errand.verb:
            case "mount":
                return self._mount(errand, name)
            case "leave":
                self._leave(errand, name)
            case "release":
                self._released[errand.uuid] = self._mounter.attached(errand.uuid)
                for volume in self._released[errand.uuid]:
                    self._mounter.release(volume, name)
            case "power-off":
                # What was unlocked by somebody, and is locked again, is seen no more.
                volumes = self._mounter.attached(errand.uuid) or self._released.get(errand.uuid, [])
                return Answer(done=bool(volumes) and all(self._mounter.power_off(volume) for volume in volumes))
        return Answer()

    def leave_all(self) -> None:
        """The last first. Trouble is logged: there is nobody to be told."""
        while self._mounts:
            uuid, mount = self._mounts.pop()
            try:
                mount.close()
            except DiskTrouble as trouble:
                _log.warning("%s (%s)", trouble, uuid)

    def _mount(self, errand: Errand, name: str) -> Answer:
        volume = self._volume(errand.uuid, name)
        with ExitStack() as stack:
            mount = stack.enter_context(self._mounter.entered(volume, name, errand.read_only))
            self._mounts.append((errand.uuid, stack.pop_all()))
        return Answer(mount=mount, device=volume.device)

    def _leave(self, errand: Errand, name: str) -> None:
        for index in reversed(range(len(self._mounts))):
            if self._mounts[index][0] == errand.uuid:
                self._mounts.pop(index)[1].close()
                return
        # A helper that was killed mounted it: it is taken over, and left.
        with suppress(DiskGone), self._mounter.entered(self._volume(errand.uuid, name), name, read_only=True):
            pass

    def _volume(self, uuid: str, name: str) -> Volume:
        volumes = self._mounter.attached(uuid)
        if not volumes:
            raise DiskGone(f"{name} is not plugged in any more; plug it in again")
        if len(volumes) > 1:
            devices = join_words(sorted(volume.device for volume in volumes))
            raise DiskClone(f"{devices} have the same UUID, so one of them is a clone of {name}; nothing was touched")
        return volumes[0]


def _answer(caller: _Caller, errand: Errand) -> Answer:
    try:
        return caller.do(errand)
    except DiskTrouble as trouble:
        return answer_of_trouble(trouble)


def _user_of(connection: socket.socket) -> int:
    """The number of the user as whom the caller runs; the kernel tells."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(told)[1]
    return user
