"""What room is left to objects, and what a session does with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distbackupd.engine.overview import overview
from distbackupd.engine.room import room_on, with_room
from distbackupd.model.disks import Space, Volume, footprint
from distbackupd.model.errors import DiskFull
from distbackupd.model.events import Remark
from tests.fakes.disk_store import TABLES, FakeDiskStore
from tests.unit.engine.scenes import Scene, scene_at


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


class TellingStore(FakeDiskStore):
    """A disk that says what a test wants to hear."""

    told = Space(1 << 30, 1 << 30, 4096)

    def space(self) -> Space:
        return self.told


def fill(scene: Scene, count: int) -> None:
    for number in range(count):
        scene.write(f"{number}")
    scene.scan()


def test_room_leaves_the_catalogue_twice_its_size(scene: Scene) -> None:
    store = TellingStore()
    size = scene.catalogue.size()
    free = room_on(scene.bench, store).free
    assert 2 * size <= (1 << 30) - free <= 3 * size + (16 << 20)
    store.told = replace(store.told, catalogue=size)  # the old copy is there already
    assert 0 < room_on(scene.bench, store).free - free <= size


def test_room_of_a_disk_hardly_larger_than_the_catalogue_is_not_nothing(scene: Scene) -> None:
    store = TellingStore()
    size = scene.catalogue.size()
    store.told = Space(4 * size, 4 * size, 512)
    assert room_on(scene.bench, store).free > size


def test_room_for_folders_of_large_clusters_is_no_room_for_objects(scene: Scene) -> None:
    fill(scene, 100)
    store = TellingStore()
    disk = scene.add_disk("one", store)
    fine = with_room(scene.bench, disk, store).fillable
    store.told = replace(store.told, block_size=131072)
    assert fine - with_room(scene.bench, disk, store).fillable >= 90 * (131072 - 4096)


def test_session_on_a_disk_with_few_inodes_places_what_fits_and_names_the_reason(scene: Scene) -> None:
    fill(scene, 20)
    store = FakeDiskStore()
    store.files = 32 + 7
    disk = scene.add_disk("one", store)
    finished = scene.back_up(disk)
    assert (finished.copied_objects, finished.unplaced_objects) == (7, 13)
    assert any("no inodes left for 13 objects" in remark.sentence for remark in scene.reporter.told(Remark))
    assert scene.catalogue.disks.find("one").most_objects == 7
    assert overview(scene.bench).wanted is None


def test_session_on_a_disk_whose_inodes_others_took_meanwhile_keeps_what_lies_complete(scene: Scene) -> None:
    class Crowded(FakeDiskStore):
        def space(self) -> Space:
            return replace(super().space(), free_files=None)

    fill(scene, 20)
    store = Crowded()
    store.files = 7
    disk = scene.add_disk("one", store)
    finished = scene.back_up(disk)
    assert (finished.copied_objects, finished.unplaced_objects) == (7, 13)
    assert len(scene.held(disk)) == 7
    assert not store.unfinished
    scene.assert_true(disk)


def test_a_disk_that_had_no_room_is_not_asked_for_until_something_new_lacks_copies(scene: Scene) -> None:
    scene.write("large", "x" * 40_000)
    scene.scan()
    disk = scene.add_disk("one", FakeDiskStore(8 * 4096), capacity=8 * 4096)
    assert overview(scene.bench).wanted is not None
    scene.back_up(disk)
    state = overview(scene.bench)
    assert (state.wanted, state.disks[0].free) == (None, 8 * 4096)
    assert state.advice == "no disk has room for the 40.0 kB that have no copy yet: add one"
    scene.write("small", "new")
    scene.scan()
    wanted = overview(scene.bench).wanted
    assert wanted is not None
    assert (wanted.disk, wanted.size) == ("one", 3)


def test_a_disk_that_just_failed_is_not_asked_for_before_the_next_day(scene: Scene) -> None:
    fill(scene, 3)
    store = FakeDiskStore()
    disk = scene.add_disk("one", store)
    store.fail_at = store.operations + 5
    with pytest.raises(Exception, match="does not answer"):
        scene.back_up(disk)
    state = overview(scene.bench)
    assert (state.wanted, bool(state.advice)) == (None, True)
    scene.clock.pass_time(90_000)
    assert overview(scene.bench).wanted is not None


def test_a_disk_that_is_plugged_in_is_not_asked_for(scene: Scene) -> None:
    fill(scene, 3)
    volume: Volume = scene.mounter.new_disk()
    disk = scene.add_disk("one")
    scene.catalogue.disks.update(replace(disk, filesystem_uuid=volume.filesystem_uuid))
    state = overview(scene.bench)
    assert (state.wanted, state.advice) == (None, "")
    scene.mounter.unplug(volume)
    assert overview(scene.bench).wanted is not None


def test_free_room_is_judged_as_the_file_system_last_told(scene: Scene) -> None:
    fill(scene, 3)
    store = FakeDiskStore(room=10 * footprint(1))
    disk = scene.add_disk("one", store)
    scene.back_up(disk)
    (item,) = overview(scene.bench).disks
    assert item.free < 2 * TABLES + 10 * footprint(1) < disk.capacity


def test_session_on_a_disk_that_lacks_room_for_the_grown_catalogue_gives_up_copies_of_what_stays_protected(
    scene: Scene,
) -> None:
    fill(scene, 20)
    roomy = [scene.add_disk(name, FakeDiskStore()) for name in ("one", "two")]
    for disk in roomy:
        scene.back_up(disk)
    third = TellingStore()
    disk = scene.add_disk("three", third)
    scene.back_up(disk)
    assert len(scene.held(disk)) == 20
    # Somebody else filled it: nothing is left for the catalogue's copy.
    third.told = Space(1 << 30, 0, 4096)
    disk = scene.catalogue.disks.find("three")
    assert disk is not None
    scene.back_up(disk)
    assert len(scene.held(disk)) < 20
    assert all(len(scene.held(other)) == 20 for other in roomy)


def test_session_on_a_disk_that_lacks_room_for_the_grown_catalogue_keeps_what_is_not_protected_elsewhere(
    scene: Scene,
) -> None:
    fill(scene, 20)
    scene.back_up(scene.add_disk("one", FakeDiskStore()))
    second = TellingStore()
    disk = scene.add_disk("two", second)
    scene.back_up(disk)
    second.told = Space(1 << 30, 0, 4096)
    disk = scene.catalogue.disks.find("two")
    assert disk is not None
    scene.back_up(disk)
    assert len(scene.held(disk)) == 20


def test_session_on_a_disk_that_is_full_when_it_flushes_lets_nothing_leave_and_ends_well(scene: Scene) -> None:
    class FullAtFlush(FakeDiskStore):
        full = False

        def flush(self) -> None:
            if self.full:
                self.full = False
                raise DiskFull("full, fuller than expected")
            super().flush()

    fill(scene, 8)
    for name in ("one", "two"):
        scene.back_up(scene.add_disk(name, FakeDiskStore()))
    store = FullAtFlush()
    disk = scene.add_disk("three", store, capacity=8 * footprint(1))
    scene.back_up(disk)
    held = scene.held(disk)
    assert len(held) == 8
    scene.write("newcomer")
    scene.scan()
    store.full = True
    disk = scene.catalogue.disks.find("three")
    assert disk is not None
    finished = scene.back_up(disk)
    assert finished.copied_objects == 0
    assert scene.held(disk) == held
    assert not store.unfinished
    scene.assert_true(disk)
