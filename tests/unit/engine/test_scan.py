"""Scanning real trees: what is recorded, what is left as known, and what happens when the world changes meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distbackupd.engine import hashing
from distbackupd.model.errors import Interrupted, SourceTrouble
from distbackupd.model.events import FileSkipped, ScanFinished, SourceLocked
from distbackupd.model.files import EntryKind
from tests.bed.fault_disk import fault_disk
from tests.bed.loop_disks import mounted_at
from tests.fakes.stopping import StopWhen
from tests.trees import build_deep_path
from tests.unit.engine.scenes import Scene, scene_at, sha256


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


def later(path: Path) -> None:
    """Give the file a time of its own, as a change a second later does."""
    moment = path.stat().st_mtime_ns + 1_000_000_007
    os.utime(path, ns=(moment, moment))


def counts(finished: ScanFinished) -> tuple[int, int, int, int]:
    return finished.new, finished.changed, finished.gone, finished.hashed


# --- what is recorded ------------------------------------------------------------------------------------------------


def test_scan_new_tree_records_every_kind_of_entry(scene: Scene) -> None:
    scene.write("a/b/file", "content")
    scene.write("a/empty").write_bytes(b"")
    (scene.real / "folder").mkdir()
    (scene.real / "link").symlink_to("a/b")
    os.mkfifo(scene.real / "fifo")
    scene.write(b"\xff\xfe/line\nbreak", "strange")
    finished = scene.scan()
    assert {entry.path: entry.kind for entry in scene.catalogue.files.restore_entries(b"/")} == {
        b"/": EntryKind.FOLDER,
        b"/a": EntryKind.FOLDER,
        b"/a/b": EntryKind.FOLDER,
        b"/a/b/file": EntryKind.FILE,
        b"/a/empty": EntryKind.FILE,
        b"/fifo": EntryKind.FIFO,
        b"/folder": EntryKind.FOLDER,
        b"/link": EntryKind.SYMBOLIC_LINK,
        b"/\xff\xfe": EntryKind.FOLDER,
        b"/\xff\xfe/line\nbreak": EntryKind.FILE,
    }
    assert counts(finished) == (10, 0, 0, 2)
    assert scene.digest("/a/b/file") == sha256("content")
    assert scene.digest("/a/empty") is None


def test_scan_unchanged_tree_reads_nothing_and_records_nothing(scene: Scene) -> None:
    for name in ("a", "b/c", "b/d/e"):
        scene.write(name)
    scene.scan()
    generation = scene.catalogue.generation()
    assert counts(scene.scan()) == (0, 0, 0, 0)
    assert scene.tree.hashed == []
    assert scene.catalogue.generation() == generation


def test_scan_changed_grown_and_deleted_files_make_versions(scene: Scene) -> None:
    changed, gone = scene.write("changed", "one"), scene.write("gone", "old")
    scene.write("same")
    scene.scan()
    before = scene.clock.now()
    changed.write_bytes(b"two")
    later(changed)
    gone.unlink()
    # The folder that holds them changed too.
    assert counts(scene.scan()) == (0, 2, 1, 1)
    assert scene.paths() == {"/changed", "/same"}
    assert scene.digest("/changed") == sha256("two")
    old = {entry.path: entry.digest for entry in scene.catalogue.files.restore_entries(b"/", before)}
    assert (old[b"/changed"], old[b"/gone"]) == (sha256("one"), sha256("old"))


def test_scan_metadata_change_makes_a_version_without_reading(scene: Scene) -> None:
    path = scene.write("a")
    scene.scan()
    path.chmod(0o600)
    assert counts(scene.scan()) == (0, 1, 0, 0)
    assert scene.digest("/a") == sha256("a")


def test_scan_renamed_and_linked_files_are_not_read_again(scene: Scene) -> None:
    scene.write("a/one")
    scene.write("a/two")
    scene.scan()
    (scene.real / "a").rename(scene.real / "b")
    (scene.real / "b" / "one").rename(scene.real / "three")
    os.link(scene.real / "b" / "two", scene.real / "four")
    scene.scan()
    assert scene.tree.hashed == []
    assert scene.paths() == {"/b", "/b/two", "/three", "/four"}
    assert scene.digest("/three") == sha256("a/one")
    assert scene.digest("/four") == sha256("a/two")


def test_scan_hard_links_are_read_once(scene: Scene) -> None:
    first = scene.write("a")
    for number in range(5):
        os.link(first, scene.real / f"link{number}")
    scene.scan()
    assert len(scene.tree.hashed) == 1
    assert {scene.digest(path) for path in scene.paths()} == {sha256("a")}


def test_scan_kinds_that_take_each_others_place_take_what_was_below_with_them(scene: Scene) -> None:
    for name in ("to file/below/deep", "to empty file/below/deep", "to link/below/deep"):
        scene.write(name)
    scene.write("to folder")
    scene.scan()
    for name in ("to file", "to empty file", "to link"):
        shutil.rmtree(scene.real / name)
    scene.write("to file", "now a file")
    (scene.real / "to empty file").touch()
    (scene.real / "to link").symlink_to("nowhere")
    (scene.real / "to folder").unlink()
    scene.write("to folder/below")
    scene.scan()
    assert scene.paths() == {"/to file", "/to empty file", "/to link", "/to folder", "/to folder/below"}
    assert counts(scene.scan()) == (0, 0, 0, 0)


def test_scan_folder_that_took_a_files_place_is_walked_also_when_only_it_is_looked_at(scene: Scene) -> None:
    path = scene.write("a")
    scene.scan()
    path.unlink()
    scene.write("a/below/deep")
    scene.scan(folders=[os.fsencode(scene.real)])
    assert scene.paths() == {"/a", "/a/below", "/a/below/deep"}


def test_scan_deep_tree_beyond_what_the_kernel_takes_at_once(scene: Scene) -> None:
    build_deep_path(scene.real)
    scene.scan()
    assert max(len(path) for path in scene.paths()) > 5000
    assert counts(scene.scan()) == (0, 0, 0, 0)


# --- maps, settings, rules -------------------------------------------------------------------------------------------


def test_scan_nested_map_stands_for_the_folder_of_that_name(scene: Scene, tmp_path: Path) -> None:
    scene.write("a/hidden by the map")
    scene.write("b/x")
    other = tmp_path / "other"
    (other / "y").mkdir(parents=True)
    (other / "y" / "z").write_bytes(b"z")
    scene.map(b"/a", other)
    scene.map(b"/b/deep/er", other / "y")
    scene.scan()
    assert scene.paths() == {"/a", "/a/y", "/a/y/z", "/b", "/b/x", "/b/deep/er", "/b/deep/er/z"}
    assert counts(scene.scan()) == (0, 0, 0, 0)


def test_scan_nested_map_made_later_takes_the_place_of_what_was_there(scene: Scene, tmp_path: Path) -> None:
    scene.write("a/old")
    scene.scan()
    other = tmp_path / "other"
    other.mkdir()
    (other / "new").write_bytes(b"new")
    scene.map(b"/a", other)
    scene.scan()
    assert scene.paths() == {"/a", "/a/new"}


@pytest.mark.parametrize("real_folder_below_it", [False, True])
def test_scan_nested_map_taken_away_gives_its_place_back(scene: Scene, tmp_path: Path, real_folder_below_it: bool) -> None:
    if real_folder_below_it:
        scene.write("a/old")
    scene.write("b")
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    (other / "deep" / "new").write_bytes(b"new")
    scene.map(b"/a", other)
    scene.scan()
    scene.catalogue.sources.unmap(b"/a")
    scene.scan()
    assert scene.paths() == ({"/b", "/a", "/a/old"} if real_folder_below_it else {"/b"})
    assert counts(scene.scan()) == (0, 0, 0, 0)


def test_scan_unmapped_source_is_forgotten(scene: Scene) -> None:
    scene.write("a")
    scene.scan()
    scene.catalogue.sources.unmap(b"/")
    scene.scan()
    assert list(scene.catalogue.files.restore_entries(b"/")) == []


def test_scan_source_that_moved_is_not_read_again(scene: Scene) -> None:
    for name in ("a", "b/c"):
        scene.write(name)
    scene.scan()
    moved = scene.place / "elsewhere"
    scene.real.rename(moved)
    scene.map(b"/", moved)
    scene.scan()
    assert scene.tree.hashed == []
    assert scene.paths() == {"/a", "/b", "/b/c"}


def test_scan_hidden_folder_is_forgotten_and_comes_back(scene: Scene) -> None:
    scene.write("a/b/c")
    scene.write("d")
    scene.scan()
    scene.set(b"/a", hide=True)
    scene.scan()
    assert scene.paths() - {"/a"} == {"/d"}
    scene.set(b"/a")
    scene.scan()
    assert scene.paths() == {"/a", "/a/b", "/a/b/c", "/d"}
    assert scene.tree.hashed == []


def test_scan_skip_marker_leaves_out_the_folder_and_all_below(scene: Scene) -> None:
    scene.write("a/b/c")
    scene.write("d")
    scene.scan()
    (scene.real / "a" / ".distbackup.skip").touch()
    scene.scan()
    assert scene.paths() - {"/a"} == {"/d"}


def test_scan_locked_folder_stays_as_known_until_the_lock_is_ignored(scene: Scene) -> None:
    changed = scene.write("a/b/changed", "one")
    scene.write("a/gone")
    scene.scan()
    scene.set(b"/a", lock=True)
    changed.write_bytes(b"two!")
    (scene.real / "a" / "gone").unlink()
    scene.write("a/new")
    scene.scan()
    assert scene.paths() == {"/a", "/a/b", "/a/b/changed", "/a/gone"}
    assert scene.digest("/a/b/changed") == sha256("one")
    scene.scan(ignore_lock=True)
    assert scene.paths() == {"/a", "/a/b", "/a/b/changed", "/a/new"}
    assert scene.digest("/a/b/changed") == sha256("two!")


@pytest.mark.parametrize("vanishing", ["a/b", "a"])
def test_scan_locked_folder_that_vanished_stays_as_known(scene: Scene, vanishing: str) -> None:
    scene.write("a/b/c")
    scene.write("a/d")
    scene.scan()
    scene.set(b"/a/b", lock=True)
    shutil.rmtree(scene.real / vanishing)
    scene.scan()
    assert {"/a", "/a/b", "/a/b/c"} <= scene.paths()
    scene.scan(ignore_lock=True)
    assert not {"/a/b", "/a/b/c"} & scene.paths()


def test_scan_ignore_rules_leave_out_files_and_folders(scene: Scene) -> None:
    for name in ("a.tmp", "keep.tmp", "cache/x", "b/a.tmp", "b/c", "b/own.log"):
        scene.write(name)
    scene.set(b"/", rules=("!keep.tmp", "*.tmp", "cache"))
    scene.set(b"/b", rules=("*.log",))
    scene.scan()
    assert scene.paths() == {"/keep.tmp", "/b", "/b/c"}
    scene.set(b"/b", rules=("*.log",), noinherit=True)
    scene.scan()
    assert scene.paths() == {"/keep.tmp", "/b", "/b/a.tmp", "/b/c"}


def test_scan_priority_and_limit_come_from_folder_rule_and_side_file(scene: Scene) -> None:
    for name in ("plain", "a.jpg", "movie", "limited/x", "limited/free"):
        scene.write(name)
    scene.write("movie.meta-inf", json.dumps({"priority": 5, "maxcopies": 2}))
    scene.write("limited/free.meta-inf", json.dumps({"maxcopies": "inf"}))
    scene.set(b"/", rules=("!!!*.jpg",))
    scene.set(b"/limited", maxcopies=1, priority=2)
    scene.scan()
    found = {
        (folder + b"/" + item.name).decode(): (item.priority, item.maxcopies)
        for folder in (b"", b"/limited")
        for item in scene.catalogue.files.folder(folder or b"/")
        if item.kind == EntryKind.FILE and not item.name.endswith(b".meta-inf")
    }
    assert found == {
        "/plain": (1, 0),
        "/a.jpg": (3, 0),
        "/movie": (5, 2),
        "/limited/x": (2, 1),
        "/limited/free": (2, 0),
    }


def test_scan_side_file_with_a_hash_is_not_believed(scene: Scene) -> None:
    scene.write("movie")
    scene.write("movie.meta-inf", json.dumps({"hash": sha256("another movie").hex()}))
    scene.scan()
    assert len(scene.tree.hashed) == 2
    assert scene.digest("/movie") == sha256("movie")


def test_scan_side_file_that_says_nothing_usable_is_told_and_the_file_backed_up(scene: Scene) -> None:
    scene.write("movie")
    scene.write("movie.meta-inf", "{not JSON")
    assert scene.scan().skipped == 1
    assert scene.digest("/movie") == sha256("movie")
    assert "movie.meta-inf" in scene.reporter.sentences()


# --- followed links --------------------------------------------------------------------------------------------------


def test_scan_followed_links_are_taken_for_what_they_point_to(scene: Scene, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "inside").write_bytes(b"inside")
    (scene.real / "folder").symlink_to(other)
    (scene.real / "file").symlink_to(other / "inside")
    (scene.real / "dangling").symlink_to(tmp_path / "nowhere")
    (scene.real / "itself").symlink_to("itself")
    (scene.real / "through a file").symlink_to(other / "inside" / "x")
    scene.set(b"/", follow_symlinks=True)
    finished = scene.scan()
    kinds = {entry.path: entry.kind for entry in scene.catalogue.files.restore_entries(b"/")}
    assert kinds == {
        b"/": EntryKind.FOLDER,
        b"/folder": EntryKind.FOLDER,
        b"/folder/inside": EntryKind.FILE,
        b"/file": EntryKind.FILE,
        b"/dangling": EntryKind.SYMBOLIC_LINK,
        b"/itself": EntryKind.SYMBOLIC_LINK,
        b"/through a file": EntryKind.SYMBOLIC_LINK,
    }
    assert finished.skipped == 0
    assert scene.digest("/file") == scene.digest("/folder/inside") == sha256("inside")


def test_scan_link_loop_comes_to_an_end(scene: Scene) -> None:
    scene.write("a/x")
    (scene.real / "a" / "up").symlink_to(scene.real)
    (scene.real / "a" / "here").symlink_to(".")
    for folder in (b"/", b"/a", b"/a/up", b"/a/here", b"/a/up/a", b"/a/up/a/up"):
        scene.set(folder, follow_symlinks=True)
    scene.scan()
    assert {"/a/x"} <= scene.paths()
    assert all(path.count("/up") <= 2 for path in scene.paths())
    assert counts(scene.scan()) == (0, 0, 0, 0)


def test_scan_below_a_followed_link_without_lasting_inodes_walks_everything(scene: Scene) -> None:
    """FAT and FUSE have no inode numbers to tell a loop by: folders must not be taken for each other."""
    scene.tree.filesystem_type = "fuse.sshfs"
    scene.write("a/b/c/d")
    scene.set(b"/", follow_symlinks=True)
    scene.scan()
    assert scene.paths() == {"/a", "/a/b", "/a/b/c", "/a/b/c/d"}


# --- sources that cannot be trusted ----------------------------------------------------------------------------------


def _vanish(scene: Scene) -> None:
    scene.real.rename(scene.place / "away")


def _turn_empty(scene: Scene) -> None:
    _vanish(scene)
    scene.real.mkdir()


def _become_a_file(scene: Scene) -> None:
    _vanish(scene)
    scene.real.write_bytes(b"")


@pytest.mark.parametrize("harm", [_vanish, _turn_empty, _become_a_file])
def test_scan_source_that_cannot_be_trusted_keeps_its_files(scene: Scene, harm: Callable[[Scene], None]) -> None:
    scene.write("a/b")
    scene.scan()
    harm(scene)
    finished = scene.scan()
    assert (finished.locked, finished.gone) == (1, 0)
    assert scene.paths() == {"/a", "/a/b"}
    (locked,) = scene.reporter.told(SourceLocked)
    assert "its files are kept as they were known" in locked.sentence
    assert scene.scan(folders=[os.fsencode(scene.real / "a")]).gone == 0
    assert scene.paths() == {"/a", "/a/b"}


def test_scan_empty_source_is_believed_when_told(scene: Scene) -> None:
    scene.write("a/b")
    scene.scan()
    _turn_empty(scene)
    scene.scan(ignore_lock=True)
    assert scene.paths() == set()


@pytest.mark.parametrize("harm", [_vanish, _become_a_file])
def test_scan_vanished_source_is_no_deletion_even_when_locks_are_ignored(
    scene: Scene, harm: Callable[[Scene], None]
) -> None:
    scene.write("a/b")
    scene.scan()
    harm(scene)
    scene.scan(ignore_lock=True)
    assert scene.paths() == {"/a", "/a/b"}


def test_scan_new_empty_source_is_no_trouble(scene: Scene) -> None:
    assert scene.scan().locked == 0
    assert scene.scan().locked == 0


def test_scan_folder_that_cannot_be_listed_keeps_what_is_below(scene: Scene) -> None:
    scene.write("a/b/c")
    scene.write("d")
    scene.scan()
    scene.write("d", "changed")

    def fail(path: bytes) -> None:
        if path.endswith(b"/a"):
            raise SourceTrouble("it cannot be listed: Input/output error")

    scene.tree.before_list = fail
    finished = scene.scan()
    assert finished.locked == 1
    assert scene.paths() == {"/a", "/a/b", "/a/b/c", "/d"}
    assert scene.digest("/d") == sha256("changed")


@pytest.mark.needs("root", "loop", "nbd")
def test_scan_source_whose_disk_cannot_be_read_keeps_its_files(scene: Scene, tmp_path: Path) -> None:
    with fault_disk(tmp_path / "bed") as disk:
        with mounted_at(disk.volume.device, scene.real):
            for number in range(50):
                scene.write(f"{number}/file", f"content {number}" * 500)
            scene.scan()
            known = {path: scene.digest(path) for path in scene.paths()}
            _grow(scene.real / "7" / "file")
        with mounted_at(disk.volume.device, scene.real):
            disk.break_reads()
            finished = scene.scan()
            assert finished.locked + finished.skipped > 0
            assert finished.gone == 0
            assert {path: scene.digest(path) for path in scene.paths()} == known
            disk.mend()
        with mounted_at(disk.volume.device, scene.real):
            scene.scan()
            assert scene.digest("/7/file") == sha256("content 7" * 500 + "more")


# --- files that change meanwhile -------------------------------------------------------------------------------------


def _change(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)
    later(path)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")
    later(path)


def _shrink(path: Path) -> None:
    os.truncate(path, 1)
    later(path)


@pytest.mark.parametrize("change", [_change, _grow, _shrink])
def test_scan_file_that_changes_between_walk_and_hash_is_looked_at_again(
    scene: Scene, change: Callable[[Path], None]
) -> None:
    path = scene.write("a/file", "one")
    scene.write("a/other")
    once = [path]
    scene.tree.before_hash = lambda real: change(once.pop()) if real.endswith(b"/file") and once else None
    finished = scene.scan()
    assert finished.skipped == 0
    assert scene.digest("/a/file") == sha256(path.read_bytes())
    assert scene.digest("/a/other") == sha256("a/other")


@pytest.mark.parametrize("change", [_change, _grow, _shrink])
def test_scan_file_that_never_rests_is_told_and_keeps_its_old_version(scene: Scene, change: Callable[[Path], None]) -> None:
    path = scene.write("a/file", "first version")
    scene.scan()
    _change(path)
    scene.tree.before_hash = lambda real: change(path)
    finished = scene.scan()
    assert finished.skipped == 1
    assert [event.path for event in scene.reporter.told(FileSkipped)] == [b"/a/file"]
    assert scene.digest("/a/file") == sha256("first version")
    scene.tree.before_hash = lambda real: None
    scene.scan()
    assert scene.digest("/a/file") == sha256(path.read_bytes())


def test_scan_file_that_changes_while_it_is_read_is_noticed(scene: Scene) -> None:
    path = scene.write("large", b"x" * 3_000_000)
    scene.tree.after_open = lambda real: _grow(path)
    assert scene.scan().skipped == 1
    assert "/large" not in scene.paths()


def test_scan_file_that_vanishes_before_it_is_hashed_is_told_and_keeps_its_old_version(scene: Scene) -> None:
    path = scene.write("a/file", "first")
    scene.scan()
    _change(path)
    scene.tree.before_hash = lambda real: path.unlink(missing_ok=True)
    assert scene.scan().skipped == 1
    assert scene.digest("/a/file") == sha256("first")
    assert scene.scan().gone == 1
    assert scene.paths() == {"/a"}


def test_scan_file_whose_place_a_fifo_takes_does_not_hang(scene: Scene) -> None:
    path = scene.write("file", "first")

    def replace(_real: bytes) -> None:
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    scene.tree.before_hash = replace
    scene.scan()
    scene.tree.before_hash = lambda real: None
    scene.scan()
    (entry,) = [item for item in scene.catalogue.files.folder(b"/") if item.name]
    assert entry.kind == EntryKind.FIFO


def test_scan_source_unmounted_between_the_first_look_and_the_walk_is_no_deletion(scene: Scene) -> None:
    scene.write("a/b")
    scene.scan()
    once = [scene]
    scene.tree.before_list = lambda _path: _turn_empty(once.pop()) if once else None
    assert scene.scan().locked == 1
    assert scene.paths() == {"/a", "/a/b"}


@pytest.mark.needs("root")
def test_scan_mount_point_inside_a_source_that_is_unmounted_is_no_deletion(scene: Scene) -> None:
    scene.write("here", "stays")
    place = scene.real / "card"
    with mounted_at("tmpfs", place, "-t", "tmpfs"):
        scene.write("card/photo", "a photo")
        scene.scan()
        before = scene.paths()
    finished = scene.scan()
    assert scene.paths() == before
    assert (finished.gone, finished.locked) == (0, 1)
    (locked,) = scene.reporter.told(SourceLocked)
    assert locked.path == b"/card"
    assert "nothing is mounted there" in locked.sentence
    assert scene.scan().gone == 0  # and not by the second look either
    scene.scan(ignore_lock=True)
    assert "/card/photo" not in scene.paths()


def test_scan_source_unmounted_while_a_changing_file_is_looked_at_again_is_no_deletion(scene: Scene) -> None:
    for name in ("a", "b/c", "b/d/e"):
        scene.write(name)
    scene.scan()
    _change(scene.real / "a")

    def change_again(_path: bytes) -> None:
        _grow(scene.real / "a")
        scene.tree.before_hash = lambda _path: None
        scene.tree.before_list = unmount

    def unmount(_path: bytes) -> None:
        scene.tree.before_list = lambda _path: None
        _turn_empty(scene)

    scene.tree.before_hash = change_again
    finished = scene.scan()
    assert (finished.locked, finished.gone) == (1, 0)
    assert scene.paths() == {"/a", "/b", "/b/c", "/b/d", "/b/d/e"}
    assert scene.digest("/a") == sha256("a")


# --- folders that were touched ---------------------------------------------------------------------------------------


def test_scan_touched_folder_alone_is_looked_at(scene: Scene) -> None:
    scene.write("a/x", "one")
    scene.write("b/x", "one")
    scene.scan()
    for name in ("a/x", "b/x"):
        _grow(scene.write(name, "two"))
    scene.scan(folders=[os.fsencode(scene.real / "a")])
    assert scene.digest("/a/x") == sha256("twomore")
    assert scene.digest("/b/x") == sha256("one")


def test_scan_touched_folder_new_ones_below_are_walked_and_known_ones_only_if_deep(scene: Scene) -> None:
    scene.write("a/known/x")
    scene.scan()
    scene.write("a/known/new")
    scene.write("a/fresh/deep/new")
    scene.scan(folders=[os.fsencode(scene.real / "a")])
    assert scene.paths() == {"/a", "/a/known", "/a/known/x", "/a/fresh", "/a/fresh/deep", "/a/fresh/deep/new"}
    scene.scan(folders=[os.fsencode(scene.real / "a")], deep=True)
    assert "/a/known/new" in scene.paths()


def test_scan_touched_folder_that_is_gone_is_looked_at_from_above(scene: Scene) -> None:
    scene.write("a/b/c/d")
    scene.write("e")
    scene.scan()
    shutil.rmtree(scene.real / "a")
    scene.scan(folders=[os.fsencode(scene.real / "a/b/c"), os.fsencode(scene.real / "a/b")])
    assert scene.paths() == {"/e"}


@pytest.mark.parametrize("how", ["rule", "skip marker", "hidden"])
def test_scan_touched_folder_below_an_ignored_one_stays_ignored(scene: Scene, how: str) -> None:
    scene.write("ignored/deep/er/x")
    scene.write("y")
    if how == "rule":
        scene.set(b"/", rules=("ignored",))
    elif how == "hidden":
        scene.set(b"/ignored", hide=True)
    else:
        (scene.real / "ignored" / ".distbackup.skip").touch()
    scene.scan()
    before = scene.paths()
    scene.write("ignored/deep/er/new")
    scene.write("ignored/deep/fresh/new")
    for folder in ("ignored/deep/er", "ignored/deep", "ignored", "ignored/deep/fresh", "ignored/deep/gone"):
        scene.scan(folders=[os.fsencode(scene.real / folder)])
        assert scene.paths() == before


def test_scan_touched_folder_keeps_the_priority_that_a_rule_above_gave_it(scene: Scene) -> None:
    scene.write("important/deep/x")
    scene.set(b"/", rules=("!!!important",))
    scene.scan()
    scene.write("important/deep/y")
    scene.scan(folders=[os.fsencode(scene.real / "important" / "deep")])
    assert {item.name: item.priority for item in scene.catalogue.files.folder(b"/important/deep")} == {b"x": 3, b"y": 3}


def test_scan_touched_folder_unknown_yet_is_found_from_above(scene: Scene) -> None:
    scene.write("a/x")
    scene.scan()
    scene.write("new/deep/er/x")
    scene.scan(folders=[os.fsencode(scene.real / "new" / "deep" / "er")])
    assert {"/new", "/new/deep", "/new/deep/er", "/new/deep/er/x"} <= scene.paths()


def test_scan_touched_folder_outside_of_all_sources_is_nothing(scene: Scene, tmp_path: Path) -> None:
    scene.scan()
    assert counts(scene.scan(folders=[os.fsencode(tmp_path), b"/nowhere"])) == (0, 0, 0, 0)


# --- stopping, simulating, dying -------------------------------------------------------------------------------------


def test_scan_simulated_reports_and_changes_nothing(scene: Scene) -> None:
    changed = scene.write("changed")
    scene.write("gone")
    scene.scan()
    before = list(scene.catalogue.files.restore_entries(b"/"))
    _grow(changed)
    (scene.real / "gone").unlink()
    scene.write("new").chmod(0o640)
    generation = scene.catalogue.generation()
    finished = scene.scan(simulate=True)
    assert counts(finished) == (1, 2, 1, 0)
    assert finished.hashed_bytes == len("changed") + 4 + len("new")
    assert scene.tree.hashed == []
    assert list(scene.catalogue.files.restore_entries(b"/")) == before
    assert scene.catalogue.generation() == generation
    assert counts(scene.scan()) == (1, 2, 1, 2)


@pytest.mark.parametrize("files", [0, 1, 25, 60])
def test_scan_stopped_while_hashing_goes_on_without_reading_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    monkeypatch.setattr(hashing, "_PAGE_FILES", 20)
    for number in range(100):
        scene.write(f"{number % 7}/{number}", f"content {number}")
    with pytest.raises(Interrupted):
        scene.scan(StopWhen(lambda: len(scene.tree.hashed) >= files and "hashing" in scene.reporter.activities))
    stored = {entry.path for entry in scene.catalogue.files.restore_entries(b"/") if entry.digest}
    read = set(scene.tree.hashed)
    assert len(stored) == len(read) < 100
    scene.scan()
    assert not read & set(scene.tree.hashed)
    assert len(scene.tree.hashed) == 100 - len(read)
    assert scene.digest("/3/3") == sha256("content 3")


def test_scan_stopped_while_walking_goes_on(scene: Scene) -> None:
    for number in range(50):
        scene.write(f"{number}/file")
    visited: list[bytes] = []
    scene.tree.before_list = visited.append
    with pytest.raises(Interrupted):
        scene.scan(StopWhen(lambda: len(visited) > 20))
    scene.scan()
    assert len(scene.paths()) == 100


_KILLED = """
import os, signal, sys
from pathlib import Path
from distbackupd.engine import hashing
from tests.unit.engine.scenes import scene_at
hashing._PAGE_FILES = 20
with scene_at(Path(sys.argv[1])) as scene:
    def die_in_time(path):
        if len(scene.tree.hashed) >= int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    scene.tree.before_hash = die_in_time
    scene.scan()
"""


@pytest.mark.parametrize("files", [10, 70])
def test_scan_killed_goes_on_without_reading_what_was_stored(tmp_path: Path, files: int) -> None:
    with scene_at(tmp_path) as scene:
        for number in range(100):
            scene.write(f"{number % 7}/{number}", f"content {number}")
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), str(files)], cwd=root, check=False)
    assert killed.returncode == -9
    with scene_at(tmp_path) as scene:
        stored = {entry.path for entry in scene.catalogue.files.restore_entries(b"/") if entry.digest}
        assert len(stored) >= files - 20
        scene.scan()
        assert {path.removeprefix(os.fsencode(scene.real)) for path in scene.tree.hashed}.isdisjoint(stored)
        assert len(scene.tree.hashed) == 100 - len(stored)
        assert len([path for path in scene.paths() if scene.digest(path)]) == 100
