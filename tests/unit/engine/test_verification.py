"""Re-reading copies: what is bad is found, told, struck and out of the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine import verification
from distbackupd.engine.mending import mend_disk
from distbackupd.engine.verification import Checks, Verification, VerificationOptions, checks_of, verify_share, verify_whole
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DiskGone, Interrupted
from distbackupd.model.events import BadCopyFound, ContentLost, CopiesMended, Remark
from distbackupd.model.plans import Policy
from distbackupd.store.folder_store import FolderStore
from tests.fakes.stopping import StopWhen
from tests.unit.engine.scenes import NEVER, Scene, scene_at, sha256


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        for number in range(60):
            opened.write(f"file{number}", f"content {number}")
        opened.scan()
        yield opened


@pytest.fixture
def disk(scene: Scene) -> BackupDisk:
    """A real store in a folder, with a copy of everything."""
    root = scene.place / "disks" / "one"
    root.mkdir(parents=True)
    added = scene.add_disk("one", FolderStore(os.fsencode(root), "ext4"))
    scene.back_up(added)
    return added


def verify(scene: Scene, disk: BackupDisk, stop: Any = NEVER, **options: Any) -> verification.Verification:
    scene.clock.pass_time(100)
    return verify_share(scene.bench, disk, scene.store(disk), VerificationOptions(**options), stop)


def copy_of(scene: Scene, text: str) -> Path:
    name = sha256(text).hex()
    return scene.place / "disks" / "one" / "distbackup-objects" / name[:3] / name


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    os.truncate(path, 4)


def _replace_by_a_link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


HARMS = [
    (_flip_a_bit, "its content does not match its name"),
    (_truncate, "it has 4 bytes instead of 9"),
    (Path.unlink, "it is missing"),
]


def test_verify_share_good_copies_are_read_and_noted(scene: Scene, disk: BackupDisk) -> None:
    done = verify(scene, disk)
    assert (done.objects, done.bad) == (60, [])
    assert done.read_bytes == sum(scene.held(disk).values())
    verified_at = scene.catalogue.disks.verified_at(disk.id)
    assert (set(verified_at), set(verified_at.values())) == (set(range(4096)), {scene.clock.now()})


@pytest.mark.parametrize(("harm", "problem"), HARMS, ids=["flipped bit", "truncated", "missing"])
@pytest.mark.parametrize("delete", [False, True])
def test_verify_share_bad_copy_is_told_struck_and_copied_again(
    scene: Scene, disk: BackupDisk, harm: Callable[[Path], None], problem: str, delete: bool
) -> None:
    path = copy_of(scene, "content 7")
    harm(path)
    done = verify(scene, disk, delete=delete)
    assert done.objects == 60
    ((verdict, name),) = done.bad
    assert (verdict.digest, verdict.problem, name) == (sha256("content 7"), problem, b"/file7")
    (told,) = scene.reporter.told(BadCopyFound)
    assert "one: bad copy of" in told.sentence
    assert "/file7" in told.sentence
    assert len(scene.held(disk)) == 59
    assert not path.exists()
    aside = scene.place / "disks" / "one" / "bad-objects" / path.name
    assert aside.exists() == (not delete and harm is not Path.unlink)
    assert scene.back_up(disk).copied_objects == 1
    assert verify(scene, disk).bad == []
    scene.assert_complete(disk)


def test_verify_share_several_bad_copies_are_all_found(scene: Scene, disk: BackupDisk) -> None:
    for number in (1, 5, 9, 33):
        _flip_a_bit(copy_of(scene, f"content {number}"))
    assert len(verify(scene, disk).bad) == 4
    assert len(scene.held(disk)) == 56


def test_verify_share_link_in_a_copys_place_is_no_good_copy(scene: Scene, disk: BackupDisk) -> None:
    _replace_by_a_link(copy_of(scene, "content 7"))
    done = verify(scene, disk)
    assert done.objects == 60
    assert [verdict.problem for verdict, _ in done.bad] == ["it cannot be read: a symbolic link stands in its place"]
    assert len(scene.held(disk)) == 59


def test_verify_share_without_striking_changes_nothing(scene: Scene, disk: BackupDisk) -> None:
    _flip_a_bit(copy_of(scene, "content 7"))
    generation = scene.catalogue.generation()
    assert len(verify(scene, disk, strike=False).bad) == 1
    assert len(scene.held(disk)) == 60
    assert copy_of(scene, "content 7").exists()
    assert scene.catalogue.generation() == generation
    assert scene.catalogue.disks.verified_at(disk.id) == {}


def test_verify_share_goes_on_where_the_last_one_stopped(scene: Scene, disk: BackupDisk) -> None:
    seen = 0
    for _ in range(4):
        done = verify(scene, disk, share=0.25)
        assert 10 <= done.objects <= 22
        seen += done.objects
    assert seen >= 60
    assert len(scene.catalogue.disks.verified_at(disk.id)) >= 4096 * 3 // 4
    times = scene.catalogue.disks.verified_at(disk.id)
    verify(scene, disk, share=0.1)
    again = scene.catalogue.disks.verified_at(disk.id)
    oldest = min(times.values())
    assert all(times[folder] == oldest for folder in again if folder in times and again[folder] != times[folder])


@pytest.mark.parametrize("options", [{"share": 0}, {"seconds": 0}])
def test_verify_share_of_nothing_reads_nothing(scene: Scene, disk: BackupDisk, options: dict[str, float]) -> None:
    assert verify(scene, disk, **options).objects == 0


def test_verify_share_time_that_is_up_ends_it(scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_BATCH_OBJECTS", 5)
    store = scene.store(disk)
    check = store.check

    def slow(*words: Any) -> Any:
        scene.clock.pass_time(1)
        return check(*words)

    store.check = slow
    assert 5 <= verify(scene, disk, seconds=7).objects <= 15


def test_verify_share_start_skips_what_is_before_it(scene: Scene, disk: BackupDisk) -> None:
    digests = sorted(scene.held(disk))
    start = digests[30].hex()[:6]
    done = verify(scene, disk, start=start)
    assert done.objects == 30
    noted = scene.catalogue.disks.verified_at(disk.id)
    assert min(noted) == int(start[:3], 16) + 1, "a folder that was begun in its middle is not verified whole"
    verify(scene, disk, start="f")
    assert scene.catalogue.disks.verified_at(disk.id)[0xF00] == scene.clock.now()


def test_verify_share_stopped_notes_what_was_verified(
    scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_BATCH_OBJECTS", 5)
    monkeypatch.setattr(verification, "_TASK_OBJECTS", 1)
    store = scene.store(disk)
    read: list[bytes] = []
    check = store.check

    def counted(digest: bytes, *words: Any) -> Any:
        read.append(digest)
        return check(digest, *words)

    store.check = counted
    with pytest.raises(Interrupted):
        verify(scene, disk, stop=StopWhen(lambda: len(read) >= 20))
    noted = scene.catalogue.disks.verified_at(disk.id)
    assert 0 < len(noted) < 4096
    before = set(read)
    read.clear()
    assert verify(scene, disk, share=0.5).bad == []
    assert len(before & set(read)) <= 10, "it goes on behind what was verified"


def test_verify_share_disk_that_goes_away_strikes_nothing(scene: Scene) -> None:
    disk = scene.add_disk("fake")
    scene.back_up(disk)
    store = scene.store(disk)
    store.fail_at = store.operations
    with pytest.raises(DiskGone):
        verify(scene, disk)
    assert len(scene.held(disk)) == 60


def test_verify_share_what_is_wrong_only_once_is_a_good_copy(scene: Scene, disk: BackupDisk) -> None:
    store = scene.store(disk)
    check, seen = store.check, set[bytes]()

    def flaky(digest: bytes, size: int, pulse: Any) -> Any:
        verdict = check(digest, size, pulse)
        if digest in seen or digest[0] >= 128:
            return verdict
        seen.add(digest)
        return verdict._replace(problem="its content does not match its name")

    store.check = flaky
    done = verify(scene, disk)
    assert (done.bad, done.doubtful, done.objects) == ([], len(seen), 60)
    assert len(scene.held(disk)) == 60
    (told,) = scene.reporter.told(Remark)
    assert f"one: {len(seen)} copies were read wrong at first and right the second time" in told.sentence


def test_verify_share_says_who_has_another_copy(scene: Scene, disk: BackupDisk) -> None:
    _flip_a_bit(copy_of(scene, "content 7"))
    verify(scene, disk, strike=False)
    scene.back_up(scene.add_disk("two"))
    verify(scene, disk)
    only, other = scene.reporter.told(BadCopyFound)
    assert only.sentence.endswith("its content does not match its name; it was the only copy")
    assert other.sentence.endswith("its content does not match its name; there is another copy on two")


def whole(scene: Scene, disk: BackupDisk, stop: Any = NEVER, restart: bool = False) -> tuple[int | None, Verification]:
    scene.clock.pass_time(100)
    done = Verification()
    store = scene.store(disk)
    return verify_whole(scene.bench, disk, store, VerificationOptions(), stop, done, restart), done


@pytest.fixture
def interrupted(scene: Scene, disk: BackupDisk, monkeypatch: pytest.MonkeyPatch) -> int:
    """A run that stopped after a third; how many objects lie in folders that it verified."""
    monkeypatch.setattr(verification, "_BATCH_OBJECTS", 5)
    monkeypatch.setattr(verification, "_TASK_OBJECTS", 1)
    store = scene.store(disk)
    check, read = store.check, 0

    def counted(*words: Any) -> Any:
        nonlocal read
        read += 1
        return check(*words)

    store.check = counted
    with pytest.raises(Interrupted):
        whole(scene, disk, StopWhen(lambda: read >= 20))
    store.check = check
    folders = scene.catalogue.disks.verified_at(disk.id)
    return sum(int.from_bytes(digest[:2], "big") >> 4 in folders for digest in scene.held(disk))


def test_verify_whole_reads_the_rest_after_an_interruption_and_all_the_next_time(
    scene: Scene, disk: BackupDisk, interrupted: int
) -> None:
    begun = scene.clock.now()
    assert 5 <= interrupted <= 20
    resumed, done = whole(scene, disk)
    assert (resumed, done.objects) == (begun, 60 - interrupted)
    resumed, done = whole(scene, disk)
    assert (resumed, done.objects) == (None, 60)


def test_verify_whole_restart_reads_all_again(scene: Scene, disk: BackupDisk, interrupted: int) -> None:
    resumed, done = whole(scene, disk, restart=True)
    assert (resumed, done.objects) == (None, 60)


def test_verify_whole_after_a_long_time_reads_all_again(scene: Scene, disk: BackupDisk, interrupted: int) -> None:
    scene.clock.pass_time(31 * 86400)
    resumed, done = whole(scene, disk)
    assert (resumed, done.objects) == (None, 60)


def test_verify_whole_what_a_session_verified_meanwhile_is_left_out(
    scene: Scene, disk: BackupDisk, interrupted: int
) -> None:
    checked = verify(scene, disk, share=0.5).objects
    assert checked
    _, done = whole(scene, disk)
    assert done.objects == 60 - interrupted - checked


def test_checks_of_tells_how_much_was_ever_verified_and_since_when(scene: Scene, disk: BackupDisk) -> None:
    assert checks_of(scene.bench, disk) == Checks(0.0, None)
    verify(scene, disk, share=0.5)
    first = scene.clock.now()
    half = checks_of(scene.bench, disk)
    assert 0.3 < half.share < 0.8
    assert half.oldest == first
    whole(scene, disk)
    assert checks_of(scene.bench, disk) == Checks(1.0, scene.clock.now())


def mend(scene: Scene, disk: BackupDisk, done: Verification) -> Any:
    current = scene.catalogue.disks.find(disk.uuid)
    assert current is not None
    return mend_disk(scene.bench, current, scene.store(disk), done.bad_objects, NEVER)


def test_mend_disk_bad_copies_are_made_again_from_the_sources(scene: Scene, disk: BackupDisk) -> None:
    for number in (3, 4):
        _flip_a_bit(copy_of(scene, f"content {number}"))
    mending = mend(scene, disk, verify(scene, disk))
    assert (mending.copied, mending.elsewhere, mending.lost) == (2, 0, 0)
    assert [event.objects for event in scene.reporter.told(CopiesMended)] == [2]
    assert verify(scene, disk).bad == []
    scene.assert_complete(disk)
    current = scene.catalogue.disks.find(disk.uuid)
    assert current is not None
    assert current.clean


def test_mend_disk_what_no_source_has_is_elsewhere_or_lost_and_that_is_told(scene: Scene, disk: BackupDisk) -> None:
    scene.back_up(scene.add_disk("two"), policy=Policy(copies_limit=2, copy_limit=30 * 10))
    elsewhere = {digest for digest in scene.held(disk) if digest in scene.held(scene.catalogue.disks.all()[1])}
    assert 0 < len(elsewhere) < 60
    for number in range(60):
        _flip_a_bit(copy_of(scene, f"content {number}"))
        (scene.real / f"file{number}").unlink()
    mending = mend(scene, disk, verify(scene, disk))
    assert (mending.copied, mending.elsewhere, mending.lost) == (0, len(elsewhere), 60 - len(elsewhere))
    (told,) = scene.reporter.told(ContentLost)
    assert told.objects == 60 - len(elsewhere)
    assert "and no source has it; what is left of it is in bad-objects on the disk" in told.sentence


def test_run_session_verifying_in_passing_mends_what_it_finds(scene: Scene, disk: BackupDisk) -> None:
    _flip_a_bit(copy_of(scene, "content 7"))
    scene.clock.pass_time(86400)
    finished = scene.back_up(disk, share=1.0)
    assert (finished.verified_objects, finished.copied_objects) == (60, 1)
    assert verify(scene, disk).bad == []
    scene.assert_complete(disk)
