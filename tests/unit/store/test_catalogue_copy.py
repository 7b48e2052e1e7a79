"""The catalogue's copy: what writes it sees no path on the disk; where there is no room for both, the old one goes first."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from distbackupd.model.errors import CatalogueTrouble, NoRoomForCopy
from distbackupd.store import catalogue_copy
from distbackupd.store.catalogue_copy import find_copies, open_copy, replace_copy
from distbackupd.store.folders import Folder
from distbackupd.store.plain_files import Aside

HEADER = b"SQLite format 3\0".ljust(100, b"\0")


def write(path: bytes) -> None:
    Path(os.fsdecode(path)).write_bytes(HEADER + b"new")


def replace(root: Path, spare: Path | None, kept: bool = False, write_copy: Callable[[bytes], None] = write) -> bytes:
    folder = Folder(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
    aside = Aside(folder, b"bad-objects")
    return replace_copy(folder, write_copy, lambda _copy: kept, aside, bytes(spare) if spare else b"")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "distbackup.sqlite").write_bytes(HEADER + b"old")
    return folder


@pytest.fixture
def full(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no room for a copy beside the old one."""
    sendfile = os.sendfile

    def send(target: int, source: int, done: int, count: int) -> int:
        if (root / "distbackup.sqlite").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return sendfile(target, source, done, count)

    monkeypatch.setattr(catalogue_copy.os, "sendfile", send)


@pytest.mark.parametrize("spare", [None, "spare"])
def test_replace_copy_is_written_elsewhere_and_nothing_of_that_is_left(root: Path, spare: str | None) -> None:
    asked = []

    def look_and_write(path: bytes) -> None:
        asked.append(path)
        assert os.stat(path).st_mode & 0o777 == 0o600
        write(path)

    assert replace(root, root.parent / spare if spare else None, write_copy=look_and_write) == b""
    assert not asked[0].startswith(bytes(root))
    assert not os.path.lexists(asked[0])
    assert (root / "distbackup.sqlite").read_bytes() == HEADER + b"new"
    assert (root / "distbackup.sqlite").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in root.iterdir()] == ["distbackup.sqlite"]


@pytest.mark.usefixtures("full")
def test_replace_copy_without_room_for_both_lets_the_old_one_go(root: Path) -> None:
    assert replace(root, root.parent / "spare") == b""
    assert (root / "distbackup.sqlite").read_bytes() == HEADER + b"new"
    assert [path.name for path in root.iterdir()] == ["distbackup.sqlite"]
    assert [path.name for path in root.parent.iterdir()] == ["disk"]


@pytest.mark.usefixtures("full")
def test_replace_copy_without_room_keeps_the_old_one_where_that_must_be(root: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        replace(root, root.parent / "spare", kept=True)
    assert (root / "distbackup.sqlite").read_bytes() == HEADER + b"old"
    assert [path.name for path in root.iterdir()] == ["distbackup.sqlite"]
    assert [path.name for path in root.parent.iterdir()] == ["disk"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_replace_copy_that_cannot_be_written_first_changes_nothing(root: Path, code: int) -> None:
    def fail(_path: bytes) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(NoRoomForCopy if code == errno.ENOSPC else CatalogueTrouble, match="make room there"):
        replace(root, root.parent / "spare", write_copy=fail)
    with pytest.raises(CatalogueTrouble):
        replace(root, root.parent / "missing" / "spare")
    assert (root / "distbackup.sqlite").read_bytes() == HEADER + b"old"
    assert [path.name for path in root.parent.iterdir()] == ["disk"]


def test_find_copies_names_regular_files_and_the_last_hundred_that_are_kept(root: Path) -> None:
    for number in range(1, 200):
        (root / f"distbackup.sqlite.kept-{number}").write_bytes(b"")
    (root / "distbackup.sqlite.kept-0").write_bytes(b"")
    (root / "distbackup.sqlite.kept-²".encode().decode()).write_bytes(b"")
    (root / ("distbackup.sqlite.kept-" + "9" * 200)).write_bytes(b"")
    os.mkfifo(root / "distbackup.sqlite.kept-200")
    folder = Folder(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
    assert find_copies(folder, kept=False) == [b"distbackup.sqlite"]
    numbers = [b"%d" % number for number in range(101, 200)]
    assert find_copies(folder, kept=True) == [b"distbackup.sqlite", *(b"distbackup.sqlite.kept-" + n for n in numbers)]
    os.close(open_copy(folder, b"distbackup.sqlite.kept-199"))
    for name in (b"distbackup.sqlite.kept-200", b"../disk/distbackup.sqlite", b"/etc/passwd"):
        with pytest.raises(OSError):  # noqa: PT011 - which one depends on what stands there
            open_copy(folder, name)
