"""Rotten source files get their good content back, or what they hold is taken for right."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine.healing import Healing, accept, by_file, heal
from distbackupd.engine.rereading import Rereader
from distbackupd.engine.rescuing import rescue
from distbackupd.model.disks import BackupDisk
from distbackupd.model.events import Remark, SourceHealed
from distbackupd.sources.mending import mend_source
from distbackupd.store.rescued import RescueFolder
from tests.unit.engine.scenes import NEVER, Scene, scene_at, sha256

PERIOD = 10 * 86400
GOOD, ROTTEN = "the good content", "THE GOOD CONTENT"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        opened.write("folder/a", GOOD)
        opened.write("b", "another content")
        opened.scan()
        opened.bench = replace(opened.bench, rescued=RescueFolder(os.fsencode(tmp_path / "rescued")))
        yield opened


@pytest.fixture
def disk(scene: Scene) -> BackupDisk:
    added = scene.add_disk("one")
    scene.back_up(added)
    return added


def find_rot(scene: Scene) -> None:
    rereader = Rereader(scene.bench, contextlib.nullcontext)
    for _ in range(12):
        scene.clock.pass_time(86400)
        rereader.go_on(PERIOD, NEVER)
    assert scene.catalogue.rot.all()


def heal_all(scene: Scene, open_content: Any) -> Healing:
    done = Healing()
    for names in by_file(scene.catalogue.rot.all()):
        heal(scene.bench, names, mend_source, open_content, NEVER, done)
    return done


def test_heal_brings_the_content_back_and_leaves_the_rest_as_it_is(scene: Scene, disk: BackupDisk) -> None:
    path = scene.real / "folder" / "a"
    path.chmod(0o641)
    os.utime(path, ns=(5, 1_234_567_890_123_456_789))
    os.setxattr(path, "user.note", b"kept")
    scene.scan()
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    done = heal_all(scene, scene.store(disk).open_object)
    assert (done.healed, done.left) == ([b"/folder/a"], [])
    assert path.read_text() == GOOD
    state = path.stat()
    assert (state.st_mode & 0o7777, state.st_mtime_ns) == (0o641, 1_234_567_890_123_456_789)
    assert os.getxattr(path, "user.note") == b"kept"
    (kept,) = done.kept
    assert re.fullmatch(os.fsencode(path) + rb"\.replaced-\d{4}-\d\d-\d\d", kept)
    assert Path(os.fsdecode(kept)).read_text() == ROTTEN, "whoever knows better has lost nothing"
    assert sorted(os.listdir(path.parent)) == ["a", os.path.basename(os.fsdecode(kept))]
    assert scene.catalogue.rot.all() == []
    assert [event.path for event in scene.reporter.told(SourceHealed)] == [b"/folder/a"]
    versions = list(scene.catalogue.history.versions(b"/folder/a"))
    os.unlink(kept)
    assert scene.scan().hashed == 0, "the catalogue knows the new inode"
    assert list(scene.catalogue.history.versions(b"/folder/a")) == versions


def test_heal_all_names_of_a_file_stay_names_of_one_file(scene: Scene, disk: BackupDisk) -> None:
    first, second = scene.real / "folder" / "a", scene.real / "zz"
    os.link(first, second)
    scene.scan()
    scene.scan()
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    done = heal_all(scene, scene.store(disk).open_object)
    assert sorted(done.healed) == [b"/folder/a", b"/zz"]
    assert first.samefile(second)
    assert second.read_text() == GOOD
    (kept,) = done.kept
    os.unlink(kept)
    assert (scene.scan().hashed, scene.catalogue.rot.all()) == (0, [])


def test_heal_file_that_overlapping_sources_show_twice_is_healed_once(scene: Scene, disk: BackupDisk) -> None:
    scene.map(b"/again", scene.real / "folder")
    scene.scan()
    path = scene.real / "folder" / "a"
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    done = heal_all(scene, scene.store(disk).open_object)
    assert (sorted(done.healed), done.left) == ([b"/again/a", b"/folder/a"], [])
    assert path.read_text() == GOOD
    (kept,) = done.kept
    os.unlink(kept)
    assert (scene.scan().hashed, scene.catalogue.rot.all()) == (0, [])


def test_heal_file_with_a_name_outside_is_left(scene: Scene, disk: BackupDisk) -> None:
    path = scene.real / "folder" / "a"
    os.link(path, scene.place / "outside")
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    done = heal_all(scene, scene.store(disk).open_object)
    ((name, reason),) = done.left
    assert name == b"/folder/a"
    assert reason.startswith(
        "it has 2 names, of which 1 are known; it was left as it is, for it would stay rotten under the"
    )
    assert path.read_text() == ROTTEN


@pytest.mark.parametrize("what", ["content", "time", "owner's mode", "size", "gone", "link"])
def test_heal_file_to_which_anything_was_done_is_left_alone(scene: Scene, disk: BackupDisk, what: str) -> None:
    path = scene.real / "folder" / "a"
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    if what == "content":
        before = path.stat()
        path.write_text("the GOOD content")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif what == "time":
        os.utime(path)
    elif what == "owner's mode":
        path.chmod(0o600)
    elif what == "size":
        path.write_text("longer than it was before")
    elif what == "gone":
        path.unlink()
    else:
        path.rename(scene.place / "elsewhere")
        path.symlink_to(scene.place / "elsewhere")
    before = path.read_bytes() if path.exists() else None
    done = heal_all(scene, scene.store(disk).open_object)
    assert done.healed == []
    assert [left for left, _ in done.left] == [b"/folder/a"]
    assert (path.read_bytes() if path.exists() else None) == before
    assert path.is_symlink() == (what == "link")


def test_heal_bad_content_changes_nothing_and_says_so(scene: Scene, disk: BackupDisk) -> None:
    path = scene.real / "folder" / "a"
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    scene.store(disk).objects_[sha256(GOOD)] = b"THE bad  content"
    before = path.stat()
    done = Healing()
    assert not heal(scene.bench, scene.catalogue.rot.all(), mend_source, scene.store(disk).open_object, NEVER, done)
    assert done == Healing()
    assert (path.read_text(), path.stat().st_ctime_ns) == (ROTTEN, before.st_ctime_ns)
    assert os.listdir(path.parent) == ["a"]


def test_heal_content_that_is_right_again_is_resolved(scene: Scene, disk: BackupDisk) -> None:
    path = scene.real / "folder" / "a"
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    scene.rot("folder/a", GOOD)
    inode = path.stat().st_ino
    done = heal_all(scene, scene.store(disk).open_object)
    assert (done.right, path.stat().st_ino) == ([b"/folder/a"], inode)
    assert scene.catalogue.rot.all() == []


def test_accept_what_is_there_is_a_change_like_any_other(scene: Scene, disk: BackupDisk) -> None:
    path = scene.real / "folder" / "a"
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    done = Healing()
    accept(scene.bench, scene.catalogue.rot.all(), NEVER, done)
    assert (done.accepted, done.left) == ([b"/folder/a"], [])
    assert scene.digest("/folder/a") == sha256(ROTTEN)
    assert scene.scan().changed == 0
    assert scene.back_up(disk).copied_objects == 1
    assert set(scene.held(disk)) == {sha256(ROTTEN), sha256(GOOD), sha256("another content")}, (
        "the former one is in its grace"
    )
    versions = [item.digest for item in scene.catalogue.history.versions(b"/folder/a")]
    assert versions == [sha256(GOOD), sha256(ROTTEN)]
    path.rename(path.parent / "renamed")
    scene.scan()
    assert scene.digest("/folder/renamed") == sha256(ROTTEN), "the newest content goes along with a new name"


def test_rescue_keeps_the_good_content_until_it_is_needed_no_more(scene: Scene, disk: BackupDisk) -> None:
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    kept: Any = scene.bench.rescued
    assert rescue(scene.bench, disk, scene.store(disk), NEVER) == 1
    assert (
        "one: fetched the good content of 1 rotten source file; 'dsb heal --all' puts it back" in scene.reporter.sentences()
    )
    assert rescue(scene.bench, disk, scene.store(disk), NEVER) == 0
    assert heal_all(scene, kept.open).healed == [b"/folder/a"]
    assert rescue(scene.bench, disk, scene.store(disk), NEVER) == 0
    assert os.listdir(scene.place / "rescued") == []


def test_run_session_fetches_what_rotten_sources_lost(scene: Scene, disk: BackupDisk) -> None:
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    scene.back_up(disk)
    assert os.listdir(scene.place / "rescued") == [hashlib.sha256(GOOD.encode()).hexdigest()]


def test_rescue_bad_copy_is_told_and_ends_nothing(scene: Scene, disk: BackupDisk) -> None:
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    scene.store(disk).objects_[sha256(GOOD)] = b"THE bad  content"
    assert rescue(scene.bench, disk, scene.store(disk), NEVER) == 0
    (told,) = scene.reporter.told(Remark)
    assert "its copy of /folder/a cannot be read" in told.sentence
    assert os.listdir(scene.place / "rescued") == []


def test_rescue_folder_that_cannot_be_used_is_told_and_ends_nothing(scene: Scene, disk: BackupDisk) -> None:
    (scene.place / "rescued").write_text("a file")
    scene.rot("folder/a", ROTTEN)
    find_rot(scene)
    assert scene.back_up(disk).skipped == 0
    assert "where good contents of rotten files are kept, cannot be used" in scene.reporter.sentences()
