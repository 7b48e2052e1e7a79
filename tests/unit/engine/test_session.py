"""Whole sessions: everything lands; whatever fails, the catalogue says no more than the disk holds, and the next goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.engine import execution, session
from distbackupd.engine.cycle import as_plugged, plan_session
from distbackupd.engine.session import back_up_volume
from distbackupd.engine.verification import VerificationOptions
from distbackupd.model.disks import BackupDisk, DiskIdentity, footprint
from distbackupd.model.errors import DiskFull, DiskGone, DiskNotOurs, DiskReadOnly, DiskTrouble, Interrupted
from distbackupd.model.events import (
    DiskRefused,
    MayUnplug,
    Remark,
    SessionFailed,
    SessionFinished,
    SessionInterrupted,
    SourceRotted,
)
from distbackupd.model.plans import Policy, Reason
from distbackupd.store.folder_store import FolderStore
from tests.fakes.disk_store import TABLES, FakeDiskStore
from tests.fakes.stopping import StopWhen
from tests.unit.engine.scenes import NEVER, Scene, scene_at, sha256

BLOCK = footprint(1)
"""What a small object takes."""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "BATCH_OBJECTS", 4)
    monkeypatch.setattr(execution, "_TASK_OBJECTS", 2)


def fill(scene: Scene, count: int, prefix: str = "file") -> None:
    for number in range(count):
        scene.write(f"{number % 3}/{prefix}{number}", f"content of {prefix} {number}")
    scene.scan()


def folder_disk(scene: Scene, name: str, **values: Any) -> BackupDisk:
    root = scene.place / "disks" / name
    root.mkdir(parents=True, exist_ok=True)
    return scene.add_disk(name, FolderStore(os.fsencode(root), "ext4"), **values)


# --- the straight way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fake", "folder"])
def test_run_session_every_object_lands_under_its_name(scene: Scene, kind: str) -> None:
    fill(scene, 30)
    scene.write("large", os.urandom(3 << 20))
    scene.write("same as another", "content of file 7")
    scene.write("empty").write_bytes(b"")
    scene.scan()
    disk = folder_disk(scene, "one") if kind == "folder" else scene.add_disk("one")
    finished = scene.back_up(disk)
    scene.assert_complete(disk)
    assert (finished.copied_objects, finished.unplaced_objects, finished.skipped) == (31, 0, 0)
    assert finished.copied_bytes == sum(scene.held(disk).values())
    assert scene.catalogue.disks.find("one").clean


def test_run_session_again_does_nothing_and_leaves_the_disk_alone(scene: Scene) -> None:
    fill(scene, 10)
    disk = scene.add_disk("one")
    scene.back_up(disk)
    saved, scene.store(disk).catalogue = scene.store(disk).catalogue, b"untouched"
    finished = scene.back_up(disk)
    assert (finished.copied_objects, finished.deleted_objects) == (0, 0)
    assert scene.store(disk).catalogue == b"untouched"
    assert len(saved) > 10_000
    assert "nothing to do" in finished.sentence


def test_run_session_saves_a_catalogue_that_knows_what_the_disk_holds(scene: Scene, tmp_path: Path) -> None:
    fill(scene, 5)
    disk = scene.add_disk("one")
    scene.back_up(disk)
    (tmp_path / "taken back").mkdir()
    (tmp_path / "taken back" / "distbackup.sqlite").write_bytes(scene.store(disk).catalogue)
    with open_catalogue(tmp_path / "taken back", read_only=True) as copy:
        assert copy.disks.used(disk.id)[0] == 5


def test_run_session_deleted_files_leave_after_their_grace(scene: Scene) -> None:
    fill(scene, 6)
    disk = scene.add_disk("one")
    scene.back_up(disk)
    (scene.real / "0" / "file0").unlink()
    scene.scan()
    policy = Policy(grace=1000)
    assert scene.back_up(disk, policy=policy).deleted_objects == 0
    scene.clock.pass_time(1000)
    finished = scene.back_up(disk, policy=policy)
    assert (finished.deleted_objects, finished.deleted_bytes) == (1, len("content of file 0"))
    scene.assert_complete(disk)


def test_run_session_two_disks_share_what_does_not_fit_on_one(scene: Scene) -> None:
    fill(scene, 20)
    one, two = (scene.add_disk(name, FakeDiskStore(12 * BLOCK), capacity=12 * BLOCK) for name in ("one", "two"))
    finished = scene.back_up(one)
    assert (finished.copied_objects, finished.unplaced_objects) == (12, 8)
    finished = scene.back_up(two)
    assert finished.copied_objects == 12
    assert len(scene.held(one).keys() | scene.held(two).keys()) == 20
    for disk in (one, two):
        scene.assert_true(disk)
    assert scene.back_up(one).copied_objects == 0


def test_run_session_victims_leave_only_for_what_is_worse_protected(scene: Scene) -> None:
    fill(scene, 8)
    one, two = (scene.add_disk(name, FakeDiskStore(8 * BLOCK), capacity=8 * BLOCK) for name in ("one", "two"))
    scene.back_up(one)
    scene.back_up(two)
    fill(scene, 4, "new")
    finished = scene.back_up(one)
    assert (finished.copied_objects, finished.deleted_objects) == (4, 4)
    assert len(scene.held(one).keys() | scene.held(two).keys()) == 12
    scene.assert_true(one)
    assert scene.store(one).unfinished == {}


def test_run_session_tells_history(scene: Scene) -> None:
    fill(scene, 3)
    disk = scene.add_disk("one")
    scene.back_up(disk)
    (summary,) = scene.catalogue.sessions.recent(9)
    assert (summary.disk_name, summary.outcome, summary.copied_objects) == ("one", "finished", 3)
    assert summary.sentence == scene.reporter.told(SessionFinished)[0].sentence


def test_plan_session_without_the_disk_tells_what_would_be_done(scene: Scene) -> None:
    fill(scene, 3)
    disk = scene.add_disk("one")
    generation = scene.catalogue.generation()
    plan = plan_session(scene.bench, disk, Policy())
    assert [copy.reason for copy in plan.copies] == [Reason.FIRST_COPY] * 3
    assert scene.catalogue.generation() == generation
    assert plan == plan_session(scene.bench, as_plugged(disk, scene.store(disk)), Policy())


# --- sources that change under the copy ------------------------------------------------------------------------------


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("change", ["content", "grows", "vanishes", "while it is copied"])
def test_run_session_source_that_changed_is_skipped_and_its_victim_stays(scene: Scene, change: str, tight: bool) -> None:
    fill(scene, 4)
    one, two = (scene.add_disk(name, FakeDiskStore(4 * BLOCK), capacity=4 * BLOCK) for name in ("one", "two"))
    scene.back_up(one)
    scene.back_up(two)
    path = scene.write("newcomer", "of some length")
    scene.scan()
    before = scene.held(one)
    if tight:
        # Not even one copy fits beside what is there.
        scene.store(one).others = 2 * TABLES
    if change == "content":
        state = path.stat()
        path.write_bytes(b"OF SOME LENGTH")
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif change == "grows":
        path.write_bytes(b"of some more length")
    elif change == "vanishes":
        path.unlink()
    else:
        scene.tree.after_open = lambda _path: path.write_bytes(b"of any other length")
    finished = scene.back_up(one)
    assert (finished.copied_objects, finished.deleted_objects, finished.skipped) == (0, 0, 1)
    assert scene.held(one) == before
    assert scene.store(one).unfinished == {}
    assert "/newcomer: skipped" in scene.reporter.sentences()
    assert scene.reporter.told(SourceRotted) == []
    if change == "content":
        assert scene.scan().changed == 1
        assert scene.back_up(one).copied_objects == 1
        assert sha256("OF SOME LENGTH") in scene.held(one)
    scene.assert_true(one)


@pytest.mark.parametrize("tight", [False, True])
def test_run_session_source_that_rotted_is_told_once_and_its_victim_stays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tight: bool
) -> None:
    fill(scene, 4)
    one, two = (scene.add_disk(name, FakeDiskStore(4 * BLOCK), capacity=4 * BLOCK) for name in ("one", "two"))
    scene.back_up(one)
    scene.back_up(two)
    scene.write("newcomer", "of some length")
    scene.scan()
    before = scene.held(one)
    if tight:
        # Not even one copy fits beside what is there.
        scene.store(one).others = 2 * TABLES
    scene.rot("newcomer", "OF SOME LENGTH")
    finished = scene.back_up(one)
    assert (finished.copied_objects, finished.deleted_objects, finished.skipped) == (0, 0, 1)
    assert scene.held(one) == before
    assert "/newcomer: its content changed, but not its size and time" in scene.reporter.sentences()
    assert (scene.back_up(one).skipped, len(scene.reporter.told(SourceRotted))) == (0, 1), "told once, not tried again"
    scene.assert_true(one)


def test_run_session_disk_with_no_room_beside_makes_room_first(scene: Scene) -> None:
    fill(scene, 4)
    one, two = (scene.add_disk(name, FakeDiskStore(4 * BLOCK), capacity=4 * BLOCK) for name in ("one", "two"))
    scene.back_up(one)
    scene.back_up(two)
    fill(scene, 2, "new")
    scene.store(one).others = 2 * TABLES
    scene.store(one).slack = 0
    finished = scene.back_up(one)
    assert (finished.copied_objects, finished.deleted_objects) == (2, 2)
    scene.assert_true(one)
    assert len(scene.held(one)) == 4


def test_run_session_one_good_name_of_several_is_enough(scene: Scene) -> None:
    first = scene.write("a", "same")
    scene.write("b", "same")
    scene.scan()
    first.unlink()
    disk = scene.add_disk("one")
    finished = scene.back_up(disk)
    assert (finished.copied_objects, finished.skipped) == (1, 0)


def test_run_session_content_whose_last_file_went_is_no_trouble(scene: Scene) -> None:
    """Only a whole scan makes orphans; a session between it and a touched folder finds nothing to copy."""
    path = scene.write("a/gone")
    scene.write("b")
    scene.scan()
    path.unlink()
    scene.scan(folders=[os.fsencode(path.parent)])
    disk = scene.add_disk("one")
    finished = scene.back_up(disk)
    assert (finished.copied_objects, finished.skipped) == (1, 0)
    assert scene.held(disk).keys() == {sha256("b")}


# --- disks that fail -------------------------------------------------------------------------------------------------


def _prepare_a_session_that_does_everything(scene: Scene) -> tuple[BackupDisk, BackupDisk]:
    """Two full disks; then files came, went and lost their grace: the next session on the first deletes and makes room."""
    fill(scene, 10)
    one, two = (scene.add_disk(name, FakeDiskStore(10 * BLOCK), capacity=10 * BLOCK) for name in ("one", "two"))
    scene.back_up(one)
    scene.back_up(two)
    for number in range(2):
        (scene.real / f"{number}" / f"file{number}").unlink()
    fill(scene, 6, "new")
    return one, two


POLICY = Policy(grace=0)


def _operations_of_that_session(tmp_path: Path) -> int:
    with scene_at(tmp_path) as scene:
        one, _ = _prepare_a_session_that_does_everything(scene)
        before = scene.store(one).operations
        finished = scene.back_up(one, policy=POLICY, share=1)
        assert (finished.copied_objects, finished.deleted_objects) == (6, 6)
        scene.assert_true(one)
        return int(scene.store(one).operations - before)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("power_cut", [False, True], ids=["gone", "power cut"])
def test_run_session_disk_that_fails_at_any_operation_loses_nothing_and_the_next_session_completes(
    tmp_path: Path, power_cut: bool
) -> None:
    operations = _operations_of_that_session(tmp_path / "count")
    assert operations > 20
    for number in range(1, operations + 1):
        place = tmp_path / str(number)
        with scene_at(place) as scene:
            one, two = _prepare_a_session_that_does_everything(scene)
            living = {entry.digest for entry in scene.catalogue.files.restore_entries(b"/") if entry.digest}
            protected = living & (scene.held(one).keys() | scene.held(two).keys())
            store = scene.store(one)
            store.fail_at = store.operations + number
            with pytest.raises(DiskTrouble):
                scene.back_up(one, policy=POLICY, share=1)
            store.mend()
            if power_cut:
                store.power_cut()
            scene.assert_true(one)
            assert protected <= scene.held(one).keys() | scene.held(two).keys()
            last = scene.catalogue.sessions.recent(1)[0]
            assert last.outcome in ("failed", "finished")

            scene.back_up(one, policy=POLICY)
            scene.assert_true(one)
            assert living <= scene.held(one).keys() | scene.held(two).keys()
            assert scene.held(one) == dict(store.objects())
            assert store.unfinished == {}
            assert scene.catalogue.objects.pending_removals(one.id) == []
            assert len(scene.held(one)) <= 10
            assert scene.back_up(one, policy=POLICY).copied_objects == 0


@pytest.mark.usefixtures("small_batches")
def test_run_session_disk_full_half_way_keeps_what_lies_complete_and_ends_well(scene: Scene) -> None:
    fill(scene, 20)
    store = FakeDiskStore(9 * BLOCK)
    store.slack = 0
    disk = scene.add_disk("one", store)
    finished = scene.back_up(disk)
    scene.assert_true(disk)
    assert (len(scene.held(disk)), finished.copied_objects, finished.unplaced_objects) == (9, 9, 11)
    assert store.unfinished == {}
    assert store.catalogue is not None
    assert "is full before its figures said so; what was copied is kept, 11 objects are left" in scene.reporter.sentences()
    assert scene.catalogue.disks.find("one").capacity == disk.capacity
    store.room = 100 * BLOCK
    scene.back_up(disk)
    scene.assert_complete(disk)


def test_run_session_disk_that_is_not_ours_is_told_and_not_touched(scene: Scene) -> None:
    fill(scene, 2)
    disk = scene.add_disk("one")
    store = scene.store(disk)
    for identity in (None, DiskIdentity("11111111-0000-4000-8000-000000000001", "one")):
        store.who = identity
        before = store.operations
        with pytest.raises(DiskNotOurs):
            scene.back_up(disk)
        assert store.operations == before
    assert len(scene.reporter.told(DiskRefused)) == 2
    assert scene.catalogue.sessions.recent(9) == []


def test_run_session_read_only_disk_is_told_and_nothing_recorded(scene: Scene) -> None:
    fill(scene, 2)
    disk = scene.add_disk("one")
    scene.store(disk).read_only = True
    with pytest.raises(DiskReadOnly):
        scene.back_up(disk)
    assert scene.held(disk) == {}


def test_run_session_what_a_damaged_disk_cannot_keep_is_not_counted_and_goes_elsewhere(scene: Scene) -> None:
    fill(scene, 6)
    one, two = scene.add_disk("one"), scene.add_disk("two")
    bad = {sha256("content of file 2"), sha256("content of file 3")}
    scene.store(one).damaged = bad
    finished = scene.back_up(one)
    assert finished.copied_objects == 4
    assert not bad & scene.held(one).keys()
    scene.assert_true(one)
    assert len([event for event in scene.reporter.told(Remark) if "file system is damaged" in event.sentence]) == 1
    scene.back_up(two, policy=Policy(copies_limit=1))
    assert scene.held(two).keys() == bad
    scene.store(one).damaged = set()
    scene.back_up(one)
    scene.assert_complete(one)


def test_run_session_renamed_disk_gets_its_new_name(scene: Scene) -> None:
    disk = scene.add_disk("one")
    scene.store(disk).who = DiskIdentity(disk.uuid, "old name")
    scene.back_up(disk)
    assert scene.store(disk).who == DiskIdentity(disk.uuid, "one")


# --- sessions that are stopped or killed -----------------------------------------------------------------------------


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("copies", [0, 1, 7, 19])
def test_run_session_stopped_records_what_is_finished_and_copies_nothing_twice(scene: Scene, copies: int) -> None:
    fill(scene, 20)
    disk = scene.add_disk("one")
    with pytest.raises(Interrupted):
        scene.back_up(disk, StopWhen(lambda: len(scene.tree.opened) >= copies))
    scene.assert_true(disk)
    held = scene.held(disk)
    (interrupted,) = scene.reporter.told(SessionInterrupted)
    assert interrupted.copied_objects == len(held)
    assert scene.catalogue.sessions.recent(1)[0].outcome == "interrupted"
    scene.tree.opened.clear()
    scene.back_up(disk)
    scene.assert_complete(disk)
    assert len(scene.tree.opened) == 20 - len(held)


def test_run_session_stopped_in_its_last_batch_is_interrupted(scene: Scene) -> None:
    disk = scene.add_disk("one")
    # What is verified once a day, and would look at the stop, is done for today.
    scene.back_up(disk)
    fill(scene, 1)
    scene.tree.opened.clear()
    with pytest.raises(Interrupted):
        scene.back_up(disk, StopWhen(lambda: bool(scene.tree.opened)))
    assert len(scene.reporter.told(SessionInterrupted)) == 1


_KILLED = """
import os, signal, sys
from pathlib import Path
from distbackupd.engine import execution
from distbackupd.store.folder_store import FolderStore
from tests.unit.engine.scenes import scene_at
execution.BATCH_OBJECTS, execution._TASK_OBJECTS = 8, 2
place, moment, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
calls = 0
def die_in_time():
    global calls
    calls += 1
    if calls >= number:
        os.kill(os.getpid(), signal.SIGKILL)
with scene_at(place) as scene:
    class Store(FolderStore):
        def stage(self, *words):
            copy = super().stage(*words)
            if moment == "stage":
                die_in_time()
            return copy
        def commit(self, staged):
            if moment == "before commit":
                die_in_time()
            unplaced = super().commit(staged)
            if moment == "after commit":
                die_in_time()
            return unplaced
    (disk,) = scene.catalogue.disks.all()
    scene.stores[disk.last_path] = Store(disk.last_path, "ext4")
    scene.back_up(disk)
"""


@pytest.mark.parametrize(
    ("moment", "number"), [("stage", 1), ("stage", 21), ("before commit", 2), ("after commit", 1), ("after commit", 3)]
)
def test_run_session_killed_leaves_the_catalogue_behind_the_disk_and_the_next_takes_copies_over(
    tmp_path: Path, moment: str, number: int
) -> None:
    with scene_at(tmp_path) as scene:
        fill(scene, 40)
        disk = folder_disk(scene, "one")
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), moment, str(number)], cwd=root, check=False)
    assert killed.returncode == -9
    with scene_at(tmp_path) as scene:
        store = FolderStore(disk.last_path, "ext4")
        store.prepare()
        scene.stores[disk.last_path] = store
        scene.assert_true(disk)
        assert not scene.catalogue.disks.find("one").clean
        left = (tmp_path / "disks" / "one" / "distbackup-tmp").iterdir()
        whole = [path for path in left if sha256(path.read_bytes()).hex() == path.name]
        placed = len(list(store.objects()))
        assert len(whole) + placed > 0
        scene.back_up(disk)
        scene.assert_complete(disk)
        assert len(scene.tree.opened) == 40 - len(whole) - placed
        assert scene.catalogue.disks.find("one").clean


def test_run_session_leftovers_that_would_overfill_the_disk_are_not_taken_over(scene: Scene) -> None:
    """What was staged beside its victims, when the program died before they left."""
    fill(scene, 4)
    one, two = (scene.add_disk(name, FakeDiskStore(4 * BLOCK), capacity=4 * BLOCK) for name in ("one", "two"))
    scene.back_up(one)
    scene.back_up(two)
    fill(scene, 2, "new")
    store = scene.store(one)
    store.unfinished = {sha256(text): text.encode() for text in ("content of new 0", "content of new 1")}
    scene.catalogue.disks.update(replace(scene.catalogue.disks.find("one"), clean=False))
    scene.back_up(one)
    assert scene.catalogue.disks.used(one.id)[1] <= one.capacity
    assert {sha256("content of new 0"), sha256("content of new 1")} <= scene.held(one).keys()
    scene.assert_true(one)
    assert store.unfinished == {}


# --- from plug to unplug ---------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(scene: Scene) -> Any:
    """A volume of the fake mounter with a disk enrolled on it."""
    volume = scene.mounter.new_disk()
    root = os.fsencode(scene.place / "shelf" / "mnt" / "one")
    disk = scene.add_disk("one")
    disk = replace(disk, filesystem_uuid=volume.filesystem_uuid)
    scene.catalogue.disks.update(disk)
    store = scene.store(disk)
    scene.stores = {root: store}
    return volume


def options() -> session.SessionOptions:
    return session.SessionOptions(Policy(), VerificationOptions(share=0.5))


def test_back_up_volume_mounts_backs_up_unmounts_and_says_so(scene: Scene, shelf: Any) -> None:
    fill(scene, 3)
    assert back_up_volume(scene.bench, shelf, options(), NEVER)
    assert scene.mounter.log == ["mount one", "unmount one"]
    assert [type(event) for event in scene.reporter.events][-2:] == [SessionFinished, MayUnplug]


def test_back_up_volume_unknown_one_is_not_even_mounted(scene: Scene) -> None:
    assert not back_up_volume(scene.bench, scene.mounter.new_disk(), options(), NEVER)
    assert scene.mounter.log == []
    assert scene.reporter.events == []


def test_back_up_volume_clone_is_not_mounted(scene: Scene, shelf: Any) -> None:
    scene.mounter.new_disk(filesystem_uuid=shelf.filesystem_uuid)
    with pytest.raises(DiskTrouble):
        back_up_volume(scene.bench, shelf, options(), NEVER)
    assert scene.mounter.log == []
    assert len(scene.reporter.told(DiskRefused)) == 1


def test_back_up_volume_that_stays_busy_may_not_be_unplugged(scene: Scene, shelf: Any) -> None:
    scene.mounter.keep_busy(shelf, "a file manager")
    with pytest.raises(DiskTrouble):
        back_up_volume(scene.bench, shelf, options(), NEVER)
    assert scene.reporter.told(MayUnplug) == []
    assert "a file manager" in scene.reporter.told(SessionFailed)[0].sentence


def test_back_up_volume_stopped_is_unmounted_too(scene: Scene, shelf: Any) -> None:
    fill(scene, 3)
    with pytest.raises(Interrupted):
        back_up_volume(scene.bench, shelf, options(), StopWhen(lambda: True))
    assert scene.mounter.log == ["mount one", "unmount one"]


def test_back_up_volume_that_dies_is_told_once(scene: Scene, shelf: Any) -> None:
    fill(scene, 3)
    (store,) = scene.stores.values()
    store.fail_at = store.operations + 3  # type: ignore[attr-defined]
    with pytest.raises(DiskGone):
        back_up_volume(scene.bench, shelf, options(), NEVER)
    assert len(scene.reporter.told(SessionFailed)) == 1
    assert scene.reporter.told(MayUnplug) == []


# --- full disks ------------------------------------------------------------------------------------------------------


class FullWhenFlushed(FakeDiskStore):
    """Says once that it is full when it is flushed after removals, as some file systems do."""

    to_say: bool | None = False

    def remove(self, digests: Iterable[bytes]) -> None:
        removed = list(digests)
        super().remove(removed)
        self.to_say = bool(removed) and self.to_say is not None

    def flush(self) -> None:
        if self.to_say:
            self.to_say = None
            raise DiskFull("the disk is full, fuller than expected; what was copied is recorded")
        super().flush()


def test_run_session_that_meets_a_full_disk_anywhere_saves_the_catalogue_all_the_same(scene: Scene) -> None:
    scene.write("goes")
    scene.scan()
    disk = scene.add_disk("one", FullWhenFlushed())
    scene.back_up(disk)
    saved = scene.store(disk).catalogue
    (scene.real / "goes").unlink()
    scene.write("comes")
    scene.scan()
    with pytest.raises(DiskFull):
        scene.back_up(disk, policy=Policy(grace=0))
    assert scene.store(disk).catalogue not in (None, saved)
    assert not scene.catalogue.disks.find("one").clean
    scene.back_up(disk, policy=Policy(grace=0))
    scene.assert_complete(disk)


def test_run_session_puts_the_catalogues_copy_back_where_there_is_none_any_more(scene: Scene) -> None:
    disk = scene.add_disk("one")
    scene.back_up(disk)
    scene.store(disk).catalogue = None
    scene.back_up(disk)
    assert scene.store(disk).catalogue


def test_run_session_without_room_for_the_copy_says_whether_an_older_one_is_left(scene: Scene) -> None:
    class NoRoom(FakeDiskStore):
        def save_catalogue(self, *_words: object, **_more: object) -> bytes:
            raise DiskFull("full")

    disk = scene.add_disk("one", NoRoom())
    scene.back_up(disk)
    scene.store(disk).catalogue = b"old"
    scene.back_up(disk)
    told = [remark.sentence for remark in scene.reporter.told(Remark) if "no room for the catalogue" in remark.sentence]
    assert ["the disk has none now" in sentence for sentence in told] == [True, False]
    assert "it was left as it was" in told[1]
