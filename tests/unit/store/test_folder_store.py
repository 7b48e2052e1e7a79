"""What only the real store can show: names on the disk, holes, foreign files, and disks that fail."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine.ports import StagedCopy
from distbackupd.model.disks import FAT_LARGEST_FILE, DiskIdentity
from distbackupd.model.errors import (
    DiskFull,
    DiskGone,
    DiskNotOurs,
    DiskReadOnly,
    DiskTrouble,
    NoRoomForCopy,
    SourceTrouble,
)
from distbackupd.store.folder_store import FolderStore
from tests.bed import loop_disks
from tests.bed.fault_disk import fault_disk
from tests.bed.loop_disks import loop_disk
from tests.fakes.stopping import Never

NEVER = Never()
UUID = "5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11"
OUR_HEADER = b"SQLite format 3\0".ljust(60, b"\0") + b"\0\0\0\1" + b"\0\0\0\0" + b"dsbd"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


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


def open_store(root: Path, kind: str = "ext4") -> FolderStore:
    store = FolderStore(os.fsencode(root), kind)
    _OPENED.append(store)
    store.prepare()
    return store


def stage(store: FolderStore, content: bytes, holes: tuple[int, int] | None = None) -> StagedCopy:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        if holes:
            os.truncate(file.fileno(), holes[0])
            os.truncate(file.fileno(), holes[1])
        file.seek(0)
        return store.stage(file.fileno(), hashlib.sha256(content).digest(), len(content), NEVER)


def listing(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def write_copy(path: bytes) -> None:
    Path(os.fsdecode(path)).write_bytes(OUR_HEADER + b"copy")


def test_layout_is_distbackups(root: Path) -> None:
    store = open_store(root)
    store.write_identity(DiskIdentity(UUID, "photos-01"))
    store.commit([stage(store, b"hello")])
    store.save_catalogue(write_copy)
    name = hashlib.sha256(b"hello").hexdigest()
    assert listing(root) == [
        "README.txt",
        "distbackup-disk.json",
        f"distbackup-objects/{name[:3]}/{name}",
        "distbackup-restore.py",
        "distbackup.sqlite",
    ]
    assert (root / "distbackup-disk.json").read_text() == f'{{\n    "uuid": "{UUID}",\n    "name": "photos-01"\n}}\n'
    assert "photos-01" in (root / "README.txt").read_text()


def test_write_identity_name_that_is_no_ascii_comes_back(root: Path) -> None:
    store = open_store(root)
    store.write_identity(DiskIdentity(UUID, "Süße 'Bilder'"))
    assert store.identity() == DiskIdentity(UUID, "Süße 'Bilder'")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"text"', b"{}", b'{"uuid": 5}', b'{"uuid": "no uuid"}', b"\xff\xfe", b"[" * 60_000],
)
def test_identity_unreadable_json_says_that_the_disk_cannot_be_recognised(root: Path, content: bytes) -> None:
    (root / "distbackup-disk.json").write_bytes(content)
    with pytest.raises(DiskNotOurs, match="is damaged"):
        FolderStore(os.fsencode(root), "ext4").identity()
    assert (root / "distbackup-disk.json").read_bytes() == content


def test_identity_folder_that_is_not_there_is_nobody(root: Path) -> None:
    assert FolderStore(os.fsencode(root / "missing"), "ext4").identity() is None


def test_space_fat_holds_no_file_of_four_gibibytes(root: Path) -> None:
    assert open_store(root, "vfat").space().largest_file == FAT_LARGEST_FILE
    assert open_store(root, "ext4").space().largest_file == 0


def test_stage_source_that_cannot_be_read_is_source_trouble(root: Path) -> None:
    store = open_store(root)
    descriptor = os.open(root, os.O_RDONLY)
    try:
        for size in (10, 10 << 20):
            with pytest.raises(SourceTrouble, match="cannot be read: Is a directory"):
                store.stage(descriptor, b"x" * 32, size, NEVER)
    finally:
        os.close(descriptor)
    assert listing(root) == []


def test_leftovers_touches_no_file_that_is_not_ours(root: Path) -> None:
    kept = ["README.txt", "distbackup-tmp.txt", "movie.new", "my distbackup.sqlite.new.gz"]
    for name in [*kept, "distbackup.sqlite.new", "distbackup-disk.json.new", "distbackup-tmp.123.4"]:
        (root / name).write_bytes(b"x")
    assert open_store(root).leftovers(lambda _digests: {}, NEVER) == []
    assert listing(root) == sorted(kept)


def test_leftovers_strange_things_among_unfinished_copies_are_no_trouble(root: Path) -> None:
    store = open_store(root)
    unfinished = root / "distbackup-tmp"
    (unfinished / "folder").mkdir()
    (unfinished / "link").symlink_to("/etc/passwd")
    (unfinished / ("0" * 64)).symlink_to("/etc/passwd")
    (unfinished / "text").write_bytes(b"x")
    assert store.leftovers(lambda digests: dict.fromkeys(digests, 11), NEVER) == []
    assert listing(unfinished) == []
    assert (unfinished / "folder").is_dir()


def test_objects_strange_names_are_no_objects(root: Path) -> None:
    store = open_store(root)
    store.commit([stage(store, b"hello")])
    objects = root / "distbackup-objects"
    for name in ("abc", "xyz"):
        (objects / name).mkdir(exist_ok=True)
    (objects / "abc" / ("abc" + "0" * 60)).write_bytes(b"short name")
    (objects / "abc" / ("abd" + "0" * 61)).write_bytes(b"in the wrong folder")
    (objects / "abc" / ("abc" + "0" * 61)).symlink_to("/etc/passwd")
    (objects / "abc" / ("abc" + "1" * 61)).mkdir()
    (objects / "file").write_bytes(b"x")
    assert list(store.objects()) == [(hashlib.sha256(b"hello").digest(), 5)]


def test_set_aside_moves_the_file_into_bad_objects(root: Path) -> None:
    store = open_store(root)
    copy = stage(store, b"hello")
    store.commit([copy])
    store.set_aside(copy.digest)
    assert listing(root) == [f"bad-objects/{copy.digest.hex()}"]


@pytest.mark.parametrize(
    "content",
    [b"", b"no database", b"SQLite format 3\0".ljust(200, b"\0"), OUR_HEADER.replace(b"\0\0\0\1", b"\0\0\0\x7f")],
    ids=["empty", "text", "other program", "newer"],
)
def test_save_catalogue_strange_one_is_kept_beside(root: Path, content: bytes) -> None:
    store = open_store(root)
    (root / "distbackup.sqlite").write_bytes(content)
    store.save_catalogue(write_copy)
    store.save_catalogue(write_copy)
    assert (root / "distbackup.sqlite").read_bytes() == OUR_HEADER + b"copy"
    assert (root / "distbackup.sqlite.kept-1").read_bytes() == content
    (root / "distbackup.sqlite").write_bytes(b"another")
    store.save_catalogue(write_copy)
    assert (root / "distbackup.sqlite.kept-2").read_bytes() == b"another"


def test_save_catalogue_where_no_copy_can_be_written_first_is_no_trouble_of_the_disk(root: Path) -> None:
    def fail(path: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    with pytest.raises(NoRoomForCopy):
        open_store(root).save_catalogue(fail)
    assert listing(root) == []


# --- real disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with loop_disk(tmp_path, "ext4", megabytes=16) as disk, mounted_at(disk.device, tmp_path / "mnt") as mounted:
        yield mounted


@pytest.mark.needs("root", "loop", "ext4")
def test_stage_sparse_source_stays_sparse(small_disk: Path) -> None:
    store = open_store(small_disk)
    content = b"start".ljust(64 << 20, b"\0")
    copy = stage(store, content, holes=(5, len(content)))
    store.commit([copy])
    path = small_disk / "distbackup-objects" / copy.digest.hex()[:3] / copy.digest.hex()
    assert path.stat().st_size == len(content)
    assert path.stat().st_blocks * 512 < 2 << 20
    assert store.check(copy.digest, copy.size, NEVER).problem == ""


@pytest.mark.needs("root", "loop", "ext4")
@pytest.mark.parametrize("size", [200_000, 3 << 20])
def test_stage_full_disk_says_so_and_leaves_room_again(small_disk: Path, size: int) -> None:
    store = open_store(small_disk)
    staged: list[StagedCopy] = []

    def fill() -> None:
        while True:
            staged.append(stage(store, b"%08d" % len(staged) + bytes(size - 9) + b"."))

    with pytest.raises(DiskFull, match=r"is full.*what was copied is recorded"):
        fill()
    assert sorted(listing(small_disk / "distbackup-tmp")) == sorted(copy.digest.hex() for copy in staged)
    # The folders of the objects need room too.
    half = len(staged) // 2
    store.discard(staged[half:])
    store.commit(staged[:half])
    for copy in staged[:half]:
        assert store.check(copy.digest, copy.size, NEVER).problem == ""


@pytest.mark.needs("root", "loop", "ext4")
@pytest.mark.parametrize("block_device_too", [False, True])
def test_prepare_read_only_disk_says_so_and_changes_nothing(tmp_path: Path, block_device_too: bool) -> None:
    with loop_disk(tmp_path, "ext4") as disk:
        if block_device_too:
            disk.unplug()
            disk.plug(read_only=True)
        with mounted_at(disk.device, tmp_path / "mnt", "-o", "ro") as mounted:
            store = FolderStore(os.fsencode(mounted), "ext4")
            _OPENED.append(store)
            with pytest.raises(DiskReadOnly, match="read-only; nothing was changed"):
                store.prepare()
            with pytest.raises(DiskReadOnly):
                store.write_identity(DiskIdentity(UUID, "name"))


@pytest.mark.needs("root", "loop", "ext4")
def test_a_disk_that_the_kernel_made_read_only_is_told_from_one_that_is_mounted_so(tmp_path: Path) -> None:
    with (
        loop_disk(tmp_path, "ext4") as disk,
        mounted_at(disk.device, tmp_path / "mnt", "-o", "errors=remount-ro") as mounted,
    ):
        store = open_store(mounted)
        fault = Path(f"/sys/fs/ext4/{os.path.basename(disk.device)}/trigger_fs_error")
        if not fault.exists():
            pytest.skip("this kernel cannot be told that a file system is damaged")
        fault.write_text("1")
        with pytest.raises(DiskReadOnly, match="became read-only since, as the system makes it") as told:
            store.write_identity(DiskIdentity(UUID, "name"))
        assert "what was recorded before is safe" in str(told.value)
        assert "switch" not in str(told.value)


REPLACED = ["distbackup-disk.json", "distbackup-session.json", "distbackup.sqlite", "README.txt", "distbackup-restore.py"]


@pytest.mark.parametrize("name", REPLACED)
def test_what_was_to_take_a_files_place_is_gone_when_that_failed(root: Path, name: str, monkeypatch: Any) -> None:
    store = open_store(root)
    store.write_identity(DiskIdentity(UUID, "one"))
    rename = os.rename

    def fail(old: bytes, *words: Any, **more: Any) -> None:
        if old == os.fsencode(f"{name}.new"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(old, *words, **more)

    monkeypatch.setattr(os, "rename", fail)
    changes = (
        lambda: store.write_identity(DiskIdentity(UUID, "two")),
        lambda: store.leave_token("token"),
        lambda: store.save_catalogue(write_copy),
    )
    failed = 0
    for change in changes:
        try:
            change()
        except DiskGone:
            failed += 1
    assert failed == 1
    assert [path for path in listing(root) if path.endswith(".new")] == []


@pytest.mark.parametrize("name", REPLACED)
def test_prepare_removes_what_a_process_that_died_was_about_to_put_in_a_files_place(root: Path, name: str) -> None:
    (root / f"{name}.new").write_bytes(b"half")
    (root / "holiday.new").write_bytes(b"somebody else's")
    open_store(root)
    assert listing(root) == ["holiday.new"]


@pytest.mark.needs("root", "loop", "ext4")
def test_set_aside_on_a_full_disk_leaves_a_bad_copy_and_a_good_one_takes_its_place(tmp_path: Path) -> None:
    with loop_disk(tmp_path, "ext4", megabytes=8) as disk, mounted_at(disk.device, tmp_path / "mnt") as mounted:
        store = open_store(mounted)
        copy = stage(store, b"content")
        store.commit([copy])
        (object_file,) = mounted.glob("distbackup-objects/*/*")
        object_file.write_bytes(b"rotten!")
        kept = stage(store, b"content")
        with contextlib.suppress(OSError), (mounted / "other").open("wb", buffering=0) as other:
            while other.write(bytes(1024)):
                pass
        store.set_aside(copy.digest)
        store.commit([kept])
        assert store.check(copy.digest, copy.size, NEVER).problem == ""


def commit_late(store: FolderStore) -> None:
    store.commit([stage(store, os.urandom(3 << 20)), stage(store, b"small")])


def flush_late(store: FolderStore) -> None:
    stage(store, os.urandom(3 << 20))
    store.flush()


def save_late(store: FolderStore) -> None:
    store.save_catalogue(write_copy)
    store.flush()


@pytest.mark.needs("root", "loop", "nbd")
@pytest.mark.parametrize("work", [commit_late, flush_late, save_late])
def test_device_that_fails_to_write_is_told_before_anything_counts_as_durable(
    tmp_path: Path, work: Callable[[FolderStore], None]
) -> None:
    with (
        fault_disk(tmp_path / "bed") as disk,
        mounted_at(disk.volume.device, tmp_path / "mnt") as mounted,
    ):
        store = open_store(mounted)
        store.commit([stage(store, b"before")])
        disk.break_writes()
        with pytest.raises(DiskTrouble):
            work(store)


@pytest.mark.needs("root", "loop", "nbd")
def test_commit_writes_that_failed_in_the_background_are_told(tmp_path: Path) -> None:
    with (
        fault_disk(tmp_path / "bed") as disk,
        mounted_at(disk.volume.device, tmp_path / "mnt") as mounted,
    ):
        store = open_store(mounted)
        disk.break_writes()
        copy = stage(store, os.urandom(200_000))
        subprocess.run(["sync", "--file-system", mounted], capture_output=True, check=False)
        disk.mend()
        with pytest.raises(DiskTrouble):
            store.commit([copy])


@pytest.mark.needs("root", "loop", "nbd")
def test_stage_large_copy_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    with (
        fault_disk(tmp_path / "bed") as disk,
        mounted_at(disk.volume.device, tmp_path / "mnt") as mounted,
    ):
        store = open_store(mounted)
        disk.break_writes()
        with pytest.raises(DiskTrouble):
            stage(store, os.urandom(3 << 20))


@pytest.mark.needs("root", "loop", "nbd")
def test_check_device_that_cannot_be_read_finds_a_bad_copy_or_disk_trouble(tmp_path: Path) -> None:
    with (
        fault_disk(tmp_path / "bed") as disk,
        mounted_at(disk.volume.device, tmp_path / "mnt") as mounted,
    ):
        store = open_store(mounted)
        store.write_identity(DiskIdentity(UUID, "name"))
        copy = stage(store, os.urandom(3 << 20))
        store.commit([copy])
        disk.break_reads()
        try:
            problem = store.check(copy.digest, copy.size, NEVER).problem
        except DiskGone:
            problem = "gone"
        assert problem
