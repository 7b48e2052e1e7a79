"""What lies unrecorded on a disk: whatever ended a session, and whatever memory shows, the next accounts for all of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbackupd.engine import clearing, execution
from distbackupd.engine.enrolment import refresh
from distbackupd.model.disks import BackupDisk, footprint
from distbackupd.model.errors import DiskTrouble
from distbackupd.model.plans import Policy
from tests.fakes.disk_store import FakeDiskStore, Killed
from tests.unit.engine.scenes import NEVER, Scene, scene_at, sha256

BLOCK = footprint(1)
NO_GRACE = Policy(grace=0)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


@pytest.fixture
def disk(scene: Scene) -> BackupDisk:
    return scene.add_disk("one")


def fill(scene: Scene, count: int, prefix: str = "file") -> None:
    for number in range(count):
        scene.write(f"{prefix}/{number}", f"content of {prefix} {number}")
    scene.scan()


def empty(scene: Scene, prefix: str) -> None:
    for path in (scene.real / prefix).iterdir():
        path.unlink()
    scene.scan()


def killed_before(scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A session that is killed just before it records something."""
    with monkeypatch.context() as patch:
        patch.setattr(scene.catalogue.objects, what, lambda *_words: scene.store(disk).kill())
        with pytest.raises(Killed):
            scene.back_up(disk, policy=NO_GRACE)
    scene.store(disk).after_kill()


def assert_accounted(scene: Scene, disk: BackupDisk) -> None:
    """The catalogue says of the disk what lies there, all of it and no more, and nothing is left to do."""
    scene.assert_true(disk)
    store = scene.store(disk)
    assert scene.held(disk) == dict(store.objects())
    assert store.unfinished == {}
    assert scene.catalogue.objects.pending_removals(disk.id) == []
    assert scene.catalogue.disks.find(disk.uuid).clean


def test_copies_that_a_killed_session_did_not_record_and_nobody_wants_any_more_leave(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(scene, 8)
    fill(scene, 5, "kept")
    killed_before(scene, disk, monkeypatch, "record_copies")
    assert len(scene.store(disk).objects_) == 13
    assert scene.held(disk) == {}
    empty(scene, "file")
    scene.back_up(disk, policy=NO_GRACE)
    assert "one: took over 13 copies of the last session" in scene.reporter.sentences()
    assert_accounted(scene, disk)
    assert len(scene.held(disk)) == 5


def test_removals_that_were_not_carried_out_are_copies_again_under_the_brake(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(scene, 8)
    fill(scene, 5, "kept")
    scene.back_up(disk)
    empty(scene, "file")
    store = scene.store(disk)
    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", lambda _digests: store.kill())
        with pytest.raises(Killed):
            scene.back_up(disk, policy=NO_GRACE)
    store.after_kill()
    assert len(scene.catalogue.objects.pending_removals(disk.id)) == 8
    away = scene.real.rename(scene.place / "away")
    scene.back_up(disk, policy=NO_GRACE)
    assert "the brake is on" in scene.reporter.sentences()
    assert_accounted(scene, disk)
    assert len(scene.held(disk)) == 13
    away.rename(scene.real)
    scene.back_up(disk, policy=NO_GRACE)
    assert_accounted(scene, disk)
    assert len(scene.held(disk)) == 5


@pytest.mark.parametrize("what", ["commit", "refresh"])
def test_what_an_error_left_in_memory_only_is_not_believed(scene: Scene, disk: BackupDisk, what: str) -> None:
    fill(scene, 10)
    store = scene.store(disk)
    store.lose_writes_at = store.operations + 5
    with pytest.raises(DiskTrouble):
        scene.back_up(disk)
    if what == "refresh":
        # The files had their final names already.
        store.objects_, store.unfinished = store.unfinished, {}
        refresh(scene.bench, scene.catalogue.disks.find(disk.uuid), store, wary=True)
        assert not scene.held(disk)
    scene.back_up(disk)
    store.lose_memory()
    assert_accounted(scene, disk)
    assert len(scene.held(disk)) == 10


def test_refresh_on_a_disk_that_was_not_left_clean_reads_what_is_new(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(scene, 5)
    killed_before(scene, disk, monkeypatch, "record_copies")
    bad = sha256("content of file 0")
    scene.store(disk).objects_[bad] = b"CONTENT OF FILE 0"
    assert refresh(scene.bench, scene.catalogue.disks.find(disk.uuid), scene.store(disk), wary=True) == (4, 0)
    scene.assert_true(disk)
    assert scene.store(disk).bad.keys() == {bad}
    assert not scene.catalogue.disks.find(disk.uuid).clean
    scene.back_up(disk)
    assert_accounted(scene, disk)


def test_what_a_refresh_believes_is_flushed(scene: Scene, disk: BackupDisk) -> None:
    store = scene.store(disk)
    store.objects_[sha256("put there")] = b"put there"
    assert refresh(scene.bench, disk, store) == (1, 0)
    store.power_cut()
    scene.assert_true(disk)


def test_a_removal_that_would_take_the_last_copy_meanwhile_is_not_carried_out(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.set(b"/file", maxcopies=1)
    fill(scene, 4)
    other = scene.add_disk("two")
    scene.back_up(disk)
    scene.set(b"/file", maxcopies=2)
    scene.scan()
    scene.back_up(other)
    scene.set(b"/file", maxcopies=1)
    scene.scan()
    store = scene.store(disk)
    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", lambda _digests: store.kill())
        with pytest.raises(Killed):
            scene.back_up(disk)
    store.after_kill()
    assert len(scene.catalogue.objects.pending_removals(disk.id)) == 4
    scene.catalogue.disks.drop(other.id)
    for path in (scene.real / "file").iterdir():
        os.utime(path, (1, 1))  # nobody can read these any more as they were
        path.chmod(0)
    scene.back_up(disk)
    assert len(scene.held(disk)) == 4
    assert_accounted(scene, disk)


def test_a_dropped_disk_that_comes_back_is_accounted_for(scene: Scene, disk: BackupDisk) -> None:
    fill(scene, 8)
    scene.back_up(disk)
    scene.catalogue.disks.drop(disk.id)
    empty(scene, "file")
    scene.back_up(disk)
    assert_accounted(scene, disk)
    assert len(scene.held(disk)) == 8
    scene.clock.pass_time(40 * 86400)
    scene.back_up(disk)
    assert_accounted(scene, disk)
    assert scene.held(disk) == {}


def test_strays_without_a_place_leave_if_another_disk_holds_them_and_what_only_lies_here_stays(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(scene, 8)
    other = scene.add_disk("two")
    killed_before(scene, disk, monkeypatch, "record_copies")
    scene.back_up(other, policy=Policy(copy_limit=60))
    elsewhere = scene.held(other).keys()
    assert 0 < len(elsewhere) < 8
    scene.catalogue.disks.update(replace(scene.catalogue.disks.find(disk.uuid), capacity=3 * BLOCK))
    scene.back_up(disk, policy=Policy(copy_limit=0))
    assert_accounted(scene, disk)
    assert scene.held(disk).keys() == {sha256(f"content of file {number}") for number in range(8)} - elsewhere
    assert "that its size has no place for; other disks hold them" in scene.reporter.sentences()


def test_what_a_clean_disk_holds_and_nobody_recorded_is_found_by_the_next_listing(scene: Scene, disk: BackupDisk) -> None:
    fill(scene, 3)
    scene.back_up(disk)
    store = scene.store(disk)
    store.objects_[sha256("of nobody")] = b"of nobody"
    store.objects_[sha256("damaged")] = b"DAMAGED"
    scene.back_up(disk)
    assert_accounted(scene, disk)
    assert sha256("of nobody") in scene.held(disk)
    assert store.bad == {sha256("damaged"): b"DAMAGED"}
    assert "1 file that was never recorded is damaged" in scene.reporter.sentences()


# --- any faults in any order -----------------------------------------------------------------------------------------

_FAULTS = st.sampled_from(["none", "gone", "cut", "killed", "killed and cut", "lost writes", "killed at the catalogue"])
_STEPS = st.lists(
    st.tuples(st.sampled_from(["new", "delete", "nothing"]), st.sampled_from(["one", "two"]), _FAULTS, st.integers(1, 40)),
    min_size=2,
    max_size=7,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_whatever_faults_come_in_whatever_order_nothing_is_lost_and_all_is_accounted_for(
    steps: list[tuple[str, str, str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "BATCH_OBJECTS", 4)
    monkeypatch.setattr(execution, "_TASK_OBJECTS", 2)
    monkeypatch.setattr(clearing, "_BATCH_OBJECTS", 3)
    with TemporaryDirectory() as place, scene_at(Path(place)) as scene:
        fill(scene, 6, "first")
        disks = {
            "one": scene.add_disk("one", FakeDiskStore(8 * BLOCK), capacity=8 * BLOCK),
            "two": scene.add_disk("two", FakeDiskStore(6 * BLOCK), capacity=6 * BLOCK),
        }
        for number, (change, name, fault, when) in enumerate(steps):
            if change == "new":
                fill(scene, 3, f"new{number}")
            elif change == "delete":
                next(path for path in sorted(scene.real.rglob("*")) if path.is_file()).unlink(missing_ok=True)
                scene.scan()
            recorded = _living(scene) & _all_held(scene)
            _session_with(scene, disks[name], fault, when, monkeypatch)
            assert recorded <= _all_held(scene)
            for disk in disks.values():
                _assert_true_on_disk(scene, disk)
        for disk in disks.values():
            scene.back_up(disk, policy=NO_GRACE)
            scene.store(disk).lose_memory()
            assert_accounted(scene, disk)
            assert len(scene.held(disk)) <= (8 if disk.name == "one" else 6)
            assert scene.store(disk).hollow == set()


def _session_with(scene: Scene, disk: BackupDisk, fault: str, when: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = scene.store(disk)
    with monkeypatch.context() as patch:
        if fault in ("gone", "cut"):
            store.fail_at = store.operations + when
        elif fault == "lost writes":
            store.lose_writes_at = store.operations + when
        elif fault.startswith("killed") and fault != "killed at the catalogue":
            store.kill_at = store.operations + when
        elif fault == "killed at the catalogue":
            what = ("record_copies", "record_removals", "removals_done", "take_over")[when % 4]
            patch.setattr(scene.catalogue.objects, what, lambda *_words: store.kill())
        with contextlib.suppress(DiskTrouble, Killed):
            scene.back_up(disk, policy=NO_GRACE)
    store.mend()
    store.lose_writes_at = None
    store.after_kill()
    if fault.endswith("cut"):
        store.power_cut()


def _living(scene: Scene) -> set[bytes]:
    return {entry.digest for entry in scene.catalogue.files.restore_entries(b"/") if entry.digest}


def _all_held(scene: Scene) -> set[bytes]:
    return {digest for disk in scene.catalogue.disks.all() for digest in scene.held(disk)}


def _assert_true_on_disk(scene: Scene, disk: BackupDisk) -> None:
    """What is recorded is whole, as the disk itself gives it back."""
    store = scene.store(disk)
    for digest, size in scene.held(disk).items():
        assert store.check(digest, size, NEVER).problem == ""
