"""The catalogue's copy where there is no room for the new one beside the old one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from distbackupd.store.catalogue_copy import replace_copy

HEADER = b"SQLite format 3\0".ljust(100, b"\0")


class FullDisk:
    """Writes a copy, but not beside the old one; ``asked``: where it was to be written."""

    def __init__(self, root: Path) -> None:
        self.root = bytes(root)
        self.asked: list[bytes] = []
        self.old_while_spare = b""

    def write(self, path: bytes) -> None:
        self.asked.append(path)
        if path.startswith(self.root + b"/"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.old_while_spare = Path(os.fsdecode(self.root), "distbackup.sqlite").read_bytes()
        Path(os.fsdecode(path)).write_bytes(HEADER + b"new")


def replace(disk: FullDisk, spare: bytes, kept: bool = False) -> bytes:
    return replace_copy(disk.root, disk.write, lambda _path: kept, disk.root + b"/bad-objects", spare)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "distbackup.sqlite").write_bytes(HEADER + b"old")
    return folder


def test_replace_copy_without_room_for_both_writes_the_new_one_elsewhere_before_the_old_one_goes(root: Path) -> None:
    spare = root.parent / "spare"
    disk = FullDisk(root)
    assert replace(disk, bytes(spare)) == b""
    assert disk.asked == [bytes(root / "distbackup.sqlite.new"), bytes(spare)]
    assert disk.old_while_spare == HEADER + b"old"
    assert (root / "distbackup.sqlite").read_bytes() == HEADER + b"new"
    assert not spare.exists()
    assert [path.name for path in root.iterdir()] == ["distbackup.sqlite"]


@pytest.mark.parametrize(("spare", "kept"), [("", False), ("spare", True), ("missing/spare", False)])
def test_replace_copy_without_room_keeps_the_old_one_where_that_must_be_or_nothing_else_is_sure(
    root: Path, spare: str, kept: bool
) -> None:
    with pytest.raises(OSError, match="No space left"):
        replace(FullDisk(root), bytes(root.parent / spare) if spare else b"", kept)
    assert (root / "distbackup.sqlite").read_bytes() == HEADER + b"old"
    assert [path.name for path in root.iterdir()] == ["distbackup.sqlite"]
    assert sorted(path.name for path in root.parent.iterdir()) == ["disk"]
