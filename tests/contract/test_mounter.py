"""What every ``Mounter`` promises: one suite for the fake and for the real one on loop disks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from distbackupd.engine.ports import Mounter
from distbackupd.hotplug.mounts import SystemMounter
from distbackupd.model.disks import Volume
from distbackupd.model.errors import DiskReadOnly, DiskTrouble, UsageError
from tests.bed.loop_disks import loop_disk, make_image, mounted_at, plugged
from tests.fakes.mounter import FakeMounter


class Bed(Protocol):
    """A mounter, and the hands that plug disks in."""

    mounter: Mounter

    def new_disk(self, write_protected: bool = False) -> Volume: ...
    def clone(self, volume: Volume) -> Volume: ...
    def mount_elsewhere(self, volume: Volume, mount_point: Path) -> None: ...
    def keep_busy(self, volume: Volume, root: bytes) -> str: ...
    def let_go(self, volume: Volume) -> None: ...


class FakeBed:
    def __init__(self, folder: Path) -> None:
        self.mounter = self.fake = FakeMounter(folder)

    def new_disk(self, write_protected: bool = False) -> Volume:
        return self.fake.new_disk(write_protected=write_protected)

    def clone(self, volume: Volume) -> Volume:
        return self.fake.new_disk(volume.filesystem_uuid)

    def mount_elsewhere(self, volume: Volume, mount_point: Path) -> None:
        self.fake.mount_elsewhere(volume, mount_point)

    def keep_busy(self, volume: Volume, root: bytes) -> str:
        self.fake.keep_busy(volume, "PID 123 (bash)")
        return "PID 123 (bash)"

    def let_go(self, volume: Volume) -> None:
        self.fake.keep_busy(volume, "")


class RealBed:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.mounter = SystemMounter(os.fsencode(folder / "mnt"), sleep=lambda seconds: None)
        self._folder, self._stack = folder, stack

    def new_disk(self, write_protected: bool = False) -> Volume:
        if not write_protected:
            return self._stack.enter_context(loop_disk(self._folder)).volume
        disk = make_image(self._folder / "protected.img")
        return self._stack.enter_context(plugged(disk, read_only=True))

    def clone(self, volume: Volume) -> Volume:
        disk = make_image(self._folder / "clone.img", filesystem_uuid=volume.filesystem_uuid)
        return self._stack.enter_context(plugged(disk))

    def mount_elsewhere(self, volume: Volume, mount_point: Path) -> None:
        self._stack.enter_context(mounted_at(volume.device, mount_point))

    def keep_busy(self, volume: Volume, root: bytes) -> str:
        self._sleeper = subprocess.Popen(["sleep", "1000"], cwd=root)
        self._stack.callback(self.let_go, volume)
        return f"PID {self._sleeper.pid} (sleep)"

    def let_go(self, volume: Volume) -> None:
        self._sleeper.kill()
        self._sleeper.wait()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.needs("loop", "ext4"))])
def bed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bed]:
    if request.param == "fake":
        yield FakeBed(tmp_path)
        return
    with ExitStack() as stack:
        yield RealBed(tmp_path, stack)


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
