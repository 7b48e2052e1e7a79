"""From nothing: finding disks, choosing copies, walking. The whole of it is in ``tests/system/test_recoveries.py``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distbackupd.catalogue.copies import CatalogueCopies
from distbackupd.engine.enrolment import enrol
from distbackupd.engine.recovery import FoundDisk, find_copies, find_disks, take_sound, walk_disks
from distbackupd.model.disks import BackupDisk, Mount, Volume
from distbackupd.model.errors import DiskTrouble
from distbackupd.store.folder_store import FolderStore
from tests.fakes.disk_store import BLOCK, FakeDiskStore
from tests.unit.engine.scenes import NEVER, Scene, scene_at


def open_store(root: bytes, mount: Mount) -> FolderStore:
    return FolderStore(root, mount.filesystem_type)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        opened.bench = replace(opened.bench, open_store=open_store)
        yield opened


def plug_in(scene: Scene, name: str, below: str = "", **options: bytes) -> tuple[Volume, Path]:
    """A fresh disk that somebody mounted, and that is known."""
    volume = scene.mounter.new_disk(**options)
    place = scene.place / "media" / name
    scene.mounter.mount_elsewhere(volume, place)
    (place / below).parent.mkdir(exist_ok=True)
    enrol(
        scene.bench,
        name,
        os.fsencode(place / below if below else place),
        None,
        luks_key=options.get("key") or None,
        folder=bool(below),
    )
    return volume, place


def found_in(scene: Scene) -> list[FoundDisk]:
    places = [(mount.root, mount) for mount in scene.mounter.mounts()]
    return find_disks(open_store, places, scene.reporter)


def known(scene: Scene, name: str) -> BackupDisk:
    disk = scene.catalogue.disks.find(name)
    assert disk is not None
    return disk


def test_find_disks_at_the_top_and_one_folder_below_but_not_deeper(scene: Scene) -> None:
    plug_in(scene, "one")
    plug_in(scene, "two", below="backup")
    plug_in(scene, "three", below="much/deeper")
    (scene.place / "media" / "one" / "other").mkdir()
    assert sorted(disk.name for disk in found_in(scene)) == ["one", "two"]


def test_find_disks_one_whose_identity_is_unreadable_is_told(scene: Scene) -> None:
    plug_in(scene, "one")
    _, place = plug_in(scene, "two")
    (place / "distbackup-disk.json").write_text("{")
    assert [disk.name for disk in found_in(scene)] == ["one"]
    assert "distbackup-disk.json is damaged" in scene.reporter.sentences()


def test_find_disks_a_clone_is_refused(scene: Scene) -> None:
    _, one = plug_in(scene, "one")
    _, two = plug_in(scene, "two")
    (two / "distbackup-disk.json").write_bytes((one / "distbackup-disk.json").read_bytes())
    with pytest.raises(DiskTrouble, match="one is a clone of the other; nothing was touched"):
        found_in(scene)


def test_find_copies_the_newest_comes_first_and_foreign_ones_are_none(scene: Scene) -> None:
    _, one = plug_in(scene, "one")
    _, two = plug_in(scene, "two")
    (one / "distbackup.sqlite.kept-1").write_bytes(b"of somebody else")
    (two / "distbackup.sqlite.kept-7").write_bytes((one / "distbackup.sqlite").read_bytes())
    found = find_copies(CatalogueCopies(scene.place / "lost"), found_in(scene), scene.reporter)
    assert {item.candidate.name for item in found if item.copy.generation == found[0].copy.generation} == {"two"}
    assert len(found) == 3
    generations = [item.copy.generation for item in found]
    assert generations == sorted(generations, reverse=True)
    assert [item.candidate.is_kept for item in found] == [item.copy.path.endswith(b"kept-7") for item in found]


def test_take_sound_none_is_nothing(scene: Scene) -> None:
    assert take_sound(CatalogueCopies(scene.place / "lost"), [], False, lambda _: None, scene.reporter) is None
    assert not (scene.place / "lost").exists()


def test_walk_disks_believes_them_and_follows_those_that_moved(scene: Scene) -> None:
    scene.write("a")
    scene.scan()
    _, place = plug_in(scene, "one")
    digest = scene.digest("/a")
    assert digest is not None
    path = place / "distbackup-objects" / digest.hex()[:3] / digest.hex()
    path.parent.mkdir()
    path.write_bytes(b"a")
    (place / "moved").mkdir()
    for item in list(place.iterdir()):
        if item.name != "moved":
            item.rename(place / "moved" / item.name)
    walk = walk_disks(scene.bench, found_in(scene), may_mount=False)
    assert walk.walked == {"one": (1, 0)}
    assert (known(scene, "one").relative_path, known(scene, "one").last_path) == (b"moved", os.fsencode(place / "moved"))
    assert scene.held(known(scene, "one")) == {digest: 1}


@pytest.mark.parametrize("key", [b"", b"secret"])
def test_walk_disks_mounts_what_is_only_plugged_in_and_leaves_it_unmounted(scene: Scene, key: bytes) -> None:
    volume, _ = plug_in(scene, "one", key=key)
    scene.mounter.release(volume, "one")
    assert walk_disks(scene.bench, [], may_mount=False).unseen == ["one"]
    scene.mounter.log.clear()
    assert walk_disks(scene.bench, [], may_mount=True).walked == {"one": (0, 0)}
    unlocked = ["unlock one"] if key else []
    assert scene.mounter.log[: len(unlocked) + 1] == [*unlocked, "mount one"]
    assert scene.mounter.mounts() == []


def test_walk_disks_one_in_trouble_does_not_keep_the_others_from_being_walked(scene: Scene) -> None:
    _, one = plug_in(scene, "one")
    plug_in(scene, "two")
    found = found_in(scene)
    (one / "distbackup-disk.json").unlink()
    walk = walk_disks(scene.bench, found, may_mount=False)
    assert (list(walk.walked), walk.unseen) == (["two"], ["one"])
    assert "one: there is no distbackup-disk.json" in scene.reporter.sentences()


@pytest.mark.parametrize("name", ["", "two", "a/b", "-rf", "line\nbreak"])
def test_walk_disks_one_that_is_not_known_gets_a_name_that_is_free(scene: Scene, name: str) -> None:
    plug_in(scene, "one")
    plug_in(scene, "two")
    disk = known(scene, "one")
    found = [replace(item, identity=replace(item.identity, name=name)) for item in found_in(scene) if item.name == "one"]
    scene.catalogue.disks.delete(disk)
    walk = walk_disks(scene.bench, found, may_mount=False)
    assert walk.added == {f"disk-{disk.uuid[:8]}": 0}
    assert known(scene, f"disk-{disk.uuid[:8]}").uuid == disk.uuid


def test_a_session_deletes_nothing_while_another_disk_is_known_by_hearsay(scene: Scene) -> None:
    """Else the last copy could go, for the other one is only said to have one too."""
    scene.bench = replace(scene.bench, open_store=scene._open_store)
    for number in range(4):
        scene.write(f"file {number}")
    scene.scan()
    one, two = (scene.add_disk(name, FakeDiskStore(4 * BLOCK), capacity=8 * BLOCK) for name in ("one", "two"))
    scene.back_up(one)
    scene.back_up(two)
    scene.write("newcomer")
    scene.scan()
    scene.catalogue.disks.update(replace(known(scene, "two"), catalogue_generation=-1))
    assert scene.back_up(one).deleted_objects == 0
    assert "one: nothing is deleted here until two was looked through" in scene.reporter.sentences()
    assert scene.back_up(two).deleted_objects == 1


def test_a_session_of_a_disk_that_was_never_seen_believes_it_first(scene: Scene) -> None:
    """What is recorded of it came from elsewhere: here that it holds what it does not hold."""
    scene.write("a")
    scene.scan()
    _, place = plug_in(scene, "one")
    digest = scene.digest("/a")
    assert digest is not None
    disk = known(scene, "one")
    scene.catalogue.objects.replace_holdings(disk.id, [(digest, 1)], 1)
    scene.catalogue.disks.update(replace(disk, catalogue_generation=-1))
    assert scene.back_up(known(scene, "one")).copied_objects == 1
    assert "one: holds 0 objects more and 1 fewer than was known of it" in scene.reporter.sentences()
    assert FolderStore(os.fsencode(place), "ext4").check(digest, 1, NEVER).problem == ""
