"""Disks that hold other things than they should: emptied, set back to an older image, or one of two clones."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.fault_disk import fault_disk
from tests.bed.loop_disks import LoopDisk, loop_disk, mounted_at, run
from tests.bed.programs import Dsb

pytestmark = pytest.mark.needs("root", "loop", "ext4")

FILES = 30


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number}").write_text(f"content of {number}")
    return folder


@pytest.fixture
def dsb(source: Path, tmp_path: Path) -> Dsb:
    dsb = Dsb(tmp_path / "catalogue")
    dsb.ok("source", "map", "/", source)
    return dsb


@pytest.fixture
def disk(dsb: Dsb, tmp_path: Path) -> Iterator[LoopDisk]:
    """The disk ``one``, which holds all of it, plugged in and not mounted."""
    with loop_disk(tmp_path, megabytes=160) as disk:
        with mounted_at(disk.device, tmp_path / "disk") as root:
            dsb.ok("disk", "add", "one", root)
            dsb.ok("backup", "-u", "one")
        yield disk


def digests(source: Path) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in source.iterdir()}


def names(root: Path) -> set[str]:
    return {path.name for path in (root / "distbackup-objects").glob("*/*")}


def test_objects_that_fsck_or_somebody_took_away_are_copied_again(
    dsb: Dsb, disk: LoopDisk, source: Path, tmp_path: Path
) -> None:
    with mounted_at(disk.device, tmp_path / "disk") as root:
        (root / "distbackup-objects").rename(root / "lost+found" / "#12")
        done = dsb("backup", "one")
        assert done.status == 0
        told = f"one: {FILES} objects that should lie on it are gone, {FILES} of them with no other copy; "
        assert told in done.err
        assert f"copied {FILES} objects" in done.out
        assert names(root) == digests(source)
        assert "nothing to do" in dsb.ok("backup", "one")
        for folder in list((root / "distbackup-objects").iterdir())[:3]:
            shutil.rmtree(folder)
        assert "objects that should lie on it are gone" in dsb("backup", "one").err
        assert names(root) == digests(source)
        assert dsb.json("verify", "one")["bad"] == []


@pytest.mark.parametrize("first", [("backup", "one"), ("verify", "one")])
def test_an_older_image_gets_nothing_until_somebody_says_that_it_is_the_disk(
    dsb: Dsb, disk: LoopDisk, source: Path, tmp_path: Path, first: tuple[str, str]
) -> None:
    disk.unplug()
    shutil.copy(disk.image, tmp_path / "older")
    disk.plug()
    (source / "new").write_text("new content")
    (source / "3").unlink()
    with mounted_at(disk.device, tmp_path / "disk"):
        dsb.ok("backup", "-u", "one")
    disk.unplug()
    os.replace(tmp_path / "older", disk.image)
    disk.plug()
    with mounted_at(disk.device, tmp_path / "disk") as root:
        before = names(root)
        done = dsb(*first)
        assert done.status == 4
        assert f"the disk at {root} is not as the last session left 'one'" in done.err
        assert names(root) == before
        assert "1 fewer than the catalogue said" not in done.out
        assert "0 objects more and 1 fewer than the catalogue said" in dsb.ok("disk", "refresh", "one")
        assert "copied 1 object" in dsb.ok("backup", "one")
        assert digests(source) <= names(root)
        assert "nothing to do" in dsb.ok("backup", "one")


def test_a_restore_from_an_older_image_believes_nothing_and_changes_nothing(
    dsb: Dsb, disk: LoopDisk, source: Path, tmp_path: Path
) -> None:
    disk.unplug()
    shutil.copy(disk.image, tmp_path / "older")
    disk.plug()
    (source / "new").write_text("new content")
    with mounted_at(disk.device, tmp_path / "disk"):
        dsb.ok("backup", "-u", "one")
    disk.unplug()
    os.replace(tmp_path / "older", disk.image)
    disk.plug()
    before = dsb.ok("ls")
    with mounted_at(disk.device, tmp_path / "disk", "-o", "ro"):
        done = dsb("restore", "--no-wait", "--to", tmp_path / "restored")
        assert done.status == 7
        assert "bad copy of" in done.err
        assert {path.name for path in (tmp_path / "restored").iterdir()} == {f"{number}" for number in range(FILES)}
    assert dsb.ok("ls") == before


def test_what_went_without_a_trace_is_found_too(dsb: Dsb, disk: LoopDisk, source: Path, tmp_path: Path) -> None:
    """A repair of the file system takes names out of folders and leaves their times as they were."""
    for number in (7, 8, 9):
        victim = hashlib.sha256(b"content of %d" % number).hexdigest()
        run("debugfs", "-w", "-R", f"unlink /distbackup-objects/{victim[:3]}/{victim}", disk.device)
    done = dsb("backup", "one")
    assert "one: 3 objects that should lie on it are gone" in done.err
    assert "copied 3 objects" in done.out
    with mounted_at(disk.device, tmp_path / "disk") as root:
        assert names(root) == digests(source)


_UNCLEAN = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as catalogue:
    catalogue.execute("UPDATE disk SET clean = 0")
"""


@pytest.mark.needs("nbd")
@pytest.mark.parametrize("what", ["break_reads", "die"])
def test_a_disk_that_dies_while_it_is_looked_at_has_lost_no_objects(dsb: Dsb, tmp_path: Path, what: str) -> None:
    dsb.ok("update")
    with fault_disk(tmp_path / "bed", "ext4", 160) as disk:
        with mounted_at(disk.volume.device, tmp_path / "disk") as root:
            dsb.ok("disk", "add", "two", root)
            dsb.ok("backup", "two")
        before = dsb.ok("ls")
        with mounted_at(disk.volume.device, tmp_path / "disk") as root:
            subprocess.run(["python3", "-c", _UNCLEAN, dsb.catalogue], check=True)
            getattr(disk, what)()
            done = dsb("backup", "two")
            assert done.status == 4
            assert "gone, " not in done.err
            assert dsb.ok("ls") == before
