"""An emptied, unmounted or rewritten source plus ten plug-ins destroys nothing; what is right still goes on."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distbackupd.engine.brake_memory import recall
from distbackupd.engine.braking import awaits_scan, release, standing_brake
from distbackupd.model.disks import BackupDisk, footprint
from distbackupd.model.errors import Interrupted
from distbackupd.model.events import Braked, BrakeLifted, BrakeReleased
from distbackupd.model.plans import Policy
from tests.fakes.stopping import StopWhen
from tests.unit.engine.scenes import Scene, scene_at

AT_ONCE = Policy(grace=0)
"""Without grace what is dead would leave with the very next session."""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


def fill(scene: Scene, count: int = 300) -> tuple[BackupDisk, BackupDisk]:
    """So many files on two disks."""
    for number in range(count):
        scene.write(f"folder {number % 7}/{number}", f"text number {number} " * 400)
    scene.scan()
    one, two = scene.add_disk("one"), scene.add_disk("two")
    for disk in (one, two):
        scene.back_up(disk, policy=AT_ONCE)
    return one, two


def plug_ten_times(scene: Scene, *disks: BackupDisk) -> None:
    for _ in range(5):
        for disk in disks:
            scene.back_up(disk, policy=AT_ONCE)


def contents(scene: Scene, disk: BackupDisk) -> set[bytes]:
    return {digest for digest, _ in scene.store(disk).objects()}


def delete(scene: Scene, count: int) -> None:
    for number in range(count):
        (scene.real / f"folder {number % 7}" / str(number)).unlink()
    scene.scan()


def test_emptied_source_loses_nothing(scene: Scene) -> None:
    one, two = fill(scene)
    before = contents(scene, one)
    for path in scene.real.iterdir():
        shutil.rmtree(path)
    scene.scan(ignore_lock=True)
    plug_ten_times(scene, one, two)
    assert contents(scene, one) == contents(scene, two) == before
    assert "300 vanished" in scene.reporter.told(Braked)[0].sentence


def test_rewritten_source_loses_nothing_though_its_new_content_is_copied(scene: Scene) -> None:
    one, two = fill(scene)
    before = contents(scene, one)
    chance = random.Random(1)
    for path in [path for path in scene.real.rglob("*") if path.is_file()]:
        path.write_bytes(chance.randbytes(8192))
    scene.scan()
    plug_ten_times(scene, one, two)
    assert before < contents(scene, one)
    assert len(contents(scene, one)) == 600
    found, reason = (event.sentence for event in scene.reporter.told(Braked)[:2])
    assert "300 were rewritten" in found
    assert "300 were rewritten" in reason
    assert "300 of 300 rewritten files look like random bytes" in reason


def test_full_disk_loses_nothing_to_rewritten_files(scene: Scene) -> None:
    one, two = fill(scene)
    room = sum(footprint(size) for size in scene.held(one).values())
    for disk in (one, two):
        known = scene.catalogue.disks.find(disk.uuid)
        scene.catalogue.disks.update(_with_capacity(known, room))
    before = contents(scene, one)
    for path in [path for path in scene.real.rglob("*") if path.is_file()]:
        path.write_bytes(path.read_bytes()[::-1])
    scene.scan()
    plug_ten_times(scene, one, two)
    assert contents(scene, one) == contents(scene, two) == before


def _with_capacity(disk: BackupDisk, capacity: int) -> BackupDisk:
    return replace(disk, capacity=capacity)


def test_missing_source_holds_the_brake_only_while_it_is_missing(scene: Scene) -> None:
    one, two = fill(scene)
    before = contents(scene, one)
    delete(scene, 30)
    away = scene.real.rename(scene.place / "away")
    plug_ten_times(scene, one, two)
    assert contents(scene, one) == contents(scene, two) == before
    assert f"the source {scene.real} is missing" in scene.reporter.told(Braked)[0].sentence
    away.rename(scene.real)
    scene.back_up(one, policy=AT_ONCE)
    assert len(contents(scene, one)) == 270
    assert recall(scene.bench).causes == ()


def test_locked_source_that_is_away_is_no_cause(scene: Scene) -> None:
    one, _ = fill(scene)
    scene.set(b"/", lock=True)
    scene.real.rename(scene.place / "away")
    scene.back_up(one, policy=AT_ONCE)
    assert scene.reporter.told(Braked) == []


def test_what_is_lost_in_the_very_second_of_the_last_session_counts(scene: Scene) -> None:
    one, two = fill(scene)
    moment = scene.catalogue.disks.find("two").last_session_at
    for path in scene.real.iterdir():
        shutil.rmtree(path)
    scene.clock.pass_time(moment - 10 - scene.clock.now())
    scene.scan(ignore_lock=True)
    assert scene.clock.now() == moment
    plug_ten_times(scene, two, one)
    assert len(contents(scene, one)) == len(contents(scene, two)) == 300


def test_released_in_the_same_second_stays_released(scene: Scene) -> None:
    one, two = fill(scene)
    delete(scene, 150)
    release(scene.bench)
    plug_ten_times(scene, one, two)
    assert len(contents(scene, one)) == len(contents(scene, two)) == 150


def test_few_deletions_are_deleted(scene: Scene) -> None:
    one, two = fill(scene)
    delete(scene, 50)
    plug_ten_times(scene, one, two)
    assert scene.reporter.told(Braked) == []
    assert len(contents(scene, one)) == len(contents(scene, two)) == 250


def test_renamed_folder_is_no_cause(scene: Scene) -> None:
    one, _ = fill(scene)
    for number in range(7):
        (scene.real / f"folder {number}").rename(scene.real / f"new name {number}")
    scene.scan()
    scene.back_up(one, policy=AT_ONCE)
    assert scene.reporter.told(Braked) == []


def test_brake_stays_for_every_disk_until_it_is_released(scene: Scene) -> None:
    one, two = fill(scene)
    delete(scene, 150)
    scene.back_up(one, policy=AT_ONCE)
    assert standing_brake(scene.bench).on
    fresh = scene.add_disk("fresh")
    scene.back_up(fresh, policy=AT_ONCE)
    assert [event.disk for event in scene.reporter.told(Braked)] == ["", "one", "fresh"]
    scene.clock.pass_time(5)
    assert release(scene.bench).on
    assert len(scene.reporter.told(BrakeReleased)) == 1
    assert not standing_brake(scene.bench).on
    for disk in (one, two):
        scene.back_up(disk, policy=AT_ONCE)
        assert len(contents(scene, disk)) == 150
    assert not release(scene.bench).on
    assert len(scene.reporter.told(BrakeReleased)) == 1


def test_source_that_is_gone_for_good_can_be_released(scene: Scene) -> None:
    one, two = fill(scene)
    delete(scene, 10)
    shutil.rmtree(scene.real)
    scene.back_up(one, policy=AT_ONCE)
    assert len(contents(scene, one)) == 300
    release(scene.bench)
    plug_ten_times(scene, one, two)
    assert len(contents(scene, one)) == len(contents(scene, two)) == 290


def test_interrupted_session_finishes_no_removal_under_the_brake(scene: Scene) -> None:
    one, _ = fill(scene)
    delete(scene, 150)
    held = list(scene.catalogue.objects.identifiers(list(scene.held(one))).values())[:5]
    scene.catalogue.objects.record_removals(one.id, held)
    known = scene.catalogue.disks.find(one.uuid)
    scene.catalogue.disks.update(replace(known, clean=False))
    before = contents(scene, one)
    scene.back_up(one, policy=AT_ONCE)
    assert contents(scene, one) >= before


def test_empty_names_of_sources_that_are_no_text_are_told(scene: Scene) -> None:
    odd = scene.place / os.fsdecode(b"odd \xff name")
    odd.mkdir()
    (odd / "file").write_text("x")
    scene.map(b"/odd", odd)
    one, _ = fill(scene)
    shutil.rmtree(odd)
    scene.back_up(one, policy=AT_ONCE)
    (braked,) = scene.reporter.told(Braked)
    assert braked.sentence.isprintable()
    release(scene.bench)
    assert not standing_brake(scene.bench).on


def remove_by_watcher(scene: Scene, count: int) -> None:
    """As the watcher tells it: a few files at a time, one folder after the other, and no scan of everything."""
    for number in range(count):
        (scene.real / f"folder {number % 7}" / str(number)).unlink()
        if number % 10 == 9:
            scene.scan(folders=[os.fsencode(scene.real / f"folder {folder}") for folder in range(7)])


@pytest.mark.parametrize("disks", [0, 1, 2])
def test_many_little_losses_between_scans_brake_at_once_and_without_any_disk(scene: Scene, disks: int) -> None:
    for number in range(100):
        scene.write(f"folder {number % 7}/{number}", f"text number {number} " * 400)
    scene.scan()
    shelf = [scene.add_disk(f"disk {number}") for number in range(disks)]
    for disk in shelf:
        scene.back_up(disk, policy=AT_ONCE)
    remove_by_watcher(scene, 20)
    assert not standing_brake(scene.bench).on
    for disk in shelf:
        scene.back_up(disk, policy=AT_ONCE)
    assert scene.reporter.told(Braked) == []
    (scene.real / "folder 0" / "98").unlink()
    scene.scan(folders=[os.fsencode(scene.real / "folder 0")])
    assert standing_brake(scene.bench).unconfirmed
    assert awaits_scan(scene.bench)
    (told,) = scene.reporter.told(Braked)
    assert told.sentence.startswith("the brake is on: of 100 files")
    plug_ten_times(scene, *shelf)
    assert all(len(contents(scene, disk)) == 100 for disk in shelf)
    scene.scan()
    assert standing_brake(scene.bench).on
    assert not awaits_scan(scene.bench)
    assert [event.disk for event in scene.reporter.told(Braked)].count("") == 1
    plug_ten_times(scene, *shelf)
    scene.scan()
    assert all(len(contents(scene, disk)) == 100 for disk in shelf)


def test_losses_of_several_days_count_from_each_scan_that_passed(scene: Scene) -> None:
    one, _ = fill(scene, 100)
    for number in range(5):
        for file in range(number * 10, number * 10 + 10):
            (scene.real / f"folder {file % 7}" / str(file)).unlink()
        scene.scan()
        assert not standing_brake(scene.bench).on
    scene.back_up(one, policy=AT_ONCE)
    assert len(contents(scene, one)) == 50


def test_move_seen_in_two_halves_is_lifted_by_the_next_scan_of_everything(scene: Scene) -> None:
    one, _ = fill(scene, 100)
    (scene.real / "folder 0").rename(scene.place / "under way")
    (scene.real / "folder 1").rename(scene.place / "under way too")
    scene.scan(folders=[os.fsencode(scene.real)])
    assert standing_brake(scene.bench).unconfirmed
    scene.back_up(one, policy=AT_ONCE)
    assert len(contents(scene, one)) == 100
    (scene.place / "under way").rename(scene.real / "here")
    (scene.place / "under way too").rename(scene.real / "here too")
    scene.scan()
    assert not standing_brake(scene.bench).on
    assert len(scene.reporter.told(BrakeLifted)) == 1
    scene.back_up(one, policy=AT_ONCE)
    scene.assert_complete(one)


def test_few_big_files_brake_by_their_bytes(scene: Scene) -> None:
    for number in range(30):
        scene.write(f"small/{number}", f"text number {number}")
    for number in range(3):
        (scene.real / f"film {number}").write_bytes(b"%d" % number * 40_000_000)
    scene.scan()
    for number in range(2):
        (scene.real / f"film {number}").unlink()
    scene.scan()
    assert "67% of the bytes" in standing_brake(scene.bench).sentence


def test_release_is_the_state_that_the_next_losses_are_measured_against(scene: Scene) -> None:
    one, two = fill(scene, 100)
    delete(scene, 50)
    assert release(scene.bench).on
    plug_ten_times(scene, one, two)
    assert len(contents(scene, one)) == len(contents(scene, two)) == 50
    scene.reporter.events.clear()
    delete_from(scene, 50, 60)
    assert not standing_brake(scene.bench).on
    delete_from(scene, 60, 75)
    assert standing_brake(scene.bench).on


def delete_from(scene: Scene, first: int, behind: int) -> None:
    for number in range(first, behind):
        (scene.real / f"folder {number % 7}" / str(number)).unlink()
    scene.scan()


def test_interrupted_scan_that_saw_much_gone_holds_the_next_session(scene: Scene) -> None:
    one, _ = fill(scene, 100)
    for path in scene.real.iterdir():
        shutil.rmtree(path)
    scene.write("something", "else")
    with pytest.raises(Interrupted):
        scene.scan(stop=StopWhen(lambda: not scene.catalogue.files.has_entries_below(b"/folder 0")))
    scene.back_up(one, policy=AT_ONCE)
    assert standing_brake(scene.bench).on
    assert len(contents(scene, one)) == 100


def test_catalogue_of_an_older_version_is_measured_against_its_last_session(scene: Scene) -> None:
    one, _ = fill(scene, 100)
    scene.catalogue.sessions.remember("brake", "{}")
    delete(scene, 50)
    assert standing_brake(scene.bench).on
    assert "of 100 files" in standing_brake(scene.bench).sentence
    plug_ten_times(scene, one)
    assert len(contents(scene, one)) == 100
