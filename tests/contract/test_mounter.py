"""What every ``Mounter`` promises: one suite for the fake and for the real one on loop disks."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from distbackupd.engine.ports import Mounter
from distbackupd.helper.serving import Helper
from distbackupd.hotplug.commands import Commands
from distbackupd.hotplug.enrolled import EnrolledDisks
from distbackupd.hotplug.errands import Answer, Verb
from distbackupd.hotplug.helper_client import HelperMounter
from distbackupd.hotplug.mounts import SystemMounter
from distbackupd.model.disks import Volume
from distbackupd.model.errors import DiskReadOnly, DiskTrouble, UsageError
from tests.bed.loop_disks import loop_disk, make_image, mounted_at, plugged, run
from tests.bed.stand_in_luks import StandInCommands, make_luks_image, stand_in_luks
from tests.fakes.mounter import FakeMounter


class Bed(Protocol):
    """A mounter, and the hands that plug disks in."""

    mounter: Mounter

    def new_disk(self, write_protected: bool = False) -> Volume: ...
    def new_encrypted_disk(self, key: bytes) -> Volume: ...
    def leave_unclean(self, volume: Volume) -> None: ...
    def unlocked(self) -> int: ...
    def clone(self, volume: Volume) -> Volume: ...
    def mount_elsewhere(self, volume: Volume, mount_point: Path) -> None: ...
    def keep_busy(self, volume: Volume, root: bytes) -> str: ...
    def let_go(self, volume: Volume) -> None: ...


class FakeBed:
    def __init__(self, folder: Path) -> None:
        self.mounter = self.fake = FakeMounter(folder)

    def new_disk(self, write_protected: bool = False) -> Volume:
        return self.fake.new_disk(write_protected=write_protected)

    def new_encrypted_disk(self, key: bytes) -> Volume:
        return self.fake.new_disk(key=key)

    def leave_unclean(self, volume: Volume) -> None:
        self.fake.leave_unclean(volume, "its file system was not left clean, e2fsck mended it")

    def unlocked(self) -> int:
        return self.fake.unlocked()

    def clone(self, volume: Volume) -> Volume:
        return self.fake.new_disk(volume.filesystem_uuid)

    def mount_elsewhere(self, volume: Volume, mount_point: Path) -> None:
        self.fake.mount_elsewhere(volume, mount_point)

    def keep_busy(self, volume: Volume, root: bytes) -> str:
        self.fake.keep_busy(volume, "PID 123 (bash)")
        return "PID 123 (bash)"

    def let_go(self, volume: Volume) -> None:
        self.fake.keep_busy(volume, "")


class EnrollingMounter(HelperMounter):
    """As if root had enrolled each disk, under the name that the test gives it, before the helper is asked."""

    def __init__(self, mount_folder: bytes, helped: SystemMounter, folder: Path, stack: ExitStack) -> None:
        super().__init__(mount_folder, self._connect_to_thread)
        self._helped, self._stack = helped, stack
        self._enrolled = EnrolledDisks(folder / "enrolled")

    def keep_key(self, container: Volume, key: bytes) -> str:
        return self._helped.keep_key(container, key)

    def _ask(self, verb: Verb, volume: Volume | None = None, name: str = "", read_only: bool = False) -> Answer:
        if volume and verb != "leave":
            self._enrolled.note({volume.filesystem_uuid: [name]})
        return super()._ask(verb, volume, name, read_only)

    def _connect_to_thread(self) -> socket.socket:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        helper = Helper(self._helped, self._enrolled, {os.getuid()})
        thread = threading.Thread(target=helper.attend, args=[there])
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(here.close)
        return here


class RealBed:
    def __init__(self, folder: Path, stack: ExitStack, commands: Commands | None = None, helped: bool = False) -> None:
        place = os.fsencode(folder / "mnt")
        system = SystemMounter(place, commands, key_folder=folder / "keys", sleep=lambda seconds: None)
        self.mounter: Mounter = EnrollingMounter(place, system, folder, stack) if helped else system
        self._folder, self._stack, self._commands = folder, stack, commands

    def new_encrypted_disk(self, key: bytes) -> Volume:
        disk = make_luks_image(self._folder / f"{os.urandom(4).hex()}.img", key)
        return self._stack.enter_context(plugged(disk))

    def leave_unclean(self, volume: Volume) -> None:
        run("debugfs", "-w", "-R", "set_super_value state 2", volume.device)

    def unlocked(self) -> int:
        assert isinstance(self._commands, StandInCommands)
        return sum({"open": 1, "close": -1}[line.split()[0]] for line in self._commands.log)

    def new_disk(self, write_protected: bool = False) -> Volume:
        if not write_protected:
            return self._stack.enter_context(loop_disk(self._folder)).volume
        disk = make_image(self._folder / "protected.img")
        return self._stack.enter_context(plugged(disk, read_only=True))

    def clone(self, volume: Volume) -> Volume:
        disk = make_image(self._folder / "clone.img", filesystem_uuid=volume.filesystem_uuid)
        return self._stack.enter_context(plugged(disk))

    def mount_elsewhere(self, volume: Volume, mount_point: Path) -> None:
        device = volume.device
        if isinstance(self._commands, StandInCommands):
            device = self._commands.unlock_by_somebody(device, "luks-desktop")
        self._stack.enter_context(mounted_at(device, mount_point))

    def keep_busy(self, volume: Volume, root: bytes) -> str:
        self._sleeper = subprocess.Popen(["sleep", "1000"], cwd=root)
        self._stack.callback(self.let_go, volume)
        return f"PID {self._sleeper.pid} (sleep)"

    def let_go(self, volume: Volume) -> None:
        self._sleeper.kill()
        self._sleeper.wait()


@pytest.fixture(
    params=["fake", *(pytest.param(kind, marks=pytest.mark.needs("loop", "ext4")) for kind in ("real", "helped"))]
)
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bed]:
    if request.param == "fake":
        yield FakeBed(tmp_path)
        return
    with ExitStack() as stack:
        yield RealBed(tmp_path, stack, helped=request.param == "helped")


@pytest.fixture(
    params=[
        "fake",
        *(pytest.param(kind, marks=pytest.mark.needs("loop", "ext4", "cryptsetup")) for kind in ("real", "helped")),
    ]
)
def luks_bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bed]:
    """A bed with encrypted disks. What the kernel does for them is real in ``tests/vm`` only."""
    if request.param == "fake":
        yield FakeBed(tmp_path)
        return
    # Disks are pulled only after the containers on them were locked.
    with ExitStack() as stack, stand_in_luks(tmp_path) as commands:
        bed = RealBed(tmp_path, stack, commands, helped=request.param == "helped")
        yield bed
        commands.lock_all()


def test_mounted_gives_a_place_to_write_that_is_gone_afterwards(bed: Bed) -> None:
    volume = bed.new_disk()
    with bed.mounter.mounted(volume, "photos-03") as mount:
        assert mount.ours
        assert not mount.read_only
        assert (mount.device, mount.filesystem_uuid) == (volume.device, volume.filesystem_uuid)
        assert mount.filesystem_type == volume.filesystem_type
        assert os.path.basename(mount.root) == b"photos-03"
        with open(mount.root + b"/file", "wb") as file:
            file.write(b"content")
    assert not os.path.lexists(mount.root)
    with bed.mounter.mounted(volume, "photos-03") as mount, open(mount.root + b"/file", "rb") as file:
        assert file.read() == b"content"


@pytest.mark.parametrize("name", ["a/b", "..", "music 01 äöü", "line\nbreak"])
def test_mounted_name_becomes_one_path_component(bed: Bed, name: str, tmp_path: Path) -> None:
    with bed.mounter.mounted(bed.new_disk(), name) as mount:
        assert os.path.dirname(os.path.normpath(mount.root)) == os.fsencode(tmp_path / "mnt")
        assert any(listed.root == mount.root for listed in bed.mounter.mounts())


def test_mounted_two_disks_of_one_name_at_once_get_two_places(bed: Bed) -> None:
    first, second = bed.new_disk(), bed.new_disk()
    with bed.mounter.mounted(first, "disk") as one, bed.mounter.mounted(second, "disk") as two:
        assert one.root != two.root
        assert not os.path.samefile(one.root, two.root)


def test_mounted_twice_inner_one_leaves_it_mounted(bed: Bed) -> None:
    volume = bed.new_disk()
    with bed.mounter.mounted(volume, "disk") as outer:
        for _ in range(2):
            with bed.mounter.mounted(volume, "disk") as inner:
                assert (inner.root, inner.ours) == (outer.root, False)
        assert bed.mounter.mount_of(outer.root).root == outer.root
        assert os.path.exists(outer.root)
    assert not os.path.exists(outer.root)


def test_mounted_elsewhere_is_used_and_left_as_it_is(bed: Bed, tmp_path: Path) -> None:
    volume = bed.new_disk()
    bed.mount_elsewhere(volume, tmp_path / "desktop" / "my disk")
    with bed.mounter.mounted(volume, "photos-03") as mount:
        assert not mount.ours
        assert mount.root == os.fsencode(tmp_path / "desktop" / "my disk")
    assert any(listed.root == mount.root and not listed.ours for listed in bed.mounter.mounts())


def test_share_filesystem_is_told_of_folders_on_one_mount_and_not_of_others(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    share, here = bed.mounter.share_filesystem, os.fsencode(tmp_path)
    assert share(here + b"/a", here + b"/b")
    assert not share(here + b"/a", here + b"/nowhere")
    with bed.mounter.mounted(bed.new_disk(), "one") as one, bed.mounter.mounted(bed.new_disk(), "two") as two:
        os.mkdir(one.root + b"/below")
        assert share(one.root, one.root + b"/below")
        assert not share(one.root, two.root)
        assert not share(one.root, here)


def test_mounted_write_protected_raises_read_only_and_leaves_nothing(bed: Bed) -> None:
    volume = bed.new_disk(write_protected=True)
    with pytest.raises(DiskReadOnly, match="photos-03 can only be read"), bed.mounter.mounted(volume, "photos-03"):
        pass
    assert not any(mount.device == volume.device for mount in bed.mounter.mounts())


def test_mounted_write_protected_for_reading_works(bed: Bed) -> None:
    with bed.mounter.mounted(bed.new_disk(write_protected=True), "photos-03", read_only=True) as mount:
        assert mount.read_only
        os.listdir(mount.root)


def test_mounted_busy_on_exit_names_the_user_and_stays_mounted(bed: Bed) -> None:
    volume = bed.new_disk()
    with pytest.raises(DiskTrouble, match="photos-03 is still mounted") as trouble:  # noqa: SIM117
        with bed.mounter.mounted(volume, "photos-03") as mount:
            user = bed.keep_busy(volume, mount.root)
    assert user in str(trouble.value)
    assert any(listed.device == volume.device for listed in bed.mounter.mounts())
    bed.let_go(volume)
    with bed.mounter.mounted(volume, "photos-03") as again:
        assert (again.root, again.ours) == (mount.root, True)
    assert not os.path.exists(mount.root)


def test_mounted_error_of_the_body_wins(bed: Bed) -> None:
    volume = bed.new_disk()
    with pytest.raises(KeyError):  # noqa: PT012, SIM117
        with bed.mounter.mounted(volume, "photos-03") as mount:
            bed.keep_busy(volume, mount.root)
            raise KeyError
    volume = bed.new_disk()
    with pytest.raises(KeyError), bed.mounter.mounted(volume, "other"):
        raise KeyError
    assert not any(mount.device == volume.device for mount in bed.mounter.mounts())


def test_mount_of_path_on_a_disk_is_its_mount(bed: Bed) -> None:
    volume = bed.new_disk()
    with bed.mounter.mounted(volume, "photos-03") as mount:
        os.makedirs(mount.root + b"/some/folder")
        with open(mount.root + b"/some/file", "wb"):
            pass
        for path in (b"", b"/some/folder", b"/some/file"):
            assert bed.mounter.mount_of(mount.root + path) == mount


def test_mount_of_missing_path_raises(bed: Bed, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be reached"):
        bed.mounter.mount_of(os.fsencode(tmp_path / "nowhere"))


def test_attached_gives_the_volume_and_its_clones(bed: Bed) -> None:
    volume, other = bed.new_disk(), bed.new_disk()
    assert [found.device for found in bed.mounter.attached(volume.filesystem_uuid)] == [volume.device]
    clone = bed.clone(volume)
    assert {found.device for found in bed.mounter.attached(volume.filesystem_uuid)} == {volume.device, clone.device}
    assert bed.mounter.attached(other.filesystem_uuid)[0].filesystem_type == other.filesystem_type
    assert bed.mounter.attached("no-such-uuid") == []


def test_mounted_left_unclean_is_mended_and_says_so_once(bed: Bed) -> None:
    volume = bed.new_disk()
    with bed.mounter.mounted(volume, "photos-03") as mount:
        assert mount.remark == ""
    bed.leave_unclean(volume)
    with bed.mounter.mounted(volume, "photos-03", read_only=True) as mount:
        assert mount.remark == ""
    with bed.mounter.mounted(volume, "photos-03") as mount:
        assert mount.remark == "its file system was not left clean, e2fsck mended it"
    with bed.mounter.mounted(volume, "photos-03") as mount:
        assert mount.remark == ""


def test_release_unmounts_what_somebody_else_mounted(bed: Bed, tmp_path: Path) -> None:
    volume = bed.new_disk()
    bed.mount_elsewhere(volume, tmp_path / "desktop")
    bed.mounter.release(volume, "photos-03")
    assert not any(mount.device == volume.device for mount in bed.mounter.mounts())
    bed.mounter.release(volume, "photos-03")


def test_release_busy_names_the_user_and_unmounts_nothing(bed: Bed, tmp_path: Path) -> None:
    volume = bed.new_disk()
    bed.mount_elsewhere(volume, tmp_path / "desktop")
    user = bed.keep_busy(volume, os.fsencode(tmp_path / "desktop"))
    with pytest.raises(DiskTrouble, match="photos-03 is still mounted") as trouble:
        bed.mounter.release(volume, "photos-03")
    assert user in str(trouble.value)
    assert any(mount.device == volume.device for mount in bed.mounter.mounts())
    bed.let_go(volume)
    bed.mounter.release(volume, "photos-03")
    assert not any(mount.device == volume.device for mount in bed.mounter.mounts())


def test_share_drive_two_disks_do_not(bed: Bed) -> None:
    first, second = bed.new_disk(), bed.new_disk()
    assert bed.mounter.share_drive(first, first)
    assert not bed.mounter.share_drive(first, second)


def test_container_of_a_plain_disk_is_none(bed: Bed) -> None:
    with bed.mounter.mounted(bed.new_disk(), "photos-03") as mount:
        assert bed.mounter.container_of(mount) is None


def test_mounted_encrypted_is_unlocked_with_the_kept_key_and_locked_again(luks_bed: Bed) -> None:
    mounter = luks_bed.mounter
    container = luks_bed.new_encrypted_disk(b"secret")
    assert container.encrypted
    mounter.keep_key(container, b"secret")
    with mounter.mounted(container, "photos-03") as mount:
        assert mount.ours
        assert (mount.filesystem_type, mount.device != container.device) == ("ext4", True)
        assert mount.filesystem_uuid not in {None, container.filesystem_uuid}
        assert mounter.container_of(mount) == container
        assert mounter.mount_of(mount.root) == mount
        # What was unlocked here is no volume of its own, and what it lies in is no clone of anything.
        assert mounter.attached(container.filesystem_uuid) == [container]
        assert mounter.share_drive(container, Volume(mount.device, mount.filesystem_uuid or "", "ext4"))
        with mounter.mounted(container, "photos-03") as inner:
            assert (inner.root, inner.ours) == (mount.root, False)
        assert luks_bed.unlocked() == 1
        with open(mount.root + b"/file", "wb") as file:
            file.write(b"content")
    assert luks_bed.unlocked() == 0
    assert not os.path.lexists(mount.root)
    with mounter.mounted(container, "photos-03") as mount, open(mount.root + b"/file", "rb") as file:
        assert file.read() == b"content"
    assert luks_bed.unlocked() == 0


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_keep_key_understands_a_line_that_an_editor_ended(luks_bed: Bed, end: bytes) -> None:
    container = luks_bed.new_encrypted_disk(b"secret")
    assert luks_bed.mounter.keep_key(container, b"secret" + end)
    with luks_bed.mounter.mounted(container, "photos-03") as mount:
        assert mount.ours


def test_keep_key_with_a_line_end_of_its_own_keeps_it(luks_bed: Bed) -> None:
    container = luks_bed.new_encrypted_disk(b"secret\n")
    luks_bed.mounter.keep_key(container, b"secret\n")
    with luks_bed.mounter.mounted(container, "photos-03") as mount:
        assert mount.ours


@pytest.mark.parametrize("key", [b"wrong", b"secret\n\n", b""])
def test_keep_key_that_opens_nothing_is_refused_and_not_kept(luks_bed: Bed, key: bytes) -> None:
    container = luks_bed.new_encrypted_disk(b"secret")
    with pytest.raises(UsageError, match=r"the key does not open /dev/.*, so it was not kept"):
        luks_bed.mounter.keep_key(container, key)
    with pytest.raises(DiskTrouble, match=r"photos-03 .*is encrypted and no key to it is kept"):  # noqa: SIM117
        with luks_bed.mounter.mounted(container, "photos-03"):
            pass
    assert luks_bed.unlocked() == 0


def test_mounted_encrypted_error_of_the_body_wins_and_it_is_locked(luks_bed: Bed) -> None:
    container = luks_bed.new_encrypted_disk(b"secret")
    luks_bed.mounter.keep_key(container, b"secret")
    with pytest.raises(KeyError), luks_bed.mounter.mounted(container, "photos-03"):
        raise KeyError
    assert luks_bed.unlocked() == 0


def test_mounted_encrypted_busy_on_exit_stays_mounted_until_released(luks_bed: Bed) -> None:
    container = luks_bed.new_encrypted_disk(b"secret")
    luks_bed.mounter.keep_key(container, b"secret")
    with pytest.raises(DiskTrouble, match="photos-03 is still mounted") as trouble:  # noqa: SIM117
        with luks_bed.mounter.mounted(container, "photos-03") as mount:
            user = luks_bed.keep_busy(container, mount.root)
    assert user in str(trouble.value)
    assert luks_bed.unlocked() == 1
    luks_bed.let_go(container)
    luks_bed.mounter.release(container, "photos-03")
    assert luks_bed.unlocked() == 0
    assert not os.path.lexists(mount.root)


def test_mounted_encrypted_that_somebody_else_unlocked_stays_so_until_released(luks_bed: Bed, tmp_path: Path) -> None:
    mounter, place = luks_bed.mounter, tmp_path / "desktop"
    container = luks_bed.new_encrypted_disk(b"secret")
    luks_bed.mount_elsewhere(container, place)
    with mounter.mounted(container, "photos-03") as mount:
        assert (mount.root, mount.ours) == (os.fsencode(place), False)
        assert [inside.device for inside in mounter.attached(mount.filesystem_uuid or "")] == [mount.device]
        assert mounter.container_of(mount) == container
    assert luks_bed.unlocked() == 1
    assert mounter.mount_of(os.fsencode(place)).device == mount.device
    mounter.release(Volume(mount.device, mount.filesystem_uuid or "", mount.filesystem_type), "photos-03")
    assert luks_bed.unlocked() == 0
    mounter.release(container, "photos-03")
