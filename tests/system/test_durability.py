"""Nothing is recorded before it is durable, and nothing stays unrecorded: real kills, power cuts and failed writes.

A power cut is played by copying a disk's image while it is mounted: the copy holds what had reached the device, and nothing
of what was still in memory.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from distbackupd.catalogue.objects import ObjectTable
from distbackupd.store.folder_store import FolderStore
from tests.bed.loop_disks import foreign_disk, loop_disk, mounted_at, run
from tests.bed.programs import Dsb

FILES = 40
KERNELS = [pytest.param(kind, marks=pytest.mark.needs("root", "loop", kind)) for kind in ("ext4", "xfs", "btrfs")]
FOREIGN = [
    pytest.param("exfat", marks=pytest.mark.needs("root", "loop", "mkfs.exfat", "mount.exfat-fuse")),
    pytest.param("ntfs", marks=pytest.mark.needs("root", "loop", "mkfs.ntfs", "ntfs-3g")),
]
_DRIVERS = {"exfat": "exfat-fuse", "ntfs": "ntfs-3g"}


@pytest.fixture
def dsb(tmp_path: Path) -> Dsb:
    dsb = Dsb(tmp_path / "catalogue", keep_deleted="0")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(FILES):
        (source / f"{number}").write_bytes(b"content of file %d" % number * 200)
    dsb.ok("source", "map", "/", source)
    return dsb


def recorded(dsb: Dsb, name: str) -> set[str]:
    """Hashes of what the catalogue says that a disk holds."""
    with closing(sqlite3.connect(dsb.catalogue)) as catalogue:
        (number,) = catalogue.execute("SELECT id FROM disk WHERE name = ?", (name,)).fetchone()
        sets = catalogue.execute("SELECT id, members FROM holder_set").fetchall()
        holding = [row[0] for row in sets if str(number) in row[1].split()]
        marks = ", ".join("?" * len(holding))
        rows = catalogue.execute(f"SELECT lower(hex(hash)) FROM object WHERE holders IN ({marks})", holding)
        return {row[0] for row in rows}


def whole(root: Path) -> set[str]:
    """Hashes of the objects on a disk whose content is what their name says."""
    paths = (root / "distbackup-objects").glob("*/*")
    return {path.name for path in paths if hashlib.sha256(path.read_bytes()).hexdigest() == path.name}


def die(*_words: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(dsb: Dsb, *words: str | Path) -> None:
    assert dsb(*words).status == -signal.SIGKILL


def test_killed_between_placing_and_recording_and_not_wanted_any_more_leaves_nothing_behind(
    dsb: Dsb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    dsb.ok("disk", "add", "one", disk, "--folder", "--size", "100M")
    with monkeypatch.context() as patch:
        patch.setattr(ObjectTable, "record_copies", die)
        killed(dsb, "backup", "-u", "one")
    assert (len(whole(disk)), recorded(dsb, "one")) == (FILES, set())
    for number in range(5):
        (tmp_path / "source" / f"{number}").unlink()
    dsb.ok("backup", "-u", "one")
    assert whole(disk) == recorded(dsb, "one")
    assert len(whole(disk)) == FILES - 5


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("then", [("backup", "one"), ("disk", "refresh", "one")], ids=["session", "refresh"])
def test_what_a_killed_session_placed_is_durable_before_the_next_records_it(
    dsb: Dsb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, then: tuple[str, ...]
) -> None:
    """On btrfs a file that is flushed takes nothing else along; on others the journal does."""
    with loop_disk(tmp_path, kind) as disk, mounted_at(disk.device, tmp_path / "mnt") as root:
        dsb.ok("disk", "add", "one", root)
        dsb.ok("update")
        with monkeypatch.context() as patch:
            _die_at_flush_after_renaming(patch)
            killed(dsb, "backup", "one")
        assert len(whole(root)) == FILES
        as_cut = tmp_path / "as cut.img"
        with monkeypatch.context() as patch:
            for name in ("record_copies", "take_over", "replace_holdings"):
                if original := getattr(ObjectTable, name, None):
                    patch.setattr(ObjectTable, name, _cut_power_after(original, disk.image, as_cut))
            killed(dsb, *then)
    said = recorded(dsb, "one")
    assert then[0] != "backup" or len(said) == FILES
    assert said <= _whole_in(as_cut)


def _die_at_flush_after_renaming(patch: pytest.MonkeyPatch) -> None:
    rename, flush = FolderStore._place, FolderStore._flush
    placed = []

    def place(self: FolderStore, *words: Any) -> Any:
        placed.append(words)
        return rename(self, *words)

    patch.setattr(FolderStore, "_place", place)
    patch.setattr(FolderStore, "_flush", lambda self, *words, **more: die() if placed else flush(self, *words, **more))


def _cut_power_after(original: Callable[..., Any], image: Path, copy: Path) -> Callable[..., Any]:
    def record_and_die(*words: Any, **more: Any) -> None:
        done = original(*words, **more)
        if done != (0, 0):
            shutil.copyfile(image, copy)
            die()
        return done

    return record_and_die


@pytest.mark.parametrize("kind", [*KERNELS, *FOREIGN])
def test_what_a_session_records_lies_on_the_device_at_that_moment(
    dsb: Dsb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """For NTFS and exFAT a driver in user space is at work, where syncfs reaches nothing."""
    options = _options(kind)
    opened = foreign_disk(tmp_path, kind, 24) if kind in _DRIVERS else loop_disk(tmp_path, kind)
    as_cut = tmp_path / "as cut"
    with opened as disk, mounted_at(disk.device, tmp_path / "mnt", *options) as root:
        dsb.ok("disk", "add", "one", root)
        dsb.ok("update")
        (image,) = tmp_path.glob("*.img")
        with monkeypatch.context() as patch:
            patch.setattr(ObjectTable, "record_copies", _cut_power_after(ObjectTable.record_copies, image, as_cut))
            killed(dsb, "backup", "one")
    said = recorded(dsb, "one")
    assert len(said) == FILES
    assert said <= _whole_in(as_cut, kind)


def _options(kind: str) -> tuple[str, ...]:
    return ("-t", _DRIVERS[kind]) if kind in _DRIVERS else ()


def _whole_in(image: Path, kind: str = "") -> set[str]:
    """What a disk's image holds after a power cut; no other disk with the same UUID may be mounted."""
    place = image.with_name("after the cut")
    device = run("losetup", "--find", "--show", image)
    try:
        with mounted_at(device, place, *_options(kind)) as root:
            return whole(root)
    finally:
        run("losetup", "--detach", device)


@pytest.mark.parametrize("kind", KERNELS)
def test_what_looks_good_in_memory_and_is_not_so_on_the_disk_is_not_taken_over(
    dsb: Dsb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As a write that failed leaves it: clean pages that say what should have been written."""
    with loop_disk(tmp_path, kind) as disk:
        with mounted_at(disk.device, tmp_path / "mnt") as root:
            dsb.ok("disk", "add", "one", root)
            dsb.ok("update")
            with monkeypatch.context() as patch:
                patch.setattr(FolderStore, "commit", lambda self, _staged: (self.flush(), die()))
                killed(dsb, "backup", "one")
            run("sync", "-f", root)
            unfinished = sorted((root / "distbackup-tmp").iterdir())
            assert len(unfinished) == FILES
            placed = unfinished[: FILES // 2]
            for path in placed:
                folder = root / "distbackup-objects" / path.name[:3]
                folder.mkdir(exist_ok=True)
                path.rename(folder / path.name)
            run("sync", "-f", root)
            _change_on_the_disk(disk.image, [4, 14, 24, 34])
            assert whole(root) == {path.name for path in placed}, "in memory all is well"
            dsb.ok("backup", "one")
            assert len(recorded(dsb, "one")) == FILES
        with mounted_at(disk.device, tmp_path / "mnt") as root:
            assert whole(root) == recorded(dsb, "one")


def _change_on_the_disk(image: Path, files: list[int]) -> None:
    with image.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        for number in files:
            place = content.find(b"content of file %dcontent" % number)
            assert place >= 0
            content[place : place + 7] = b"CONTENT"
