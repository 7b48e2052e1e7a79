"""What lies on a disk is looked at before anything that is known of it is believed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine import looking
from distbackupd.engine.enrolment import refresh
from distbackupd.engine.looking import look_again, look_at_disk
from distbackupd.model.disks import BackupDisk, Mount
from distbackupd.model.errors import DiskFull, DiskGone, DiskNotOurs, DiskTrouble, Interrupted
from distbackupd.model.events import CopiesGone, DiskRefused, Remark, SessionFailed
from distbackupd.planning.listing import FOLDERS, LISTED_SHARE
from distbackupd.store.folder_store import FolderStore
from tests.fakes.disk_store import FakeDiskStore
from tests.fakes.stopping import StopWhen
from tests.unit.engine.scenes import NEVER, Scene, scene_at, sha256

CONTENTS = [f"content {number}" for number in range(20)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        for number, content in enumerate(CONTENTS):
            opened.write(f"file{number}", content)
        opened.scan()
        yield opened


@pytest.fixture
def disk(scene: Scene) -> BackupDisk:
    """A disk that holds all of it, and had two sessions."""
    disk = scene.add_disk("one")
    scene.back_up(disk)
    scene.back_up(disk)
    scene.reporter.events.clear()
    return disk


def now(scene: Scene, disk: BackupDisk) -> BackupDisk:
    found = scene.catalogue.disks.find(disk.uuid)
    assert found is not None
    return found


def lose(scene: Scene, disk: BackupDisk, *contents: str) -> None:
    for content in contents:
        del scene.store(disk).objects_[sha256(content)]


def state_of(store: FakeDiskStore) -> tuple[Any, ...]:
    return dict(store.objects_), store.token_, store.catalogue


def set_back(store: FakeDiskStore, state: tuple[Any, ...]) -> None:
    store.objects_, store.token_, store.catalogue = dict(state[0]), state[1], state[2]


# --- what is gone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 20])
def test_objects_that_are_gone_are_struck_told_and_copied_again_in_the_same_session(
    scene: Scene, disk: BackupDisk, count: int
) -> None:
    lose(scene, disk, *CONTENTS[:count])
    finished = scene.back_up(disk)
    assert finished.copied_objects == count
    scene.assert_complete(disk)
    (told,) = scene.reporter.told(CopiesGone)
    assert (told.objects, told.alone) == (count, count)


def test_objects_that_are_gone_and_lie_on_another_disk_too_are_told_so(scene: Scene, disk: BackupDisk) -> None:
    two = scene.add_disk("two")
    scene.back_up(two)
    lose(scene, disk, *CONTENTS[:3])
    scene.back_up(disk)
    (told,) = scene.reporter.told(CopiesGone)
    assert (told.objects, told.alone) == (3, 0)
    scene.assert_complete(two)


def test_an_object_that_no_source_has_any_more_is_struck_and_not_believed(scene: Scene, disk: BackupDisk) -> None:
    (scene.real / "file3").unlink()
    scene.scan()
    lose(scene, disk, CONTENTS[3])
    scene.back_up(disk)
    assert sha256(CONTENTS[3]) not in scene.held(disk)
    assert scene.reporter.told(CopiesGone)[0].alone == 1


def test_a_disk_that_is_as_it_was_left_is_listed_in_part_and_nothing_is_told(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "_SPARE_SECONDS", 0)
    store = scene.store(disk)
    seen: set[int] = set()
    for _ in range(FOLDERS // LISTED_SHARE):
        store.listed.clear()
        scene.back_up(disk)
        # Only folders in which something should lie are listed at all.
        assert not seen & set(store.listed)
        seen |= set(store.listed)
    assert seen == {int(sha256(content).hex()[:3], 16) for content in CONTENTS}
    assert not scene.reporter.told(CopiesGone)
    assert not scene.reporter.told(DiskRefused)
    scene.assert_complete(disk)


def test_a_disk_that_is_as_it_was_left_is_listed_as_far_as_there_is_time(scene: Scene, disk: BackupDisk) -> None:
    store = scene.store(disk)
    times = store.folder_times()
    lose(scene, disk, *CONTENTS)
    store.times = times
    scene.back_up(disk)
    assert scene.reporter.told(CopiesGone)[0].objects == 20


def test_a_folder_that_changed_is_listed(scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "_SPARE_SECONDS", 0)
    folder = int(sha256(CONTENTS[5]).hex()[:3], 16)
    store = scene.store(disk)
    store.times[folder] = 1
    store.listed.clear()
    scene.back_up(disk)
    assert folder in store.listed
    store.listed.clear()
    scene.back_up(disk)
    assert folder not in store.listed


@pytest.mark.parametrize("why", ["unclean", "mended"])
def test_after_an_unclean_end_or_a_repair_everything_is_listed(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(looking, "_SPARE_SECONDS", 0)
    if why == "unclean":
        scene.catalogue.disks.update(replace(now(scene, disk), clean=False))
    else:
        scene.mount = lambda disk: Mount(disk.last_path, "/dev/fake", "ext4", remark="it was mended")  # type: ignore[method-assign]
    store = scene.store(disk)
    # A repair does not change the times of folders from which it takes something.
    times = store.folder_times()
    lose(scene, disk, CONTENTS[7])
    store.times = times
    store.listed.clear()
    scene.back_up(disk)
    assert len(store.listed) == len({sha256(content)[:2].hex()[:3] for content in CONTENTS})
    assert scene.reporter.told(CopiesGone)[0].objects == 1
    scene.assert_complete(disk)


def test_a_disk_that_stops_answering_while_it_is_listed_has_lost_nothing(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = scene.store(disk)
    kept = dict(store.objects_)
    store.objects_.clear()

    def fail(by_writing: bool = False) -> None:
        raise DiskGone("the fake disk does not answer any more")

    monkeypatch.setattr(store, "must_answer", fail)
    before = scene.held(disk)
    for token in (now(scene, disk).token, ""):  # compared, or walked because there is none yet
        scene.catalogue.disks.record_token(disk.id, token, "")
        with pytest.raises(DiskTrouble):
            scene.back_up(disk)
        assert scene.held(disk) == before
    assert len(scene.reporter.told(SessionFailed)) == 2
    monkeypatch.undo()
    store.objects_ = kept
    scene.back_up(disk)
    scene.assert_complete(disk)


def test_a_stop_while_the_disk_is_listed_leaves_the_rest_for_the_next_session(scene: Scene, disk: BackupDisk) -> None:
    lose(scene, disk, *CONTENTS)
    store = scene.store(disk)
    store.listed.clear()
    with pytest.raises(Interrupted):
        scene.back_up(disk, StopWhen(lambda: len(store.listed) > 3))
    assert not now(scene, disk).clean
    scene.back_up(disk)
    scene.assert_complete(disk)


def test_strike_missing_works_in_batches(scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "_BATCH_OBJECTS", 3)
    lose(scene, disk, *CONTENTS[:11])
    look_at_disk(scene.bench, now(scene, disk), scene.store(disk), NEVER, wary=True)
    assert scene.held(disk).keys() == {sha256(content) for content in CONTENTS[11:]}
    assert [event.objects for event in scene.reporter.told(CopiesGone)] == [11]


# --- a disk that is not as it was left -------------------------------------------------------------------------------


def test_each_session_leaves_another_token(scene: Scene, disk: BackupDisk) -> None:
    tokens = set()
    for _ in range(3):
        scene.back_up(disk)
        assert scene.store(disk).token_ == now(scene, disk).token != ""
        assert now(scene, disk).next_token == ""
        tokens.add(scene.store(disk).token_)
    assert len(tokens) == 3


def refuse(scene: Scene, disk: BackupDisk) -> None:
    """No session begins; nothing on the disk is touched, and nothing that is known of it changes but that it is hearsay."""
    held, store = scene.held(disk), scene.store(disk)
    before = state_of(store), store.operations
    with pytest.raises(DiskNotOurs, match="say 'dsb disk refresh one'"):
        scene.back_up(disk)
    assert (state_of(store), store.operations) == before
    assert scene.held(disk) == held
    assert "is not as the last session left 'one'" in scene.reporter.told(DiskRefused)[-1].sentence
    assert now(scene, disk).catalogue_generation == -1


def test_an_older_image_gets_nothing_and_no_credit_until_somebody_takes_it_for_the_disk(
    scene: Scene, disk: BackupDisk
) -> None:
    store = scene.store(disk)
    old = state_of(store)
    scene.write("new", "new content")
    (scene.real / "file3").unlink()
    scene.scan()
    scene.back_up(disk)
    set_back(store, old)
    scene.catalogue.disks.record_verified(disk.id, [1, 2], 5)
    refuse(scene, disk)
    assert refresh(scene.bench, now(scene, disk), store) == (0, 1)
    assert scene.catalogue.disks.verified_at(disk.id) == {}
    finished = scene.back_up(disk)
    assert finished.copied_objects == 1
    scene.assert_true(disk)
    assert sha256("new content") in scene.held(disk)


def test_of_two_clones_only_the_one_that_was_used_last_goes_on(scene: Scene, disk: BackupDisk) -> None:
    store = scene.store(disk)
    clone = state_of(store)
    scene.back_up(disk)
    genuine = state_of(store)
    set_back(store, clone)
    refuse(scene, disk)
    set_back(store, genuine)
    scene.back_up(disk)
    scene.assert_complete(disk)
    assert now(scene, disk).catalogue_generation >= 0


@pytest.mark.parametrize("token", ["", "another"])
def test_a_disk_without_the_token_is_refused_even_if_nothing_is_missing(scene: Scene, disk: BackupDisk, token: str) -> None:
    scene.store(disk).token_ = token
    refuse(scene, disk)
    refresh(scene.bench, now(scene, disk), scene.store(disk))
    scene.back_up(disk)
    scene.assert_complete(disk)


def test_nothing_is_deleted_elsewhere_while_a_disk_came_as_another(scene: Scene, disk: BackupDisk) -> None:
    other = scene.add_disk("two")
    scene.back_up(other)
    scene.store(disk).token_ = "another"
    refuse(scene, disk)
    (scene.real / "file3").unlink()
    scene.scan()
    scene.back_up(other)
    assert "nothing is deleted here until one was looked through" in str(scene.reporter.told(Remark)[-1].sentence)


def test_a_disk_from_before_there_were_tokens_is_walked_once_and_quietly(scene: Scene, disk: BackupDisk) -> None:
    scene.catalogue.disks.record_token(disk.id, "", "")
    scene.store(disk).token_ = ""
    scene.back_up(disk)
    assert scene.reporter.told(DiskRefused) == scene.reporter.told(Remark) == []
    assert now(scene, disk).token
    scene.catalogue.disks.record_token(disk.id, "", "")
    lose(scene, disk, CONTENTS[1])
    scene.back_up(disk)
    assert "holds 0 objects more and 1 fewer than was known" in scene.reporter.told(Remark)[0].sentence
    scene.assert_complete(disk)


@pytest.mark.parametrize("reached", ["catalogue", "disk"])
def test_a_crash_between_the_disk_and_the_catalogue_makes_no_stranger_of_it(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch, reached: str
) -> None:
    store = scene.store(disk)

    class Crash(Exception):
        pass

    leave = store.leave_token

    def crash(token: str) -> None:
        if reached == "disk":
            leave(token)
        raise Crash

    for _ in range(3):
        monkeypatch.setattr(store, "leave_token", crash)
        with pytest.raises(Crash):
            scene.back_up(disk)
    monkeypatch.undo()
    scene.back_up(disk)
    assert scene.reporter.told(DiskRefused) == []
    scene.assert_complete(disk)


def test_a_full_disk_has_no_room_for_a_token_and_is_no_stranger(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = scene.store(disk)

    def fail(token: str) -> None:
        raise DiskFull("the fake disk is full")

    monkeypatch.setattr(store, "leave_token", fail)
    for _ in range(2):
        scene.back_up(disk)
    monkeypatch.undo()
    scene.back_up(disk)
    assert scene.reporter.told(DiskRefused) == []


def test_a_dropped_disk_that_comes_again_is_walked(scene: Scene, disk: BackupDisk) -> None:
    scene.catalogue.disks.drop(disk.id)
    lose(scene, disk, CONTENTS[1])
    finished = scene.back_up(disk)
    assert finished.copied_objects == 1
    scene.assert_complete(disk)


def test_look_again_walks_what_has_no_token_yet_and_believes_what_is_as_it_was_left(scene: Scene, disk: BackupDisk) -> None:
    store = scene.store(disk)
    lose(scene, disk, CONTENTS[1])
    look_again(scene.bench, now(scene, disk), store)
    assert sha256(CONTENTS[1]) in scene.held(disk), "that is what verifying is for"
    scene.catalogue.disks.record_token(disk.id, "", "")
    look_again(scene.bench, now(scene, disk), store)
    assert sha256(CONTENTS[1]) not in scene.held(disk)
    assert store.token_ == now(scene, disk).token


def test_refresh_notes_how_the_disk_is_left(scene: Scene, disk: BackupDisk) -> None:
    store = scene.store(disk)
    store.token_ = "another"
    lose(scene, disk, CONTENTS[1])
    assert refresh(scene.bench, now(scene, disk), store) == (0, 1)
    store.listed.clear()
    finished = scene.back_up(disk)
    assert finished.copied_objects == 1
    assert scene.reporter.told(DiskRefused) == []


# --- on a real folder ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["all", "emptied", "one folder", "one object"])
def test_what_somebody_took_away_is_found_at_once(scene: Scene, gone: str) -> None:
    root = scene.place / "disks" / "real"
    root.mkdir(parents=True)
    disk = scene.add_disk("real", FolderStore(os.fsencode(root), "ext4"))
    scene.back_up(disk)
    scene.back_up(disk)
    objects = root / "distbackup-objects"
    folder = objects / sha256(CONTENTS[4]).hex()[:3]
    if gone == "all":
        objects.rename(root / "lost+found")
    elif gone == "emptied":
        for path in objects.iterdir():
            shutil.rmtree(path)
    elif gone == "one folder":
        shutil.rmtree(folder)
    else:
        (folder / sha256(CONTENTS[4]).hex()).unlink()
    store = scene.stores[disk.last_path] = FolderStore(os.fsencode(root), "ext4")
    scene.back_up(disk)
    (told,) = scene.reporter.told(CopiesGone)
    assert told.objects == (20 if gone in ("all", "emptied") else 1)
    assert len(list(store.objects())) == 20
    scene.assert_complete(disk)
