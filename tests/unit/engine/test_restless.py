"""Files that never rest: after two scans in vain they are taken as they are, and each disk gets what it could read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd.engine.overview import overview
from distbackupd.model.files import EntryFlag, ProblemKind
from distbackupd.model.problems import Unread
from distbackupd.store.folder_store import FolderStore
from distbackupd.streams import CHUNK
from tests.unit.engine.scenes import Scene, scene_at, sha256


class Log:
    """``/log`` grows whenever the scan, or a session, is about to read it."""

    def __init__(self, scene: Scene) -> None:
        self.path = scene.write("log", "begin")
        self.written = True
        tree = scene.tree
        take, open_file = tree.take_file, tree.open_as_it_is
        tree.before_hash = self.write
        self.reads = 0

        def take_file(real, waiting, pulse):
            self.reads += 1
            return take(real, waiting, pulse)

        def open_as_it_is(real, owner=None):
            opened = open_file(real, owner)
            self.write(real.path)
            return opened

        tree.take_file, tree.open_as_it_is = take_file, open_as_it_is

    def write(self, real: bytes) -> None:
        if self.written and real.endswith(b"log"):
            with self.path.open("ab") as file:
                file.write(b"!")
            later = self.path.stat().st_mtime_ns + 1_000_000
            os.utime(self.path, ns=(later, later))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


@pytest.fixture
def log(scene: Scene) -> Log:
    return Log(scene)


def marked(scene: Scene) -> dict[bytes, bool]:
    return {entry.path: entry.restless for entry in scene.catalogue.files.listing(b"/") if entry.path != b"/"}


def content(scene: Scene) -> bytes:
    """What the catalogue says that the log holds."""
    digest = scene.digest("/log")
    text = b"begin" + b"!" * 100
    return next(text[:size] for size in range(106) if sha256(text[:size]) == digest)


def test_scan_takes_it_as_it_is_the_third_time(scene: Scene, log: Log) -> None:
    scene.write("quiet")
    for _ in range(2):
        assert scene.scan().skipped == 1
        assert marked(scene) == {b"/quiet": False}
        assert overview(scene.bench).unread.files == 1
    assert scene.scan().skipped == 0
    assert marked(scene) == {b"/log": True, b"/quiet": False}
    assert overview(scene.bench).unread == Unread()
    assert log.path.read_bytes() == content(scene) + b"!"


def test_scan_of_what_was_touched_does_not_read_it_again_and_again(scene: Scene, log: Log) -> None:
    folder = [bytes(scene.real)]
    for _ in range(2):
        scene.scan(folders=folder)
    for _ in range(3):
        assert scene.scan(folders=folder).skipped == 0
        assert (scene.tree.hashed, log.reads) == ([], 0)
    assert overview(scene.bench).unread.files == 1, "it has no copy still"
    scene.scan()
    assert log.reads == 1
    known = content(scene)
    log.write(b"log")
    scene.scan(folders=folder)
    assert (log.reads, content(scene)) == (1, known)
    scene.scan()
    assert (log.reads, content(scene) > known) == (2, True)


@pytest.mark.parametrize("changed", [False, True])
def test_scan_that_finds_it_at_rest_takes_the_mark_away(scene: Scene, log: Log, changed: bool) -> None:
    for _ in range(3):
        scene.scan()
    if changed:
        log.write(b"log")
    log.written = False
    scene.scan()
    assert marked(scene) == {b"/log": False}
    assert content(scene) == log.path.read_bytes()
    scene.scan()
    assert (log.reads, scene.tree.hashed) == (2, []), "it is a file like any other now"
    disk = scene.add_disk("one")
    scene.back_up(disk)
    scene.assert_complete(disk)


def test_session_records_what_it_could_copy(scene: Scene, log: Log) -> None:
    scene.write("quiet")
    for _ in range(3):
        scene.scan()
    planned = content(scene)
    log.write(b"log")
    one, two = scene.add_disk("one"), scene.add_disk("two")
    scene.clock.pass_time(10)
    done = scene.back_up(one)
    assert (done.copied_objects, done.skipped) == (2, 0)
    assert marked(scene) == {b"/log": True, b"/quiet": False}
    scene.assert_complete(one)
    assert content(scene) == planned, "no more than was planned, for so much room was made"
    log.path.write_bytes(b"bigin!!!!!!!!!!!!")
    assert scene.back_up(two).copied_objects == 2
    scene.assert_true(two)
    assert scene.digest("/log") == sha256(b"bigin!!!!!!!!!!!!"[: len(planned)])
    assert overview(scene.bench).by_copies.keys() == {1, 2}, "the log's present version is on one disk only"
    assert [version.restless for version in scene.catalogue.history.versions(b"/log")][-2:] == [True, True]


def test_session_what_was_planned_and_lies_nowhere_is_no_debt(scene: Scene, log: Log) -> None:
    for _ in range(3):
        scene.scan()
    log.path.write_bytes(b"other")
    one = scene.add_disk("one")
    scene.back_up(one)
    assert overview(scene.bench).by_copies == {1: (1, 5, 0)}
    assert scene.back_up(one).copied_objects == 0
    log.written = False
    scene.scan()
    scene.back_up(one)
    scene.assert_true(one)
    assert scene.digest("/log") == sha256(log.path.read_bytes())


def test_session_on_a_disk_that_goes_away_at_any_moment_keeps_every_promise(tmp_path: Path) -> None:
    for number in range(1, 12):
        place = tmp_path / str(number)
        place.mkdir()
        with scene_at(place) as scene:
            log = Log(scene)
            for _ in range(3):
                scene.scan()
            log.path.write_bytes(b"other")
            one = scene.add_disk("one")
            store = scene.store(one)
            store.fail_at = store.operations + number
            try:
                scene.back_up(one)
            except Exception:  # noqa: BLE001 - whatever the disk's going makes of it
                store.power_cut()
            store.mend()
            scene.assert_true(one)
            scene.back_up(one)
            scene.assert_true(one)
            assert len(scene.held(one)) >= 1
            assert scene.digest("/log") in scene.held(one)


def test_session_a_file_that_is_empty_now_is_skipped(scene: Scene, log: Log) -> None:
    for _ in range(3):
        scene.scan()
    log.path.write_bytes(b"")
    one = scene.add_disk("one")
    done = scene.back_up(one)
    assert (done.copied_objects, done.skipped) == (0, 1)
    scene.scan()
    assert marked(scene) == {b"/log": False}


def test_session_two_restless_files_of_one_content_are_one_object(scene: Scene, log: Log) -> None:
    for _ in range(3):
        scene.scan()
    planned = len(content(scene))
    scene.write("same", b"x" * planned)
    scene.scan()
    log.path.write_bytes(b"x" * len(content(scene)))
    log.written = False
    one = scene.add_disk("one")
    scene.back_up(one)
    scene.assert_true(one)
    assert scene.digest("/log") in scene.held(one)


def test_names_of_a_restless_inode_stay_names_of_one_content(scene: Scene, log: Log) -> None:
    os.link(log.path, scene.real / "other name")
    for _ in range(6):
        scene.scan()
    assert marked(scene) == {b"/log": True, b"/other name": True}
    assert scene.digest("/log") == scene.digest("/other name")
    log.path.write_bytes(b"else")
    one = scene.add_disk("one")
    scene.back_up(one)
    assert scene.digest("/log") == scene.digest("/other name") == sha256("else")


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17])
def test_large_and_small_ones_are_copied_to_a_real_disk(scene: Scene, tmp_path: Path, size: int) -> None:
    log = Log(scene)
    log.path.write_bytes(os.urandom(size))
    for _ in range(3):
        scene.scan()
    assert (scene.catalogue.files.sources_of([1])[0].restless, scene.catalogue.files.sources_of([1])[0].size > 0) == (
        True,
        True,
    )
    log.path.write_bytes(os.urandom(size + 100))
    (tmp_path / "disk").mkdir()
    one = scene.add_disk("one", FolderStore(bytes(tmp_path / "disk"), "ext4"))
    assert scene.back_up(one).copied_objects == 1
    scene.assert_complete(one)


def test_a_restless_file_is_never_taken_for_rotten_or_renamed(scene: Scene, log: Log) -> None:
    for _ in range(3):
        scene.scan()
    assert scene.catalogue.rot.to_read(0, 10) == []
    state = log.path.stat()
    log.written = False
    log.path.rename(scene.real / "old log")
    os.utime(scene.real / "old log", ns=(state.st_atime_ns, state.st_mtime_ns))
    scene.scan()
    assert scene.digest("/old log") == sha256((scene.real / "old log").read_bytes())
    assert EntryFlag.RESTLESS not in next(iter(scene.catalogue.files.restore_entries(b"/old log"))).flags


def test_a_file_at_rest_in_scans_and_another_one_in_each_session_is_copied_the_third_time(scene: Scene) -> None:
    log = scene.write("log", "begin")
    one = scene.add_disk("one")
    problems = scene.catalogue.problems
    for number in range(2):
        scene.scan()
        log.write_bytes(b"begin" + b"!" * (number + 1))
        assert scene.back_up(one).skipped == 1
        (told,) = problems.listing(b"/")
        assert (told.path, told.kind, told.tries) == (b"/log", ProblemKind.UNCOPIED, number + 1)
        assert overview(scene.bench).by_copies == {0: (1, 5 + number, 0)}, "counted once"
    for number in range(2, 5):
        scene.scan()
        log.write_bytes(b"bogin" + b"!" * (number - 1) + b"#" * number)
        assert scene.back_up(one).skipped == 0
        scene.assert_true(one)
        assert overview(scene.bench).by_copies.keys() == {1}
        assert list(problems.listing(b"/")) == []
        assert scene.digest("/log") in scene.held(one)
    scene.scan()
    scene.back_up(one)
    scene.scan()
    assert marked(scene) == {b"/log": False}
    assert scene.digest("/log") == sha256(log.read_bytes())
    log.unlink()
    scene.scan()
    assert scene.catalogue.files.sources_of([1, 2, 3]) == []
