"""Who is answered, and what is left when a caller goes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distbackupd.helper.serving import Helper
from distbackupd.hotplug.enrolled import EnrolledDisks
from distbackupd.hotplug.errands import Errand, ask
from distbackupd.model.disks import Mount, Volume
from distbackupd.model.errors import DiskClone, DiskGone, DiskTrouble

DISK = Volume("/dev/sdb1", "1111", "ext4")


class Mounter:
    """Writes down what is done. ``plugged`` is what is there."""

    def __init__(self) -> None:
        self.plugged = [DISK]
        self.log: list[str] = []
        self.busy = False

    def attached(self, uuid: str) -> list[Volume]:
        return [volume for volume in self.plugged if volume.filesystem_uuid == uuid]

    @contextmanager
    def entered(self, volume: Volume, name: str, read_only: bool) -> Iterator[Mount]:
        self.log.append(f"enter {volume.device} {name}{' ro' if read_only else ''}")
        yield Mount(b"/run/mnt/" + name.encode(), volume.device, volume.filesystem_type, volume.filesystem_uuid, ours=True)
        self.log.append(f"leave {volume.device}")
        if self.busy:
            raise DiskTrouble(f"{name} is still mounted")

    def release(self, volume: Volume, name: str) -> None:
        self.log.append(f"release {volume.device} {name}")
        self.plugged.remove(volume)

    def power_off(self, volume: Volume) -> bool:
        self.log.append(f"power off {volume.device}")
        return True

    def unmount_leftovers(self) -> list[str]:
        return ["busy is still mounted"]


@pytest.fixture
def mounter() -> Mounter:
    return Mounter()


@pytest.fixture
def disks(tmp_path: Path) -> EnrolledDisks:
    disks = EnrolledDisks(tmp_path / "disks")
    disks.note({"1111": ["shelf-01"]})
    return disks


@contextmanager
def caller(helper: Helper) -> Iterator[socket.socket]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    thread = threading.Thread(target=helper.attend, args=[there])
    thread.start()
    with here, there:
        yield here
        here.close()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def helper(mounter: Mounter, disks: EnrolledDisks) -> Helper:
    return Helper(mounter, disks, {os.getuid()})  # type: ignore[arg-type]


def test_enrolled_disk_is_mounted_under_the_name_on_the_list_and_left(helper: Helper, mounter: Mounter) -> None:
    with caller(helper) as here:
        answer = ask(here, Errand("mount", "1111"))
        assert answer is not None
        assert answer.mount is not None
        assert (answer.mount.root, answer.device) == (b"/run/mnt/shelf-01", "/dev/sdb1")
        ask(here, Errand("leave", "1111"))
        assert mounter.log == ["enter /dev/sdb1 shelf-01", "leave /dev/sdb1"]
    assert len(mounter.log) == 2


@pytest.mark.parametrize("verb", ["mount", "leave", "release", "power-off"])
def test_disk_that_is_not_on_the_list_is_not_touched(helper: Helper, mounter: Mounter, verb: str) -> None:
    mounter.plugged.append(Volume("/dev/sda1", "2222", "ext4"))
    with caller(helper) as here:
        for uuid in ("2222", ""):
            with pytest.raises(DiskTrouble, match="is on root's list"):
                ask(here, Errand(verb, uuid))  # type: ignore[arg-type]
    assert mounter.log == []


def test_clones_and_what_is_gone_are_refused(helper: Helper, mounter: Mounter) -> None:
    with caller(helper) as here:
        mounter.plugged.append(Volume("/dev/sdc1", "1111", "ext4"))
        with pytest.raises(DiskClone, match="/dev/sdb1 and /dev/sdc1 have the same UUID"):
            ask(here, Errand("mount", "1111"))
        mounter.plugged.clear()
        with pytest.raises(DiskGone, match="shelf-01 is not plugged in"):
            ask(here, Errand("mount", "1111"))
    assert mounter.log == []


def test_caller_that_hangs_up_has_nothing_mounted_any_more(helper: Helper, mounter: Mounter) -> None:
    mounter.busy = True
    with caller(helper) as here:
        ask(here, Errand("mount", "1111", read_only=True))
        ask(here, Errand("mount", "1111"))
    assert mounter.log == ["enter /dev/sdb1 shelf-01 ro", "enter /dev/sdb1 shelf-01", *["leave /dev/sdb1"] * 2]


def test_nonsense_ends_the_connection_and_leaves_nothing_mounted(helper: Helper, mounter: Mounter) -> None:
    with caller(helper) as here:
        ask(here, Errand("mount", "1111"))
        here.send(b'{"verb": "mount", "device": "/dev/sda"}')
        assert here.recv(100) == b""
        assert mounter.log[-1] == "leave /dev/sdb1"


def test_what_a_killed_helper_left_is_taken_over_and_left(helper: Helper, mounter: Mounter) -> None:
    with caller(helper) as here:
        ask(here, Errand("leave", "1111"))
    assert mounter.log == ["enter /dev/sdb1 shelf-01 ro", "leave /dev/sdb1"]


def test_drive_of_what_was_released_can_be_switched_off(helper: Helper, mounter: Mounter) -> None:
    with caller(helper) as here:
        ask(here, Errand("release", "1111"))
        answer = ask(here, Errand("power-off", "1111"))
        assert answer is not None
        assert answer.done
        answer = ask(here, Errand("leftovers"))
        assert answer is not None
        assert answer.remarks == ["busy is still mounted"]
    assert mounter.log == ["release /dev/sdb1 shelf-01", "power off /dev/sdb1"]


def test_another_user_is_not_answered(mounter: Mounter, disks: EnrolledDisks) -> None:
    stranger = Helper(mounter, disks, {os.getuid() + 1})  # type: ignore[arg-type]
    with caller(stranger) as here:
        assert here.recv(100) == b""
    assert mounter.log == []


def test_idle_caller_is_hung_up_on_but_not_one_with_a_mount(mounter: Mounter, disks: EnrolledDisks) -> None:
    hasty = Helper(mounter, disks, {os.getuid()}, idle=0.01)  # type: ignore[arg-type]
    with caller(hasty) as here:
        assert here.recv(100) == b""
    with caller(hasty) as here:
        here.send(b'{"verb": "mount", "uuid": "1111"}')
        assert here.recv(1000)
        here.settimeout(0.1)
        with pytest.raises(TimeoutError):
            here.recv(100)


def test_serve_ends_when_nobody_comes(mounter: Mounter, disks: EnrolledDisks, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(os.fsencode(tmp_path / "socket"))
        listener.listen()
        Helper(mounter, disks, {os.getuid()}, idle=0.01).serve(listener)  # type: ignore[arg-type]
