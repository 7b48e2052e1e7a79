"""Who owns a part of a source changes it between two looks: nothing comes into the backup that he could not read himself.

Each attack is played at the very moment at which it works, by the hooks of a tree that is watched.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distbackupd import beneath, streams
from distbackupd.model.errors import SourceChanged, SourceTrouble
from distbackupd.model.events import FileSkipped, Remark, SourceLocked
from distbackupd.model.files import ProblemKind
from distbackupd.model.sources import RealPath
from distbackupd.sources.folders import OpenFolders
from tests.unit.engine.scenes import Scene, scene_at, sha256
from tests.unit.engine.test_restless import Log

SECRET = "root's secret"


@pytest.fixture(params=["as the machine has it", "name by name"], autouse=True)
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the daemon's sandbox the kernel's own call is not to be had."""
    monkeypatch.setattr(beneath, "_is_to_be_had", None if request.param == "as the machine has it" else False)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        (closed / "file").write_text(SECRET)
        (closed / "more").write_text(SECRET)
        yield opened


def exchange_for_link(path: Path, target: Path) -> None:
    path.rename(path.with_name(path.name + " was here"))
    path.symlink_to(target)


def once(work: Callable[[], object]) -> Callable[[bytes], None]:
    """A hook that works at the first call only."""
    left = [work]
    return lambda _path: left.pop()() if left else None  # type: ignore[func-returns-value]


def when(path: Path, work: Callable[[], object]) -> Callable[[bytes], None]:
    """A hook that works when this path is met, once."""
    first = once(work)
    return lambda met: first(met) if met == os.fsencode(path) else None


def secrets_known(scene: Scene) -> bool:
    return any(entry.digest == sha256(SECRET) for entry in scene.catalogue.files.restore_entries(b"/"))


def test_a_folder_that_becomes_a_link_between_listing_and_visit_is_not_followed(scene: Scene) -> None:
    scene.write("shared/his/file", "his")
    his = scene.real / "shared" / "his"
    scene.tree.before_list = when(his, lambda: exchange_for_link(his, scene.place / "closed"))
    scene.scan()
    assert not secrets_known(scene)
    assert scene.paths() == {"/shared", "/shared/his"}
    assert [event.path for event in scene.reporter.told(SourceLocked)] == [b"/shared/his"]
    scene.scan()
    assert not secrets_known(scene)
    assert "/shared/his was here/file" in scene.paths(), "nothing is kept from the backup for long"


def test_a_folder_above_that_becomes_a_link_is_not_followed(scene: Scene) -> None:
    scene.write("shared/his/deep/file", "his")
    (scene.place / "closed" / "deep").mkdir()
    (scene.place / "closed" / "deep" / "file").write_text(SECRET)
    his = scene.real / "shared" / "his"
    scene.tree.before_list = when(his / "deep", lambda: exchange_for_link(his, scene.place / "closed"))
    scene.scan()
    assert not secrets_known(scene)


def test_a_folder_that_becomes_another_folder_is_not_taken_for_it(scene: Scene) -> None:
    scene.write("shared/his/file", "his")
    scene.write("shared/closed/file", SECRET)
    shared = scene.real / "shared"
    (shared / "closed").chmod(0o700)
    scene.set(b"/shared/closed", hide=True)

    def exchange() -> None:
        (shared / "his").rename(shared / "his was here")
        (shared / "closed").rename(shared / "his")

    scene.tree.before_list = when(shared / "his", exchange)
    scene.scan()
    assert "/shared/his/file" not in scene.paths(), "what was in the closed folder would be in his open one"
    assert not secrets_known(scene)


def test_a_file_whose_folder_becomes_a_link_before_it_is_read_is_not_read(scene: Scene) -> None:
    path = scene.write("his/file", "x" * len(SECRET))
    secret = scene.place / "closed" / "file"
    os.utime(secret, ns=(0, path.stat().st_mtime_ns))
    scene.tree.before_hash = once(lambda: exchange_for_link(scene.real / "his", scene.place / "closed"))
    scene.scan()
    assert not secrets_known(scene)


def test_a_file_that_becomes_a_link_before_it_is_read_is_not_read(scene: Scene) -> None:
    path = scene.write("his", "x" * len(SECRET))
    scene.tree.before_hash = once(lambda: exchange_for_link(path, scene.place / "closed" / "file"))
    scene.scan()
    assert not secrets_known(scene)


@pytest.mark.needs("root")
@pytest.mark.parametrize("what", ["device", "owner", "inode"])
def test_a_file_that_is_another_one_in_just_one_respect_is_not_read(scene: Scene, what: str) -> None:
    path = scene.write("file", "his")
    state = path.stat()
    told = {"device": state.st_dev, "owner": state.st_uid, "inode": state.st_ino}
    told[what] += 1
    with pytest.raises(SourceChanged):
        scene.tree.open_file(
            RealPath(os.fsencode(path)), 3, state.st_mtime_ns, told["inode"], 0, told["device"], told["owner"]
        )


def test_a_session_copies_nothing_through_a_link(scene: Scene) -> None:
    """A file that never rests is copied as it is then, so no hash betrays the exchange."""
    log = Log(scene)
    for _ in range(3):
        scene.scan()
    assert [entry.restless for entry in scene.catalogue.files.listing(b"/log")] == [True]
    log.written = False
    exchange_for_link(log.path, scene.place / "closed" / "file")
    disk = scene.add_disk("one")
    scene.back_up(disk)
    assert not secrets_known(scene)
    assert all(digest != sha256(SECRET) for store in scene.stores.values() for digest, _ in store.objects())


@pytest.mark.needs("root")
def test_a_session_takes_no_file_of_somebody_else_in_the_place_of_one_that_never_rests(scene: Scene) -> None:
    path = scene.write("log", "his")
    opened = scene.tree.open_as_it_is(RealPath(os.fsencode(path)), path.stat().st_uid)
    scene.tree.close_file(opened.descriptor)
    os.chown(path, 1234, 1234)
    with pytest.raises(SourceChanged):
        scene.tree.open_as_it_is(RealPath(os.fsencode(path)), 0)


def test_links_are_followed_where_that_was_asked_for_and_nowhere_below(scene: Scene) -> None:
    elsewhere = scene.place / "elsewhere"
    (elsewhere / "below").mkdir(parents=True)
    (elsewhere / "below" / "file").write_text("wanted")
    (elsewhere / "below" / "link").symlink_to(scene.place / "closed")
    scene.write("links/plain", "plain")
    (scene.real / "links" / "to").symlink_to(elsewhere)
    (scene.real / "links" / "one").symlink_to(elsewhere / "below" / "file")
    scene.set(b"/links", follow_symlinks=True)
    for _ in range(2):
        scene.scan()
        assert scene.digest("/links/to/below/file") == scene.digest("/links/one") == sha256("wanted")
        assert not secrets_known(scene)
    disk = scene.add_disk("one")
    scene.back_up(disk)
    scene.assert_true(disk)


def test_another_folders_attributes_do_not_become_those_of_a_file(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = scene.write("file", "his"), scene.place / "other"
    other.write_text("another one")
    os.setxattr(other, "user.secret", b"value")
    ask = os.listxattr

    def exchanged(asked: bytes, **more: bool) -> list[str]:
        if asked.endswith(b"/file") and other.exists():
            other.rename(path)
        return ask(asked, **more)

    monkeypatch.setattr(os, "listxattr", exchanged)
    assert scene.scan().skipped == 1
    assert scene.paths() == set()


# --- how much one may make us do -------------------------------------------------------------------------------------


def test_a_tree_far_deeper_than_descriptors_go_is_walked_and_copied(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    depth, name = 400, "d" * 20
    here = os.open(scene.real, os.O_PATH)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    descriptor = os.open("file", os.O_WRONLY, dir_fd=here)
    os.write(descriptor, b"at the bottom")
    os.close(descriptor)
    os.close(here)
    most = [0]
    keep = OpenFolders._keep

    def watched(*words: object) -> int:
        most[0] = max(most[0], len(os.listdir("/proc/self/fd")))
        return keep(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenFolders, "_keep", watched)
    before = len(os.listdir("/proc/self/fd"))
    scene.scan()
    assert scene.digest(f"/{name}" * depth + "/file") == sha256("at the bottom")
    assert most[0] < before + 120
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    disk = scene.add_disk("one")
    assert scene.back_up(disk).copied_objects == 1
    scene.assert_true(disk)
    # What clears up behind the tests does not get so deep.
    subprocess.run(["rm", "-rf", scene.real / name], check=True)


def test_thousands_of_bad_side_files_are_some_lines_and_all_in_the_list(scene: Scene) -> None:
    for number in range(60):
        scene.write(f"file{number}", "content")
        scene.write(f"file{number}.meta-inf", "{")
    for _ in range(2):
        scene.reporter.events.clear()
        assert scene.scan().skipped == 60
        assert len(scene.reporter.told(FileSkipped)) == 20
        assert "40 files were skipped beside those named above; 'dsb ls --problems' lists" in scene.reporter.sentences()
    listed = list(scene.catalogue.problems.listing(b"/"))
    assert len(listed) == 60
    assert {problem.kind for problem in listed} == {ProblemKind.SIDE_FILE}


def test_a_folder_of_many_names_is_described_in_parts_and_compared_as_a_whole(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distbackupd.sources.tree._PART", 3)
    for name in "abcdefgh":
        scene.write(f"many/{name}")
        scene.write(f"many/folder {name}/below")
    scene.scan()
    every = scene.paths()
    assert len(every) == 1 + 3 * 8
    assert scene.scan().changed == 0
    for name in "adh":
        (scene.real / "many" / name).unlink()
    scene.write("many/e", "changed")
    scene.write("many/zz")
    finished = scene.scan()
    assert (finished.new, finished.changed, finished.gone) == (1, 2, 3), "with the folder itself"
    assert scene.paths() == (every - {"/many/a", "/many/d", "/many/h"}) | {"/many/zz"}


# --- folders that somebody else would have left out ------------------------------------------------------------------


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("mode", "group", "owner", "links", "counts"),
    [
        (0o755, 77, 1000, 1, True),
        (0o755, 77, 0, 1, True),
        (0o755, 77, 1001, 1, False),
        (0o1777, 77, 1000, 1, True),
        (0o1777, 77, 1001, 1, False),
        (0o1777, 77, 1000, 2, False),
        (0o777, 77, 1000, 1, False),
        (0o777, 77, 0, 1, False),
        (0o775, 77, 1000, 1, False),
        (0o775, 1000, 1000, 1, True),
    ],
)
def test_a_skip_marker_counts_only_if_the_owner_himself_must_have_put_it_there(
    scene: Scene, mode: int, group: int, owner: int, links: int, counts: bool
) -> None:
    scene.write("shared/file")
    shared = scene.real / "shared"
    os.chown(shared, 1000, group)
    shared.chmod(mode)
    marker = shared / ".distbackup.skip"
    marker.touch()
    os.chown(marker, owner, owner)
    if links == 2:
        os.link(marker, scene.place / "another name")
    scene.scan()
    assert ("/shared/file" in scene.paths()) != counts
    problems = [(item.path, item.kind, item.folder) for item in scene.catalogue.problems.listing(b"/")]
    assert problems == ([(b"/shared", ProblemKind.LEFT_OUT, True)] if counts else [])
    assert len(scene.reporter.told(Remark)) == (not counts)
    scene.scan()
    marker.unlink()
    scene.scan()
    assert "/shared/file" in scene.paths()
    assert list(scene.catalogue.problems.listing(b"/")) == []


# --- the door itself -------------------------------------------------------------------------------------------------


def test_open_folders_never_follows_what_lies_below_and_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "root" / "below").mkdir(parents=True)
    (tmp_path / "root" / "below" / "file").write_text("x")
    (tmp_path / "root" / "link").symlink_to("below")
    (tmp_path / "root" / "below" / "link").symlink_to("file")
    (tmp_path / "to root").symlink_to("root")
    root = os.fsencode(tmp_path / "to root")
    before = set(os.listdir("/proc/self/fd"))
    folders = OpenFolders()
    for kept in (False, True):
        with folders.kept() if kept else contextlib.nullcontext():
            os.close(folders.open(RealPath(root, b"below/file"), os.O_RDONLY))
            os.close(folders.open_folder(RealPath(root, b"below")))
            for below in (b"link", b"link/file", b"below/link"):
                with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
                    os.close(folders.open(RealPath(root, below), os.O_RDONLY))
    assert set(os.listdir("/proc/self/fd")) == before


def test_identify_of_what_lies_behind_a_link_is_nothing(scene: Scene) -> None:
    scene.write("his/file")
    exchange_for_link(scene.real / "his", scene.place / "closed")
    assert scene.tree.identify(RealPath(os.fsencode(scene.real), b"his/file")) is None
    with pytest.raises(SourceTrouble):
        scene.tree.names(RealPath(os.fsencode(scene.real), b"his"))


# --- files that are holes --------------------------------------------------------------------------------------------


def hollow(scene: Scene, name: str, size: int) -> Path:
    path = scene.write(name, "begins")
    os.truncate(path, size)
    return path


def test_holes_of_one_owner_beyond_what_a_scan_hashes_are_told_and_others_files_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distbackupd.engine.scan.MOST_HOLES", 50 << 20)
    hollow(scene, "small", 20 << 20)
    hollow(scene, "giant", 15 << 40)
    os.chown(hollow(scene, "of somebody else", 40 << 20), 1234, 1234)
    scene.write("plain")
    assert scene.scan().skipped == 1
    assert {os.path.basename(path) for path in scene.tree.hashed} == {b"small", b"of somebody else", b"plain"}
    (problem,) = scene.catalogue.problems.listing(b"/")
    assert (problem.path, problem.kind, problem.size) == (b"/giant", ProblemKind.UNREAD, 15 << 40)
    assert "more holes than are read" in problem.reason
    (scene.real / "giant").unlink()
    assert scene.scan().skipped == 0
    assert list(scene.catalogue.problems.listing(b"/")) == []


def test_a_scan_of_what_was_touched_hashes_few_holes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbackupd.engine.scan.FEW_HOLES", 10 << 20)
    scene.write("plain")
    scene.scan()
    hollow(scene, "hollow", 20 << 20)
    assert scene.scan(folders=[os.fsencode(scene.real)]).skipped == 1
    assert scene.scan().hashed == 1, "a disk that waits has got its copies by then"


def test_a_file_that_is_deleted_while_it_is_hashed_is_left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hollow(scene, "giant", 1 << 40)
    monkeypatch.setattr("distbackupd.streams.LOOK", 1 << 20)
    read = [0]
    find_hole = streams._hole_at

    def watched(*words: int) -> int:
        read[0] += 1
        if read[0] == 5:
            path.unlink()
        return find_hole(*words)

    monkeypatch.setattr(streams, "_hole_at", watched)
    assert scene.scan().hashed == 0
    assert read[0] < 10


@pytest.mark.parametrize("data", [[], [(0, 5)], [(3 << 20, 4096)], [(0, 4096), ((5 << 20) - 100, 200), ((9 << 20) - 3, 3)]])
def test_holes_are_hashed_as_what_they_are(scene: Scene, data: list[tuple[int, int]]) -> None:
    path = scene.real / "hollow"
    with path.open("wb") as file:
        file.truncate(9 << 20)
        for offset, size in data:
            file.seek(offset)
            file.write(os.urandom(size))
    scene.scan()
    assert scene.digest("/hollow") == sha256(path.read_bytes())


@pytest.mark.needs("root")
def test_attributes_that_only_the_mightiest_see_are_left_out(scene: Scene) -> None:
    path = scene.write("file")
    os.setxattr(path, "trusted.overlay.opaque", b"y")
    os.setxattr(path, "user.name", b"value")
    scene.scan()
    (entry,) = scene.catalogue.files.restore_entries(b"/file")
    assert entry.attributes.xattrs == ((b"user.name", b"value"),)
