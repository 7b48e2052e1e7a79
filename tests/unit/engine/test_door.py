"""Is this the disk it claims to be, and where is it?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distbackupd.engine.door import find_disk, find_disk_at, locate, recognise
from distbackupd.engine.enrolment import enrol
from distbackupd.model.disks import BackupDisk, DiskIdentity
from distbackupd.model.errors import DiskNotOurs, DiskTrouble, UsageError
from distbackupd.store.folder_store import FolderStore
from tests.fakes.disk_store import FakeDiskStore
from tests.unit.engine.scenes import Scene, scene_at

UUID = "5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        opened.bench = replace(opened.bench, open_store=lambda root, mount: FolderStore(root, mount.filesystem_type))
        yield opened


def a_disk(name: str = "one") -> BackupDisk:
    return BackupDisk(1, UUID, name, 1, b"", None, None, b"/mnt", 0)


def test_recognise_disk_that_says_nothing_or_is_another_is_refused_untouched() -> None:
    store = FakeDiskStore()
    with pytest.raises(DiskNotOurs, match=r"there is no distbackup-disk.json at /mnt"):
        recognise(store, a_disk(), b"/mnt")
    store.who = DiskIdentity("00000000-0000-4000-8000-000000000001", "other")
    with pytest.raises(DiskNotOurs, match=r"is 'other' \(0000"):
        recognise(store, a_disk(), b"/mnt")
    assert store.operations == 0


def test_find_disk_unknown_name_tells_which_there_are(scene: Scene) -> None:
    with pytest.raises(UsageError, match=r"there is no disk 'x\\ny'; none is known yet"):
        find_disk(scene.bench, "x\ny")
    for name in ("one", "two"):
        scene.add_disk(name)
    with pytest.raises(UsageError, match="there is one and two"):
        find_disk(scene.bench, "three")
    assert find_disk(scene.bench, "two").name == "two"


def test_locate_finds_a_disk_wherever_it_is_mounted(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    scene.mounter.mount_elsewhere(volume, scene.place / "here")
    disk = enrol(scene.bench, "one", os.fsencode(scene.place / "here" / "below"), 1 << 30, folder=True).disk
    root, mount = locate(scene.bench, disk) or (b"", None)
    assert root == os.fsencode(scene.place / "here" / "below")
    assert mount is not None
    assert find_disk_at(scene.bench, root)[0] == disk
    scene.mounter.unplug(volume)
    assert locate(scene.bench, disk) is None
    scene.mounter.plug(volume)
    scene.mounter.mount_elsewhere(volume, scene.place / "there")
    assert (locate(scene.bench, disk) or (b"",))[0] == os.fsencode(scene.place / "there" / "below")


def test_locate_two_that_claim_to_be_it_is_refused(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    scene.mounter.mount_elsewhere(volume, scene.place / "here")
    disk = enrol(scene.bench, "one", os.fsencode(scene.place / "here"), 1 << 30).disk
    clone = scene.mounter.new_disk(filesystem_uuid=volume.filesystem_uuid)
    scene.mounter.mount_elsewhere(clone, scene.place / "there")
    (scene.place / "there" / "distbackup-disk.json").write_bytes(
        (scene.place / "here" / "distbackup-disk.json").read_bytes()
    )
    with pytest.raises(DiskTrouble, match="both claim to be 'one'"):
        locate(scene.bench, disk)


def test_find_disk_at_place_of_no_disk_or_of_another_catalogue_is_refused(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    scene.mounter.mount_elsewhere(volume, scene.place / "here")
    with pytest.raises(UsageError, match="is no backup disk"):
        find_disk_at(scene.bench, os.fsencode(scene.place / "here"))
    FolderStore(os.fsencode(scene.place / "here"), "ext4").write_identity(DiskIdentity(UUID, "strange"))
    with pytest.raises(DiskNotOurs, match="belongs to another catalogue"):
        find_disk_at(scene.bench, os.fsencode(scene.place / "here"))
