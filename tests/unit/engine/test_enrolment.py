"""Making disks known, under names that stand on labels; taking over what others wrote."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine import enrolment
from distbackupd.engine.enrolment import enrol, refresh, rename
from distbackupd.model.disks import BackupDisk, default_capacity
from distbackupd.model.errors import DiskTrouble, UsageError
from distbackupd.store.folder_store import FolderStore
from tests.unit.engine.scenes import Scene, scene_at, sha256

UUID = "5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        opened.bench = replace(opened.bench, open_store=lambda root, mount: FolderStore(root, mount.filesystem_type))
        yield opened


@pytest.fixture
def mounted(scene: Scene) -> Path:
    """A fresh disk, mounted by somebody."""
    volume = scene.mounter.new_disk()
    place = scene.place / "media" / "disk"
    scene.mounter.mount_elsewhere(volume, place)
    return place


def add(scene: Scene, name: str, path: Path, **options: Any) -> enrolment.Enrolment:
    return enrol(scene.bench, name, os.fsencode(path), options.pop("capacity", None), **options)


def write_foreign_layout(root: Path, *contents: bytes) -> None:
    """What distbackup leaves on a disk."""
    (root / "distbackup-disk.json").write_text(json.dumps({"uuid": UUID, "name": "old name"}))
    for content in contents:
        path = root / "distbackup-objects" / sha256(content).hex()[:3] / sha256(content).hex()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with closing(sqlite3.connect(root / "distbackup.sqlite")) as other:
        other.execute("CREATE TABLE file_tree (id INTEGER PRIMARY KEY)")
        other.execute("CREATE TABLE nexus (id INTEGER PRIMARY KEY)")
        other.commit()


def test_enrol_fresh_disk_makes_the_layout_and_is_known(scene: Scene, mounted: Path) -> None:
    enrolled = add(scene, "photos-01", mounted)
    (disk,) = scene.catalogue.disks.all()
    assert enrolled.disk == disk
    assert enrolled.adopted == 0
    space = scene.bench.open_store(os.fsencode(mounted), enrolled.mount).space()
    assert disk.capacity == default_capacity(space.total - space.reserved)
    assert (disk.name, disk.relative_path, disk.last_path) == ("photos-01", b"", os.fsencode(mounted))
    assert json.loads((mounted / "distbackup-disk.json").read_text()) == {"uuid": disk.uuid, "name": "photos-01"}
    assert {"distbackup.sqlite", "README.txt", "distbackup-restore.py"} <= {path.name for path in mounted.iterdir()}


def test_enrol_folder_below_the_mount_point_is_made_and_remembered(scene: Scene, mounted: Path) -> None:
    disk = add(scene, "photos-01", mounted / "back", capacity=5_000_000, folder=True).disk
    assert (disk.relative_path, disk.capacity) == (b"back", 5_000_000)
    assert (mounted / "back" / "distbackup-objects").is_dir()


@pytest.mark.parametrize(
    "name", ["", "a/b", "-rf", "line\nbreak", "\x1b[31m", UUID, UUID.replace("-", ""), "n" * 201, "taken"]
)
def test_enrol_bad_name_is_refused_and_nothing_changed(scene: Scene, mounted: Path, name: str) -> None:
    scene.add_disk("taken")
    with pytest.raises(UsageError):
        add(scene, name, mounted)
    assert list(mounted.iterdir()) == []
    assert [disk.name for disk in scene.catalogue.disks.all()] == ["taken"]


@pytest.mark.parametrize("name", ["photos-01", "Süße Bilder", "a.b_c", "2024", "n" * 200])
def test_enrol_name_as_on_a_label_is_taken(scene: Scene, mounted: Path, name: str) -> None:
    assert add(scene, name, mounted).disk.name == name


@pytest.mark.parametrize("capacity", [0, 1, (1 << 20) - 1, -5])
def test_enrol_tiny_size_is_refused(scene: Scene, mounted: Path, capacity: int) -> None:
    with pytest.raises(UsageError):
        add(scene, "photos-01", mounted, capacity=capacity)
    assert list(mounted.iterdir()) == []


def test_enrol_size_beyond_the_file_system_is_advised_against(scene: Scene, mounted: Path) -> None:
    advice = add(scene, "photos-01", mounted, capacity=1 << 60).advice
    assert "is more than" in advice[0]


def test_enrol_known_disk_is_refused(scene: Scene, mounted: Path) -> None:
    add(scene, "photos-01", mounted)
    with pytest.raises(UsageError, match="is known already, as 'photos-01'"):
        add(scene, "photos-02", mounted)


def test_enrol_known_disk_that_lost_its_json_file_is_refused(scene: Scene, mounted: Path) -> None:
    add(scene, "photos-01", mounted)
    (mounted / "distbackup-disk.json").unlink()
    with pytest.raises(UsageError, match="is the place of 'photos-01'"):
        add(scene, "photos-02", mounted)


def test_enrol_clone_is_refused(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    place = scene.place / "media" / "disk"
    scene.mounter.mount_elsewhere(volume, place)
    scene.mounter.new_disk(filesystem_uuid=volume.filesystem_uuid)
    with pytest.raises(DiskTrouble, match="clone"):
        add(scene, "photos-01", place)
    assert list(place.iterdir()) == []


def test_enrol_write_protected_disk_is_refused(scene: Scene) -> None:
    volume = scene.mounter.new_disk(write_protected=True)
    place = scene.place / "media" / "disk"
    scene.mounter.mount_elsewhere(volume, place)
    with pytest.raises(DiskTrouble, match="read-only"):
        add(scene, "photos-01", place)
    assert scene.catalogue.disks.all() == []


def test_enrol_path_that_is_nowhere_or_a_file_is_refused(scene: Scene, mounted: Path) -> None:
    (mounted / "file").write_bytes(b"")
    for path in (mounted / "not" / "there", mounted / "file"):
        with pytest.raises((UsageError, DiskTrouble)):
            add(scene, "photos-01", path)
    assert [path.name for path in mounted.iterdir()] == ["file"]
    assert scene.catalogue.disks.all() == []


def test_enrol_simulated_changes_nothing(scene: Scene, mounted: Path) -> None:
    assert add(scene, "photos-01", mounted, simulate=True).disk.name == "photos-01"
    assert list(mounted.iterdir()) == []
    assert scene.catalogue.disks.all() == []


def test_enrol_foreign_disk_is_adopted_and_its_database_kept(scene: Scene, mounted: Path) -> None:
    scene.write("a", "known content")
    scene.scan()
    write_foreign_layout(mounted, b"known content", b"content that no file has")
    foreign = (mounted / "distbackup.sqlite").read_bytes()
    enrolled = add(scene, "photos-01", mounted)
    disk = enrolled.disk
    assert (enrolled.adopted, disk.uuid) == (2, UUID)
    assert scene.held(disk).keys() == {sha256("known content"), sha256("content that no file has")}
    assert (mounted / "distbackup.sqlite.kept-1").read_bytes() == foreign
    assert (mounted / "distbackup.sqlite").read_bytes()[68:72] == b"dsbd"
    assert json.loads((mounted / "distbackup-disk.json").read_text())["name"] == "photos-01"
    orphans = [item for item in scene.catalogue.objects.facts() if item.orphaned_at]
    assert [item.orphaned_at for item in orphans] == [scene.clock.now()]


def test_enrol_adopted_copies_are_not_made_again(scene: Scene, mounted: Path) -> None:
    scene.write("a", "known content")
    scene.scan()
    write_foreign_layout(mounted, b"known content")
    disk = add(scene, "photos-01", mounted).disk
    scene.stores[disk.last_path] = FolderStore(disk.last_path, "ext4")
    assert scene.back_up(disk).copied_objects == 0


def test_refresh_believes_what_lies_there(scene: Scene, mounted: Path) -> None:
    for name in ("a", "b"):
        scene.write(name)
    scene.scan()
    disk = add(scene, "photos-01", mounted).disk
    store = scene.stores[disk.last_path] = FolderStore(disk.last_path, "ext4")
    scene.back_up(disk)
    (mounted / "distbackup-objects" / sha256("a").hex()[:3] / sha256("a").hex()).unlink()
    write_foreign_layout(mounted, b"new")
    assert refresh(scene.bench, disk, store) == (1, 1)
    assert scene.held(disk).keys() == {sha256("b"), sha256("new")}


def test_rename_reaches_the_disk_if_it_is_here(scene: Scene, mounted: Path) -> None:
    disk = add(scene, "one", mounted).disk
    renamed = rename(scene.bench, disk, "two", FolderStore(disk.last_path, "ext4"))
    assert json.loads((mounted / "distbackup-disk.json").read_text())["name"] == "two"
    rename(scene.bench, renamed, "three", None)
    assert json.loads((mounted / "distbackup-disk.json").read_text())["name"] == "two"
    assert [known.name for known in scene.catalogue.disks.all()] == ["three"]
    for bad in ("three", "a/b"):
        with pytest.raises(UsageError):
            rename(scene.bench, renamed, bad, None)


def test_move_takes_only_the_disk_itself(scene: Scene, mounted: Path) -> None:
    disk = add(scene, "one", mounted).disk
    (mounted / "below").mkdir()
    with pytest.raises(UsageError, match="is no backup disk, not 'one'"):
        enrolment.move(scene.bench, disk, os.fsencode(mounted / "below"))
    for name in ("distbackup-disk.json", "distbackup-objects"):
        (mounted / name).rename(mounted / "below" / name)
    moved: BackupDisk = enrolment.move(scene.bench, disk, os.fsencode(mounted / "below"))
    assert moved.relative_path == b"below"
    assert scene.catalogue.disks.find("one") == moved
