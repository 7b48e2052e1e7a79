"""One entry never ends a scan: what it is, or whatever its file system says of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbackupd.engine.overview import idle_sentence, overview, protection
from distbackupd.model.errors import SourceTrouble
from distbackupd.model.events import FileSkipped, SourceLocked
from distbackupd.model.files import ProblemKind
from distbackupd.model.problems import Problem, Unread
from distbackupd.model.sources import RealPath
from distbackupd.sources import tree
from tests.bed.loop_disks import mounted_at
from tests.unit.engine.scenes import Scene, scene_at, sha256

UNREAD, INEXACT, NOT_KEPT, *_ = ProblemKind


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


def problems(scene: Scene) -> dict[bytes, Problem]:
    return {problem.path: problem for problem in scene.catalogue.problems.listing(b"/")}


class Odd:
    """What ``os.stat`` says, but for some fields."""

    def __init__(self, state: os.stat_result, **odd: int) -> None:
        self._state = state
        self.__dict__.update(odd)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


def make_odd(monkeypatch: pytest.MonkeyPatch, path: Path, **odd: int) -> None:
    """The file system says so of what lies there, to whoever asks."""
    inode = path.lstat().st_ino
    ask, ask_open = os.stat, os.fstat

    def answer(state: os.stat_result) -> Any:
        return Odd(state, **odd) if state.st_ino == inode else state

    monkeypatch.setattr(tree.os, "stat", lambda *words, **more: answer(ask(*words, **more)))
    monkeypatch.setattr(tree.os, "fstat", lambda descriptor: answer(ask_open(descriptor)))


@pytest.mark.parametrize(
    "odd",
    [
        {"st_mtime_ns": 2**63},
        {"st_mtime_ns": -(2**63) - 1},
        {"st_mtime_ns": 2**70, "st_ctime_ns": 2**70},
        {"st_ino": 2**64 - 1},
        {"st_dev": 2**63 + 7},
        {"st_uid": 2**32 - 1, "st_gid": 2**32 - 1},
    ],
)
def test_any_number_of_an_entry_is_recorded_and_read_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, odd: dict[str, int]
) -> None:
    make_odd(monkeypatch, scene.write("odd"), **odd)
    scene.write("plain")
    assert scene.scan().skipped == 0
    assert (scene.digest("/odd"), scene.digest("/plain")) == (sha256("odd"), sha256("plain"))
    assert list(problems(scene)) == ([b"/odd"] if "st_mtime_ns" in odd else [])
    scene.scan()
    assert scene.tree.hashed == [], "what had to be made to fit is still the same"
    disk = scene.add_disk("one")
    assert scene.back_up(disk).copied_objects == 2
    scene.assert_true(disk)


def test_a_time_that_does_not_fit_is_listed_as_inexact(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    make_odd(monkeypatch, scene.write("odd"), st_mtime_ns=2**63)
    scene.scan()
    found = problems(scene)[b"/odd"]
    assert (found.kind, found.reason) == (
        INEXACT,
        "its time is before 1677 or after 2262, so the nearest one within is kept",
    )
    assert scene.reporter.told(FileSkipped) == []
    monkeypatch.undo()
    scene.scan()
    assert problems(scene) == {}


def test_a_socket_is_listed_and_makes_no_noise(scene: Scene) -> None:
    os.mknod(scene.real / "socket", 0o600 | stat.S_IFSOCK)
    scene.write("a")
    assert scene.scan().skipped == scene.scan().skipped == 0
    assert scene.reporter.told(FileSkipped) == []
    assert problems(scene)[b"/socket"].kind is NOT_KEPT
    assert overview(scene.bench).unread == Unread()
    (scene.real / "socket").unlink()
    scene.scan()
    assert problems(scene) == {}


@pytest.mark.parametrize("error", [ValueError("embedded null"), OverflowError("int"), UnicodeError("no"), OSError(5, "EIO")])
def test_an_unexpected_error_of_one_entry_skips_only_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    scene.write("bad", "before")
    scene.write("good", "before")
    scene.scan()
    describe = scene.tree._describer.entry_in

    def fail(folder: int, name: bytes, *rest: Any) -> Any:
        if name == b"bad":
            raise error
        return describe(folder, name, *rest)

    scene.write("good", "after it")
    monkeypatch.setattr(scene.tree._describer, "entry_in", fail)
    assert scene.scan().skipped == 1
    assert scene.digest("/good") == sha256("after it")
    assert scene.digest("/bad") == sha256("before"), "stays as it was known"
    found = problems(scene)[b"/bad"]
    assert (found.kind, found.kept) == (UNREAD, True)
    assert found.reason.startswith("cannot be read: ")


def test_an_unexpected_error_of_reading_skips_only_that_file(scene: Scene) -> None:
    scene.write("bad")
    scene.write("good")

    def fail(path: bytes) -> None:
        if path.endswith(b"bad"):
            raise OverflowError("too large")

    scene.tree.before_hash = fail
    assert scene.scan().skipped == 1
    assert scene.paths() == {"/good"}
    assert problems(scene)[b"/bad"][1:6] == (UNREAD, 3, scene.clock.now(), 1, "it cannot be read: OverflowError, too large")
    scene.tree.before_hash = lambda _path: None
    scene.scan()
    assert problems(scene) == {}


def test_a_folder_that_cannot_be_looked_into_is_listed_until_it_can(scene: Scene) -> None:
    scene.write("closed/a")
    scene.write("open/b")
    scene.scan()

    def fail(path: bytes) -> None:
        if path.endswith(b"closed"):
            raise SourceTrouble("it cannot be listed: Permission denied")

    scene.tree.before_list = fail
    scene.write("open/c")
    for _ in range(2):
        assert scene.scan().locked == 1
    assert scene.paths() == {"/closed", "/closed/a", "/open", "/open/b", "/open/c"}
    assert problems(scene)[b"/closed"][4:7] == (2, "it cannot be listed: Permission denied", True)
    assert protection(scene.bench).unread == Unread(0, 0, 1)
    assert len(scene.reporter.told(SourceLocked)) == 2
    scene.tree.before_list = lambda _path: None
    scene.scan()
    assert problems(scene) == {}


def test_what_is_unread_counts_as_without_a_copy_and_is_said(scene: Scene) -> None:
    scene.write("kept", "version one")
    scene.scan()
    disk = scene.add_disk("one")
    scene.back_up(disk)

    def fail(path: bytes) -> None:
        raise SourceTrouble("it cannot be read: Input/output error")

    scene.tree.before_hash = fail
    scene.write("kept", "version two!")
    scene.write("new", "never read")
    assert scene.scan().skipped == 2
    state = overview(scene.bench)
    assert state.by_copies == {0: (2, 22, 0), 1: (1, 11, 0)}
    assert state.wanted is None, "no disk would help"
    assert idle_sentence(protection(scene.bench)) == (
        "idle; 33 bytes on 1 disk: 22 bytes without a copy, 11 bytes with one copy; 2 files, 22 bytes, have no copy of "
        "their present content because they could not be read; 'dsb ls --problems' names them; no disk has room for the "
        "11 bytes that have one copy only: add one"
    )
    assert {path: (item.kept, item.tries) for path, item in problems(scene).items()} == {
        b"/kept": (True, 1),
        b"/new": (False, 1),
    }
    (scene.real / "new").unlink()
    scene.scan()
    assert {path: item.tries for path, item in problems(scene).items()} == {b"/kept": 2}
    scene.tree.before_hash = lambda _path: None
    scene.scan(folders=[bytes(scene.real)])
    assert problems(scene) == {}


def test_a_file_that_changes_while_it_is_read_is_one_try_a_scan(scene: Scene) -> None:
    path = scene.write("log")
    scene.write("quiet")
    scene.tree.before_hash = lambda real: path.write_bytes(path.read_bytes() + b"!") if real.endswith(b"log") else None
    scene.scan()
    assert problems(scene)[b"/log"][4:] == (1, "it changed while it was read", False, False)
    assert scene.paths() == {"/quiet"}


def test_problems_leave_with_their_folders_and_sources(scene: Scene) -> None:
    for name in ("a/b/c", "d"):
        scene.write(name)
    os.mknod(scene.real / "a/b/socket", 0o600 | stat.S_IFSOCK)
    os.mknod(scene.real / "socket", 0o600 | stat.S_IFSOCK)
    scene.scan()
    assert set(problems(scene)) == {b"/a/b/socket", b"/socket"}
    scene.set(b"/a", hide=True)
    scene.scan()
    assert set(problems(scene)) == {b"/socket"}
    scene.catalogue.sources.unmap(b"/")
    scene.scan()
    assert problems(scene) == {}


def test_sizes_up_to_the_largest_never_end_a_scan(tmp_path: Path) -> None:
    with mounted_at("tmpfs", tmp_path / "big", "-t", "tmpfs"), scene_at(tmp_path) as scene:
        scene.map(b"/", tmp_path / "big")
        for name in ("one", "two"):
            with (tmp_path / "big" / name).open("wb") as file:
                file.truncate(2**63 - 4096)
        (tmp_path / "big" / "plain").write_bytes(b"plain")
        assert scene.scan().skipped == 2
        assert scene.digest("/plain") == sha256("plain")
        assert problems(scene)[b"/one"].reason == "it says that it has 9.22 EB, more than any disk holds"
        assert overview(scene.bench).unread.files == 2


NUMBER = st.integers(0, 2**64 - 1)
TIME = st.integers(-(2**80), 2**80)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mtime_ns=TIME, ctime_ns=TIME, inode=NUMBER, device=NUMBER, rdev=NUMBER, owner=st.integers(0, 2**32 - 1), links=NUMBER)
def test_whatever_a_file_system_says_of_an_entry_fits_and_is_the_same_the_next_time(
    tmp_path: Path, mtime_ns: int, ctime_ns: int, inode: int, device: int, rdev: int, owner: int, links: int
) -> None:
    path = tmp_path / "odd"
    if not path.exists():
        path.write_bytes(b"odd")
    said = {"st_mtime_ns": mtime_ns, "st_ctime_ns": ctime_ns, "st_ino": inode, "st_dev": device, "st_rdev": rdev}
    with pytest.MonkeyPatch.context() as patch:
        make_odd(patch, path, **said, st_uid=owner, st_gid=owner, st_nlink=links)
        looks = [list(tree.FolderTree().list_folder(RealPath(bytes(tmp_path)), lambda _name: 1, False)) for _ in range(2)]
        assert looks[0] == looks[1]
        (((entry,), problems, _, _),) = looks[0]
        descriptor = tree.FolderTree().open_file(RealPath(bytes(path)), entry.size, entry.mtime_ns, entry.inode)
        os.close(descriptor)
    numbers = [value for value in (*entry, *entry.attributes) if isinstance(value, int)]
    assert all(-(2**63) <= number < 2**63 for number in numbers)
    assert [problem.kind for problem in problems] == [INEXACT] * (not -(2**63) <= mtime_ns < 2**63)
