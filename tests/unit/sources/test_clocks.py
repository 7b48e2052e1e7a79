"""What the times of file systems tell."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest

from distbackupd.model.files import WaitingFile
from distbackupd.model.sources import RealPath
from distbackupd.sources.clocks import clock_of_type
from distbackupd.sources.tree import FolderTree
from tests.bed.loop_disks import loop_disk, mounted_at
from tests.fakes.stopping import Never

SECOND = 10**9
_COARSE = 5
"""CLOCK_REALTIME_COARSE, from which file systems take their times."""


@pytest.mark.parametrize(
    ("filesystem_type", "lasting", "change_times", "wide", "witnesses"),
    [
        ("ext4", True, True, False, True),
        ("btrfs", True, True, False, True),
        ("", True, True, False, True),
        ("tmpfs", True, True, False, False),
        ("nfs4", True, True, True, True),
        ("vfat", False, False, True, False),
        ("exfat", False, False, True, False),
        ("fuseblk", False, True, True, False),
        ("fuse.sshfs", False, True, True, False),
    ],
)
def test_clock_of_type_tells_what_times_are_worth(
    filesystem_type: str, lasting: bool, change_times: bool, wide: bool, witnesses: bool
) -> None:
    clock = clock_of_type(filesystem_type)
    assert (clock.lasting_inodes, clock.change_times, clock.witnesses) == (lasting, change_times, witnesses)
    assert clock.blur_ns(5 * SECOND) == (60 if wide else 2) * SECOND, "it may have whole seconds"
    assert clock.blur_ns(5 * SECOND + 1) == (60 * SECOND if wide else SECOND // 10)


def wait_for_a_tick() -> None:
    before = time.clock_gettime_ns(_COARSE)
    while time.clock_gettime_ns(_COARSE) < before + 20_000_000:
        os.sched_yield()


@pytest.mark.needs("root", "loop", "ext4")
def test_hash_file_write_through_a_mapping_leaves_a_trace_once_the_file_was_read(tmp_path: Path) -> None:
    """A dirty page takes further writes without a trace in the file's times: so it is written back before it is read."""
    with loop_disk(tmp_path, "ext4", megabytes=64) as disk, mounted_at(disk.device, tmp_path / "mnt") as root:
        path = root / "database"
        path.write_bytes(bytes(65536))
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 65536) as mapping:
            mapping[:8] = b"record 1"
            before = path.stat()
            wait_for_a_tick()
            mapping[8:16] = b"record 2"
            assert path.stat().st_ctime_ns == before.st_ctime_ns, "this is what makes it necessary"
            waiting = WaitingFile(
                1, b"/x", before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_dev, before.st_ino
            )
            tree = FolderTree(now_ns=lambda: before.st_ctime_ns + 10 * SECOND)
            assert tree.hash_file(RealPath(os.fsencode(path)), waiting, Never()).settled
            wait_for_a_tick()
            mapping[16:24] = b"record 3"
            assert path.stat().st_ctime_ns > before.st_ctime_ns
            assert path.stat().st_mtime_ns > before.st_mtime_ns


def test_hash_file_is_settled_only_when_read_later_than_the_clock_can_blur(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    state = path.stat()
    waiting = WaitingFile(1, b"/x", 1, state.st_mtime_ns, state.st_ctime_ns, state.st_dev, state.st_ino)
    for seconds, settled in ((-100, False), (0, False), (3, True)):
        tree = FolderTree(now_ns=lambda: state.st_ctime_ns + seconds * SECOND)  # noqa: B023 - called at once
        assert tree.hash_file(RealPath(os.fsencode(path)), waiting, Never()).settled == settled
