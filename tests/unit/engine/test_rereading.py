"""Reading sources again: rot is found, told once, and no change."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine import rereading
from distbackupd.engine.rereading import Rereader
from distbackupd.model.errors import EngineBusy
from distbackupd.model.events import SourceRotted
from tests.fakes.stopping import StopWhen
from tests.unit.engine.scenes import NEVER, Scene, scene_at, sha256

DAY = 86400
PERIOD = 10 * DAY
ROTTEN = "ROTTEN! 00"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        for number in range(20):
            opened.write(f"file{number:02}", f"content {number:02}")
        opened.scan()
        opened.tree.opened.clear()
        yield opened


@pytest.fixture
def rereader(scene: Scene) -> Rereader:
    return Rereader(scene.bench, contextlib.nullcontext)


def read_all(scene: Scene, rereader: Rereader, days: int = 10) -> None:
    for _ in range(days):
        scene.clock.pass_time(DAY)
        while rereader.go_on(PERIOD, NEVER):
            pass


def rotten(scene: Scene) -> dict[bytes, bytes]:
    return {item.path: item.found for item in scene.catalogue.rot.all()}


def test_go_on_first_call_begins_a_round_and_reads_nothing(scene: Scene, rereader: Rereader) -> None:
    assert not rereader.go_on(PERIOD, NEVER)
    assert scene.tree.opened == []


def test_go_on_each_day_reads_its_share_and_each_file_once_in_a_round(scene: Scene, rereader: Rereader) -> None:
    rereader.go_on(PERIOD, NEVER)
    for day in range(1, 11):
        scene.clock.pass_time(DAY)
        rereader.go_on(PERIOD, NEVER)
        assert len(scene.tree.opened) == 2 * day
    assert len(set(scene.tree.opened)) == 20
    scene.clock.pass_time(DAY - 1)
    rereader.go_on(PERIOD, NEVER)
    assert len(scene.tree.opened) == 20, "the next round has begun, and its first day is not over"
    assert scene.reporter.told(SourceRotted) == []


def test_go_on_never_reads_nothing(scene: Scene, rereader: Rereader) -> None:
    for _ in range(3):
        scene.clock.pass_time(100 * DAY)
        assert not rereader.go_on(0, NEVER)
    assert scene.tree.opened == []


def test_go_on_rot_is_told_once_and_never_taken_for_a_change(scene: Scene, rereader: Rereader) -> None:
    disk = scene.add_disk("one")
    scene.back_up(disk)
    rereader.go_on(PERIOD, NEVER)
    scene.rot("file07", ROTTEN)
    read_all(scene, rereader, 25)
    (told,) = scene.reporter.told(SourceRotted)
    assert (told.path, told.disks, told.unreadable) == (b"/file07", "one", False)
    assert rotten(scene) == {b"/file07": sha256("ROTTEN! 00")}
    assert scene.scan().changed == 0
    assert scene.digest("/file07") == sha256("content 07")
    other = scene.add_disk("two")
    finished = scene.back_up(other)
    assert (finished.copied_objects, finished.skipped) == (19, 0), "nobody tries to copy from it"
    assert scene.scan().hashed == 0


def test_go_on_other_name_with_the_good_content_is_still_copied(scene: Scene, rereader: Rereader) -> None:
    scene.write("twin", "content 07")
    scene.scan()
    rereader.go_on(PERIOD, NEVER)
    scene.rot("file07", ROTTEN)
    read_all(scene, rereader)
    assert set(rotten(scene)) == {b"/file07"}
    assert scene.back_up(scene.add_disk("one")).copied_objects == 20


def test_go_on_all_names_of_one_inode_rot_together_and_are_read_once(scene: Scene, rereader: Rereader) -> None:
    os.link(scene.real / "file07", scene.real / "name")
    scene.scan()
    scene.scan()
    rereader.go_on(PERIOD, NEVER)
    scene.tree.opened.clear()
    read_all(scene, rereader)
    assert len(scene.tree.opened) == 20
    scene.rot("file07", ROTTEN)
    read_all(scene, rereader)
    assert set(rotten(scene)) == {b"/file07", b"/name"}
    assert len(scene.reporter.told(SourceRotted)) == 1


def test_go_on_wrong_at_first_and_right_the_second_time_is_no_rot(scene: Scene, rereader: Rereader) -> None:
    rereader.go_on(PERIOD, NEVER)
    path = scene.real / "file07"
    scene.rot("file07", ROTTEN)

    def mend(opened: bytes) -> None:
        if opened == os.fsencode(path) and scene.tree.opened.count(opened) == 2:
            scene.rot("file07", "content 07")

    scene.tree.after_open = mend
    read_all(scene, rereader)
    assert scene.tree.opened.count(os.fsencode(path)) == 2
    assert rotten(scene) == {}


def test_go_on_file_that_is_right_again_is_resolved(scene: Scene, rereader: Rereader) -> None:
    rereader.go_on(PERIOD, NEVER)
    scene.rot("file07", ROTTEN)
    read_all(scene, rereader)
    assert rotten(scene)
    scene.rot("file07", "content 07")
    read_all(scene, rereader)
    assert rotten(scene) == {}


@pytest.mark.parametrize(
    "change",
    [Path.unlink, lambda path: path.write_text("changed"), lambda path: path.rename(path.parent / "renamed")],
    ids=["gone", "changed", "renamed"],
)
def test_go_on_what_changed_is_for_the_scan(scene: Scene, rereader: Rereader, change: Callable[[Path], Any]) -> None:
    rereader.go_on(PERIOD, NEVER)
    change(scene.real / "file07")
    read_all(scene, rereader)
    assert rotten(scene) == {}
    assert scene.reporter.told(SourceRotted) == []


def test_go_on_source_that_is_not_there_is_no_rot_and_holds_nothing_up(scene: Scene, rereader: Rereader) -> None:
    rereader.go_on(PERIOD, NEVER)
    scene.real.rename(scene.place / "elsewhere")
    read_all(scene, rereader)
    assert rotten(scene) == {}


def test_go_on_changed_file_ends_what_was_found(scene: Scene, rereader: Rereader) -> None:
    rereader.go_on(PERIOD, NEVER)
    scene.rot("file07", ROTTEN)
    read_all(scene, rereader)
    (scene.real / "file07").write_text("a new text")
    assert scene.scan().changed == 1
    assert rotten(scene) == {}


def test_go_on_renamed_rotten_file_keeps_the_content_that_is_known(scene: Scene, rereader: Rereader) -> None:
    rereader.go_on(PERIOD, NEVER)
    scene.rot("file07", ROTTEN)
    read_all(scene, rereader)
    (scene.real / "file07").rename(scene.real / "renamed")
    assert scene.scan().hashed == 0
    assert scene.digest("/renamed") == sha256("content 07")
    read_all(scene, rereader, 25)
    assert set(rotten(scene)) == {b"/renamed"}


def test_go_on_renamed_file_that_rotted_unseen_has_changed(scene: Scene, rereader: Rereader) -> None:
    """Something was done to it since: nobody can tell any more whether it was written to too."""
    scene.rot("file07", ROTTEN)
    (scene.real / "file07").rename(scene.real / "renamed")
    finished = scene.scan()
    assert (finished.confirmed, finished.unconfirmed) == (1, 0)
    assert scene.digest("/renamed") == sha256(ROTTEN)
    read_all(scene, rereader, 25)
    assert rotten(scene) == {}


def test_go_on_file_written_with_its_time_put_back_is_no_rot(scene: Scene, rereader: Rereader) -> None:
    rereader.go_on(PERIOD, NEVER)
    path = scene.real / "file07"
    before = path.stat()
    path.write_text(ROTTEN)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    read_all(scene, rereader)
    assert rotten(scene) == {}
    assert scene.catalogue.unconfirmed.total() == (1, 10), "it is left to who confirms"


@pytest.mark.parametrize("filesystem_type", ["tmpfs", "exfat", "fuse.sshfs"])
def test_go_on_where_times_do_not_tell_of_each_write_nothing_rots(
    scene: Scene, rereader: Rereader, filesystem_type: str
) -> None:
    scene.tree.filesystem_type = filesystem_type
    scene.scan(confirm_all=True)
    rereader.go_on(PERIOD, NEVER)
    scene.rot("file07", ROTTEN)
    read_all(scene, rereader)
    assert rotten(scene) == {}


def test_go_on_stop_ends_it_at_once_and_the_next_call_goes_on_in_the_file(
    scene: Scene, rereader: Rereader, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = scene.write("big", os.urandom(10 << 20))
    scene.scan()
    rereader.go_on(PERIOD, NEVER)
    looks = 0

    def busy() -> bool:
        nonlocal looks
        looks += 1
        return looks % 4 == 0

    goes = 0
    scene.clock.pass_time(PERIOD)
    while rereader.go_on(PERIOD, StopWhen(busy)):
        goes += 1
        assert goes < 200
    assert scene.tree.opened.count(os.fsencode(big)) >= 3, "it was read in pieces"
    assert scene.tree.opened.count(os.fsencode(big)) <= 12, "and no piece twice"
    assert rotten(scene) == {}


def test_go_on_time_is_up_after_a_slot(scene: Scene, rereader: Rereader) -> None:
    rereader.go_on(PERIOD, NEVER)
    scene.tree.after_open = lambda _path: scene.clock.pass_time(rereading.SLOT_SECONDS / 3)
    scene.clock.pass_time(PERIOD)
    assert rereader.go_on(PERIOD, NEVER)
    assert len(scene.tree.opened) in (3, 4)


def test_go_on_what_cannot_be_read_counts_when_its_device_answers(
    scene: Scene, rereader: Rereader, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {os.fsencode(scene.real / "file07")}
    opened: list[bytes] = []
    scene.tree.after_open = opened.append
    preadv = os.preadv

    def fail(descriptor: int, *words: Any) -> int:
        if opened[-1] in broken:
            raise OSError(5, os.strerror(5))
        return preadv(descriptor, *words)

    monkeypatch.setattr(os, "preadv", fail)
    rereader.go_on(PERIOD, NEVER)
    read_all(scene, rereader)
    (told,) = scene.reporter.told(SourceRotted)
    assert told.unreadable
    assert "/file07: its medium cannot read it any more; no disk has the good content" in told.sentence
    assert rotten(scene) == {b"/file07": b""}


def test_go_on_device_that_is_gone_is_no_rot(scene: Scene, rereader: Rereader, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_words: Any) -> int:
        raise OSError(5, os.strerror(5))

    rereader.go_on(PERIOD, NEVER)
    monkeypatch.setattr(os, "preadv", fail)
    read_all(scene, rereader)
    assert rotten(scene) == {}
    assert scene.reporter.told(SourceRotted) == []


def test_go_on_while_another_engine_is_at_work_notes_nothing_and_reads_again(scene: Scene) -> None:
    @contextlib.contextmanager
    def locked() -> Iterator[None]:
        if busy:
            raise EngineBusy("dsb is at work")
        yield

    busy = False
    rereader = Rereader(scene.bench, locked)
    rereader.go_on(PERIOD, NEVER)
    scene.rot("file00", ROTTEN)
    scene.clock.pass_time(DAY)
    busy = True
    rereader.go_on(PERIOD, NEVER)
    assert rotten(scene) == {}
    busy = False
    rereader.go_on(PERIOD, NEVER)
    assert set(rotten(scene)) == {b"/file00"}


def test_go_on_new_rereader_goes_on_where_the_last_one_was(scene: Scene, rereader: Rereader) -> None:
    rereader.go_on(PERIOD, NEVER)
    read_all(scene, rereader, 5)
    scene.tree.opened.clear()
    read_all(scene, Rereader(scene.bench, contextlib.nullcontext), 5)
    assert len(scene.tree.opened) == len(set(scene.tree.opened)) == 10
