"""What a path is found to be, with disks that are folders: whatever lies on none of them lies on the system's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distbackupd.engine.disk_places import look_at_place
from distbackupd.engine.enrolment import enrol, move
from distbackupd.model.errors import UsageError
from distbackupd.planning.disk_place import DiskPlace
from distbackupd.store.folder_store import FolderStore
from tests.unit.engine.scenes import Scene, scene_at


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        opened.bench = replace(opened.bench, open_store=lambda root, mount: FolderStore(root, mount.filesystem_type))
        yield opened


@pytest.fixture
def mounted(scene: Scene) -> Path:
    """A fresh disk, mounted by somebody."""
    place = scene.place / "media" / "disk"
    scene.mounter.mount_elsewhere(scene.mounter.new_disk(), place)
    return place


def look_at(scene: Scene, path: Path) -> DiskPlace:
    return look_at_place(scene.bench, os.fsencode(path))[0]


def test_look_at_place_on_a_mounted_disk_finds_nothing_else_there(scene: Scene, mounted: Path) -> None:
    (mounted / "backup").mkdir()
    for path in (mounted, mounted / "backup"):
        assert look_at(scene, path) == DiskPlace(os.fsencode(path), True, True, os.fsencode(mounted), "ext4", True, [])


def test_look_at_place_where_nothing_is_mounted_finds_the_system_and_the_sources(scene: Scene) -> None:
    scene.bench = replace(scene.bench, folder=os.fsencode(scene.place))
    (scene.place / "mnt").mkdir()
    place = look_at(scene, scene.place / "mnt")
    assert place.shared_with == ["the system", "the source /", "the catalogue"]
    assert not place.has_device
    for name in ("a", "b"):
        scene.map(os.fsencode("/" + name), scene.place)
    assert look_at(scene, scene.place / "mnt").shared_with == ["the system", "3 sources", "the catalogue"]


def test_look_at_place_that_is_not_there_tells_what_it_would_lie_on(scene: Scene, mounted: Path) -> None:
    place = look_at(scene, mounted / "not" / "there")
    assert (place.is_folder, place.mount_point, place.shared_with) == (False, os.fsencode(mounted), [])
    assert look_at(scene, scene.place / "ubs").shared_with == ["the system", "the source /"]


def test_look_at_place_beside_a_source_or_another_disk_on_the_same_mount(scene: Scene, mounted: Path) -> None:
    for name in ("first", "second", "photos"):
        (mounted / name).mkdir()
    disk = enrol(scene.bench, "one", os.fsencode(mounted / "first"), None).disk
    assert look_at(scene, mounted / "second").shared_with == ["the disk one"]
    assert look_at_place(scene.bench, os.fsencode(mounted / "first"), disk)[0].shared_with == []
    scene.map(b"/photos", mounted / "photos")
    assert look_at(scene, mounted / "second").shared_with == ["the source /photos", "the disk one"]


def test_enrol_what_is_no_disk_of_its_own_changes_nothing_unless_it_is_meant(scene: Scene, mounted: Path) -> None:
    plain = scene.place / "mnt"
    plain.mkdir()
    for path in (plain, mounted / "not" / "there", scene.place / "ubs", Path("/")):
        with pytest.raises(UsageError, match="--folder"):
            enrol(scene.bench, "one", os.fsencode(path), None)
    assert scene.catalogue.disks.all() == []
    assert list(plain.iterdir()) == list(mounted.iterdir()) == []
    advice = enrol(scene.bench, "one", os.fsencode(plain), None, folder=True).advice
    assert advice[0].endswith("so what takes one takes all; its copies count all the same")
    advice = enrol(scene.bench, "two", os.fsencode(mounted / "new"), None).advice
    assert (mounted / "new" / "distbackup-disk.json").is_file()
    assert not any("so what takes one" in said for said in advice)


def test_move_to_what_is_no_disk_of_its_own_is_refused_unless_it_is_meant(scene: Scene, mounted: Path) -> None:
    disk = enrol(scene.bench, "one", os.fsencode(mounted), None).disk
    plain = scene.place / "mnt"
    plain.mkdir()
    for name in ("distbackup-disk.json", "distbackup-objects"):
        (mounted / name).rename(plain / name)
    with pytest.raises(UsageError, match="is no disk of its own"):
        move(scene.bench, disk, os.fsencode(plain))
    assert scene.catalogue.disks.find("one") == disk
    assert move(scene.bench, disk, os.fsencode(plain), folder=True).last_path == os.fsencode(plain)
