"""Whatever ends a program in the middle: what was recorded is true, and the next run goes on there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.bed.fault_disk import fault_disk
from tests.bed.known_file import make_known
from tests.bed.loop_disks import mounted_at
from tests.bed.opened_files import opened_files
from tests.bed.programs import Dsb
from tests.bed.waiting import wait_until

HUGE = 60 << 30
"""Bytes of a sparse file that takes more than half a minute to read."""


class Scene:
    """Twenty small files; with :meth:`make_huge` one of them becomes so large that a program is busy with it."""

    def __init__(self, place: Path) -> None:
        self.dsb = Dsb(place / "catalogue")
        self.source = place / "source"
        self.disk = place / "disk"
        self.source.mkdir()
        for number in range(20):
            (self.source / f"{number:02}").write_bytes(b"content %d" % number)
        self.dsb.ok("source", "map", "/", self.source)

    def by_inode(self) -> list[Path]:
        """The files in the order in which they are hashed."""
        return sorted(self.source.iterdir(), key=lambda path: path.stat().st_ino)

    def stored(self) -> set[str]:
        return {entry["path"].lstrip("/") for entry in self.dsb.json("ls")}

    def assert_disk_and_catalogue_agree(self) -> None:
        """The disk holds what the catalogue says, whole, and nothing unfinished."""
        objects = sorted((self.disk / "distbackup-objects").glob("*/*"))
        for path in objects:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        (disk,) = self.dsb.json("info")["disks"]
        assert disk["objects"] == len(objects)
        assert list((self.disk / "distbackup-tmp").iterdir()) == []


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def is_reading(process: subprocess.Popen[str], path: Path) -> bool:
    """Whether the process has the file open."""
    descriptors = Path(f"/proc/{process.pid}/fd")
    try:
        return any(os.readlink(descriptor) == str(path) for descriptor in descriptors.iterdir())
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_update_asked_to_stop_records_what_it_hashed(scene: Scene, number: signal.Signals) -> None:
    huge = scene.by_inode()[-1]
    os.truncate(huge, HUGE)
    with opened_files(scene.source) as opened:
        process = scene.dsb.start("update")
        wait_until(lambda: len(opened.names()) == 20 and is_reading(process, huge), "the huge file is being read")
        wait_until(lambda: open_files_below(process, scene.source) == {huge.name}, "the others are done")
        process.send_signal(number)
        out, err = process.communicate(timeout=5)
    assert process.returncode == 130, out + err
    assert err.splitlines() == [
        "stopping as soon as nothing is left half-done; press Ctrl+C again to stop at once",
        "dsb: hashing was stopped; what was hashed is recorded, the next scan goes on there",
    ]
    stored = scene.stored()
    assert stored == {f"{name:02}" for name in range(20)} - {huge.name}
    os.truncate(huge, 5)
    with opened_files(scene.source) as opened:
        scene.dsb.ok("update")
        assert opened.names() == {huge.name}


def open_files_below(process: subprocess.Popen[str], folder: Path) -> set[str]:
    names = set()
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            path = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        if os.path.dirname(path) == str(folder):
            names.add(os.path.basename(path))
    return names


def test_update_killed_while_hashing_reads_nothing_again_that_was_stored(scene: Scene) -> None:
    paths = scene.by_inode()
    os.truncate(paths[9], (1 << 30) + 1)  # fills what is recorded in one go
    huge = paths[-1]
    os.truncate(huge, HUGE)
    process = scene.dsb.start("update")
    stored = wait_until(scene.stored, "the first hashes are recorded", 30)
    wait_until(lambda: is_reading(process, huge), "the huge file is being read")
    process.kill()
    process.communicate()
    assert stored == scene.stored() == {path.name for path in paths[:10]}
    os.truncate(huge, 5)
    with opened_files(scene.source) as opened:
        scene.dsb.ok("update")
        assert opened.names() == {path.name for path in paths[10:]}
    assert len(scene.stored()) == 20


def make_huge(scene: Scene, path: Path, size: int | None = None) -> None:
    """So large that copying it takes many seconds, but no larger than the room for its copy; and known, to spare hashing."""
    scene.dsb.ok("update")
    make_known(scene.dsb.folder, path, size or min(HUGE, shutil.disk_usage(path.parent).free // 2))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_backup_ended_in_the_middle_of_a_file_leaves_nothing_half_recorded(scene: Scene, number: signal.Signals) -> None:
    scene.dsb.ok("disk", "add", "one", scene.disk, "--folder", "--size", "1T")
    scene.dsb.ok("backup", "one", "-u", "--limit", "50")
    first = scene.by_inode()[0]
    make_huge(scene, first)
    scene.dsb.ok("update")
    process = scene.dsb.start("backup", "one")
    wait_until(lambda: is_reading(process, first), "the huge file is being copied")
    process.send_signal(number)
    out, err = process.communicate(timeout=5)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, out + err
        assert re.search(
            r"one: interrupted after \d+ objects?; what was copied is recorded, the next plug goes on there\n", out
        )
        assert err == "stopping as soon as nothing is left half-done; press Ctrl+C again to stop at once\n"
        scene.assert_disk_and_catalogue_agree()
    first.write_bytes(b"small again")
    assert "100% of the bytes" in scene.dsb("update").err
    assert "the brake is off" in scene.dsb.ok("brake", "release")
    told = scene.dsb.ok("backup", "one", "-u")
    assert "copied" in told or "took over" in told
    scene.assert_disk_and_catalogue_agree()
    assert scene.dsb.json("info")["copies"].keys() == {"1"}
    assert scene.dsb.json("verify", "one")["bad"] == []


def test_a_second_program_is_refused_while_one_works(scene: Scene) -> None:
    scene.dsb.ok("disk", "add", "one", scene.disk, "--folder", "--size", "1T")
    first = scene.by_inode()[0]
    make_huge(scene, first)
    scene.dsb.ok("update")
    process = scene.dsb.start("backup", "one")
    try:
        wait_until(lambda: is_reading(process, first), "the huge file is being copied")
        for words in (("update",), ("backup", "one"), ("verify", "one"), ("source", "lock", "/x"), ("disk", "drop", "one")):
            assert scene.dsb.refused(6, *words) == (
                f"another program is at work on this catalogue (dsb backup one, pid {process.pid}); "
                "try again when it is done"
            )
        assert f"Now: dsb backup one, pid {process.pid}\n" in scene.dsb.ok("status")
        for words in (("ls",), ("info",), ("disk", "list"), ("source",)):
            scene.dsb.ok(*words)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=5)
    scene.dsb.ok("source", "lock", "/x")


def test_a_file_that_changes_while_it_is_hashed_is_looked_at_again(scene: Scene) -> None:
    huge = scene.by_inode()[0]
    os.truncate(huge, HUGE)
    process = scene.dsb.start("update")
    wait_until(lambda: is_reading(process, huge), "the huge file is being read")
    os.truncate(huge, 10)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, ""), out
    assert {entry["path"]: entry["size"] for entry in scene.dsb.json("ls")}[f"/{huge.name}"] == 10


@pytest.mark.parametrize(
    ("size", "later", "reason"),
    [
        (None, lambda path: os.truncate(path, 10), "it changed since it was scanned"),
        (1 << 30, lambda path: os.truncate(path, 2 << 30), "it grew while it was copied"),
        (1 << 30, lambda path: path.unlink(), "it is not there any more"),
    ],
    ids=["shrinks", "grows", "goes"],
)
def test_a_file_that_changes_while_it_is_copied_is_skipped(scene: Scene, size: int, later, reason: str) -> None:
    scene.dsb.ok("disk", "add", "one", scene.disk, "--folder", "--size", "1T")
    huge = scene.by_inode()[0]
    make_huge(scene, huge, size)
    scene.dsb.ok("update")
    process = scene.dsb.start("backup", "one")
    wait_until(lambda: is_reading(process, huge), "the huge file is being copied")
    later(huge)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 3, out + err
    assert err == f"/{huge.name}: skipped, {reason}; it will be tried again\n"
    assert "one: copied 19 objects" in out, "the other files"
    assert "; 1 file skipped, to be tried again" in out
    scene.assert_disk_and_catalogue_agree()


@pytest.mark.needs("nbd", "ext4")
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_disk_that_fails_while_it_is_written_ends_the_session(scene: Scene, tmp_path: Path, error: str) -> None:
    with fault_disk(tmp_path / "bed", megabytes=100, error=error) as disk:
        with mounted_at(disk.volume.device, tmp_path / "mounted by hand") as root:
            scene.dsb.ok("disk", "add", "one", root)
            scene.dsb.ok("backup", "one", "-u", "--limit", "60")
            held = scene.dsb.json("info")["disks"][0]["objects"]
            disk.break_writes()
            done = scene.dsb("backup", "one")
            assert done.status == 4, done
            assert len(done.err.splitlines()) == 1
            assert done.err.startswith("one: stopped: the disk at ")
            assert "what was" in done.err
            assert scene.dsb.json("info")["disks"][0]["objects"] == held
            disk.mend()
        subprocess.run(["fsck.ext4", "-p", disk.volume.device], capture_output=True, check=False)
        with mounted_at(disk.volume.device, tmp_path / "mounted by hand") as root:
            scene.disk = root
            scene.dsb.ok("backup", "one")
            scene.assert_disk_and_catalogue_agree()
            assert scene.dsb.json("info")["copies"].keys() == {"1"}
