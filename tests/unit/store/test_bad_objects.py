"""One bad object is one bad object: whatever stands in its place, or its folder's, all others are reached as before."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine.ports import StagedCopy
from distbackupd.model.disks import DiskIdentity
from distbackupd.model.errors import DiskTrouble
from distbackupd.store.folder_store import FolderStore
from tests.bed import loop_disks
from tests.bed.fault_disk import fault_disk
from tests.bed.loop_disks import make_image, plugged, run
from tests.fakes.stopping import Never

NEVER = Never()
UUID = "5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11"
GOOD, BAD = b"good content", b"content that goes bad"
GOOD_DIGEST, BAD_DIGEST = (hashlib.sha256(content).digest() for content in (GOOD, BAD))
HEADER = b"SQLite format 3\0".ljust(60, b"\0") + b"\0\0\0\1" + b"\0\0\0\0" + b"dsbd"


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "somebody's").write_text("file")


def a_socket(path: Path) -> None:
    # Names of sockets are short.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name[:100])
    finally:
        os.chdir(here)


def a_link(path: Path) -> None:
    """To a file that is as large as can be, and of the right name, too."""
    with (path.parent / "large").open("wb") as large:
        large.truncate(1 << 40)
    path.symlink_to("large")


def a_link_to_a_folder(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    (path.parent / "elsewhere" / BAD_DIGEST.hex()).write_bytes(BAD)
    path.symlink_to("elsewhere")


def a_device(path: Path) -> None:
    os.mknod(path, 0o20600, os.makedev(1, 5))  # /dev/zero: it can be read for ever


OBSTACLES = [
    pytest.param(a_folder, id="folder"),
    pytest.param(os.mkfifo, id="fifo"),
    pytest.param(a_socket, id="socket"),
    pytest.param(a_link, id="link"),
    pytest.param(a_device, id="device", marks=pytest.mark.needs("root")),
]
IN_A_FOLDERS_PLACE = [
    pytest.param(lambda path: path.write_text("x"), id="file"),
    pytest.param(os.mkfifo, id="fifo"),
    pytest.param(a_link_to_a_folder, id="link"),
]


@contextmanager
def mounted_at(*words: Any) -> Iterator[Path]:
    """Mounted until the stores there are closed."""
    with loop_disks.mounted_at(*words) as mounted:
        try:
            yield mounted
        finally:
            while _OPENED:
                _OPENED.pop().close()


_OPENED: list[FolderStore] = []
"""Stores that hold the disk of the test that is running."""


def open_store(root: Path) -> FolderStore:
    store = FolderStore(os.fsencode(root), "ext4")
    _OPENED.append(store)
    store.prepare()
    return store


def stage(store: FolderStore, content: bytes) -> StagedCopy:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        file.seek(0)
        return store.stage(file.fileno(), hashlib.sha256(content).digest(), len(content), NEVER)


def path_of(root: Path, digest: bytes) -> Path:
    return root / "distbackup-objects" / digest.hex()[:3] / digest.hex()


def fill(root: Path) -> None:
    """A disk with two objects, a catalogue and all that lies beside it."""
    store = open_store(root)
    store.write_identity(DiskIdentity(UUID, "one"))
    assert store.commit([stage(store, GOOD), stage(store, BAD)]) == frozenset()
    store.save_catalogue(lambda path: Path(os.fsdecode(path)).write_bytes(HEADER) and None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    fill(folder)
    return folder


def assert_one_is_bad(store: FolderStore) -> None:
    """The good object is reached in every way, the bad one in none, and nothing is trouble of the disk."""
    assert store.check(GOOD_DIGEST, len(GOOD), NEVER).problem == ""
    assert store.check(BAD_DIGEST, len(BAD), NEVER).problem.startswith(("it cannot be read: ", "it is missing"))
    assert store.size_of(GOOD_DIGEST) == len(GOOD)
    assert list(store.objects()) == [(GOOD_DIGEST, len(GOOD))]
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on what stands there
        store.open_object(BAD_DIGEST)
    with open(store.open_object(GOOD_DIGEST), "rb") as file:
        assert file.read() == GOOD
    assert sorted(store.reading_order([GOOD_DIGEST, BAD_DIGEST])) == sorted([GOOD_DIGEST, BAD_DIGEST])
    for digest, missing in ((GOOD_DIGEST, []), (BAD_DIGEST, [BAD_DIGEST])):
        assert store.differences_in(int(digest.hex()[:3], 16), [digest]) == (missing, [])


def assert_mended(root: Path, store: FolderStore) -> None:
    """A new copy of the bad object goes to its place."""
    assert store.commit([stage(store, BAD)]) == frozenset()
    assert path_of(root, BAD_DIGEST).read_bytes() == BAD
    assert open_store(root).check(BAD_DIGEST, len(BAD), NEVER).problem == ""
    assert store.size_of(BAD_DIGEST) == len(BAD)


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_anything_in_an_objects_place_is_one_bad_object(root: Path, obstacle: Callable[[Path], None]) -> None:
    path_of(root, BAD_DIGEST).unlink()
    obstacle(path_of(root, BAD_DIGEST))
    store = open_store(root)
    assert_one_is_bad(store)
    assert store.size_of(BAD_DIGEST) is None
    store.set_aside(BAD_DIGEST)
    assert os.path.lexists(root / "bad-objects" / BAD_DIGEST.hex())
    assert_mended(root, store)


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_commit_goes_to_a_place_where_something_else_stands(root: Path, obstacle: Callable[[Path], None]) -> None:
    path_of(root, BAD_DIGEST).unlink()
    obstacle(path_of(root, BAD_DIGEST))
    assert_mended(root, open_store(root))


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_remove_takes_away_what_stands_there_but_nothing_out_of_a_folder(
    root: Path, obstacle: Callable[[Path], None]
) -> None:
    path_of(root, BAD_DIGEST).unlink()
    obstacle(path_of(root, BAD_DIGEST))
    store = open_store(root)
    store.remove([BAD_DIGEST, GOOD_DIGEST, b"?" * 32])
    assert not os.path.lexists(path_of(root, BAD_DIGEST))
    assert not path_of(root, GOOD_DIGEST).exists()
    if obstacle is a_folder:
        assert (root / "bad-objects" / BAD_DIGEST.hex() / "somebody's").read_text() == "file"


@pytest.mark.parametrize("obstacle", IN_A_FOLDERS_PLACE)
def test_anything_in_a_folders_place_is_moved_aside_when_an_object_goes_there(
    root: Path, obstacle: Callable[[Path], None]
) -> None:
    folder = path_of(root, BAD_DIGEST).parent
    path_of(root, BAD_DIGEST).unlink()
    folder.rmdir()
    obstacle(folder)
    store = open_store(root)
    assert_one_is_bad(store)
    assert int(folder.name, 16) not in store.folder_times()
    store.remove([BAD_DIGEST])
    store.set_aside(BAD_DIGEST)
    assert_mended(root, store)
    assert os.path.lexists(root / "bad-objects" / folder.name)


@pytest.mark.parametrize("name", ["distbackup-objects", "distbackup-tmp", "bad-objects"])
@pytest.mark.parametrize("obstacle", IN_A_FOLDERS_PLACE)
def test_prepare_anything_in_the_place_of_the_layouts_folders_is_moved_aside(
    tmp_path: Path, name: str, obstacle: Callable[[Path], None]
) -> None:
    obstacle(tmp_path / name)
    store = open_store(tmp_path)
    assert store.commit([stage(store, GOOD)]) == frozenset()
    store.set_aside(GOOD_DIGEST)
    assert (tmp_path / "bad-objects" / GOOD_DIGEST.hex()).read_bytes() == GOOD


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_stage_and_leftovers_find_their_way_round_what_stands_among_unfinished_copies(
    root: Path, obstacle: Callable[[Path], None]
) -> None:
    for digest in (GOOD_DIGEST, BAD_DIGEST):
        obstacle(root / "distbackup-tmp" / digest.hex())
        (root / "distbackup-tmp" / "large").unlink(missing_ok=True)
    store = open_store(root)
    assert store.commit([stage(store, GOOD)]) == frozenset()
    assert store.leftovers(lambda digests: dict.fromkeys(digests, len(BAD)), NEVER) == []
    assert_mended(root, store)


@pytest.mark.parametrize("name", ["distbackup.sqlite", "distbackup.sqlite.new", "README.txt", "distbackup-restore.py"])
@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_save_catalogue_finds_its_way_round_what_stands_there(
    root: Path, name: str, obstacle: Callable[[Path], None]
) -> None:
    (root / name).unlink(missing_ok=True)
    obstacle(root / name)
    store = open_store(root)
    assert store.catalogue_copies() == ([] if name == "distbackup.sqlite" else [b"distbackup.sqlite"])
    store.save_catalogue(lambda path: Path(os.fsdecode(path)).write_bytes(HEADER) and None)
    assert (root / "distbackup.sqlite").read_bytes() == HEADER
    assert (root / "README.txt").is_file()
    assert (root / "distbackup-restore.py").is_file()


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_token_anything_in_its_place_is_no_token_and_makes_way(root: Path, obstacle: Callable[[Path], None]) -> None:
    obstacle(root / "distbackup-session.json")
    store = open_store(root)
    assert store.token() == ""
    store.leave_token("new")
    assert open_store(root).token() == "new"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"token": 5}', b"\xff", b"[" * 4000])
def test_token_that_cannot_be_understood_is_none(root: Path, content: bytes) -> None:
    (root / "distbackup-session.json").write_bytes(content)
    assert open_store(root).token() == ""


# --- file systems that are really damaged ----------------------------------------------------------------------------


@contextmanager
def damaged(folder: Path, *requests: str) -> Iterator[Path]:
    """A disk with two objects on which debugfs has carried out the requests, mounted."""
    disk = make_image(folder / "disk.img", "ext4", megabytes=16)
    with plugged(disk) as volume:
        with mounted_at(volume.device, folder / "mnt") as root:
            fill(root)
        for request in requests:
            run("debugfs", "-w", "-R", request, volume.device)
        with mounted_at(volume.device, folder / "mnt") as root:
            yield root


def object_on_disk() -> str:
    return f"/distbackup-objects/{BAD_DIGEST.hex()[:3]}/{BAD_DIGEST.hex()}"


@pytest.mark.needs("root", "loop", "ext4")
@pytest.mark.parametrize(
    "request_", ["clri {}", "set_inode_field {} mode 0140644", "set_inode_field {} block[0] 0xfffffff0"]
)
def test_an_object_whose_inode_is_damaged_is_one_bad_object(tmp_path: Path, request_: str) -> None:
    with damaged(tmp_path, request_.format(object_on_disk())) as root:
        store = open_store(root)
        assert store.check(GOOD_DIGEST, len(GOOD), NEVER).problem == ""
        assert store.check(BAD_DIGEST, len(BAD), NEVER).problem
        store.set_aside(BAD_DIGEST)
        unplaced = store.commit([stage(store, BAD), stage(store, b"another")])
        assert unplaced <= {BAD_DIGEST}
        assert not os.listdir(root / "distbackup-tmp")
        assert store.check(hashlib.sha256(b"another").digest(), 7, NEVER).problem == ""
        assert bool(store.check(BAD_DIGEST, len(BAD), NEVER).problem) is bool(unplaced)


@pytest.mark.needs("root", "loop", "ext4")
@pytest.mark.parametrize("request_", ["clri {}", "set_inode_field {} block[0] 0xfffffff0"])
def test_a_folder_that_is_damaged_costs_its_objects_and_no_others(tmp_path: Path, request_: str) -> None:
    folder = os.path.dirname(object_on_disk())
    with damaged(tmp_path, request_.format(folder)) as root:
        store = open_store(root)
        assert_one_is_bad(store)
        store.remove([BAD_DIGEST])
        store.set_aside(BAD_DIGEST)
        unplaced = store.commit([stage(store, BAD), stage(store, b"another")])
        assert unplaced <= {BAD_DIGEST}
        assert store.check(hashlib.sha256(b"another").digest(), 7, NEVER).problem == ""
        assert bool(store.check(BAD_DIGEST, len(BAD), NEVER).problem) is bool(unplaced)


@pytest.mark.needs("root", "loop", "nbd")
@pytest.mark.parametrize("what", ["break_reads", "die"])
def test_a_disk_that_does_not_answer_has_no_missing_and_no_bad_objects(tmp_path: Path, what: str) -> None:
    with (
        fault_disk(tmp_path / "bed") as disk,
        mounted_at(disk.volume.device, tmp_path / "mnt") as root,
    ):
        fill(root)
        store = open_store(root)
        getattr(disk, what)()
        for asked in (store.must_answer, lambda: store.must_answer(by_writing=True)):
            with pytest.raises(DiskTrouble):
                asked()


def test_must_answer_leaves_nothing_behind_and_needs_no_room(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(root)
    store.must_answer(by_writing=True)
    assert os.listdir(root / "distbackup-tmp") == []

    def full(*_words: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("distbackupd.store.answering.create_file", full)
    store.must_answer(by_writing=True)
