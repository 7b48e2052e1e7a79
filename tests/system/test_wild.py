"""Trouble as disks and sources make it in the wild: slow ones, one bad sector, a source that dies while it is copied."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.bad_sector_disk import bad_sector_disk, place_on
from tests.bed.fault_disk import fault_disk
from tests.bed.foreign_targets import foreign_folder
from tests.bed.loop_disks import loop_disk, mounted_at
from tests.bed.programs import Dsb
from tests.bed.waiting import wait_until

pytestmark = pytest.mark.needs("root", "loop")

FILES = 8


@pytest.fixture
def dsb(tmp_path: Path) -> Dsb:
    """A catalogue with eight files of 300 kB."""
    dsb = Dsb(tmp_path / "catalogue", verify_share="0%")
    (tmp_path / "source").mkdir()
    for number in range(FILES):
        (tmp_path / "source" / f"{number}").write_bytes(os.urandom(300_000))
    dsb.ok("source", "map", "/", tmp_path / "source")
    dsb.ok("update")
    return dsb


@pytest.mark.needs("nbd", "ext4")
def test_a_slow_disk_only_takes_longer(dsb: Dsb, tmp_path: Path) -> None:
    slow = ("--filter=delay", "--filter=rate", "rate=40M", "wdelay=10ms", "rdelay=10ms")
    with (
        fault_disk(tmp_path / "bed", "ext4", 64, "EIO", *slow) as disk,
        mounted_at(disk.volume.device, tmp_path / "disk"),
    ):
        dsb.ok("disk", "add", "one", tmp_path / "disk")
        assert f"copied {FILES} objects" in dsb.ok("backup", "one")
        assert dsb.json("verify", "one")["bad"] == []


@pytest.mark.needs("nbd", "ext4", "filefrag")
def test_one_bad_sector_costs_one_copy_that_is_made_again(dsb: Dsb, tmp_path: Path) -> None:
    with loop_disk(tmp_path, megabytes=32) as disk:
        with mounted_at(disk.device, tmp_path / "disk") as root:
            dsb.ok("disk", "add", "one", root)
            dsb.ok("backup", "one")
            victim = sorted((root / "distbackup-objects").glob("*/*"))[3]
            bad = place_on(disk.device, victim)
        disk.unplug()
        with bad_sector_disk(tmp_path / "bed", disk.image, bad) as device, mounted_at(device, tmp_path / "disk") as root:
            done = dsb("verify", "one")
            assert done.status == 7, done
            # What lies beside it, and was read in one request with it, may fail with it.
            assert (told := re.search(r"([12]) bad files?\.", done.out)), done
            assert victim.name[:16] in done.err
            assert "it cannot be read: Input/output error" in done.err
            assert f"one: copied {told[1]} bad object" in done.out
            assert (root / "bad-objects" / victim.name).exists(), "so that its bad blocks are given to nobody else"
            assert dsb.json("verify", "one")["bad"] == []
            assert "nothing to do" in dsb.ok("backup", "one")
            assert dsb.json("info")["copies"].keys() == {"1"}


@contextmanager
def far_source(dsb: Dsb, place: Path) -> Iterator[Path]:
    """A second source, on a file system whose driver can be killed: four files."""
    with foreign_folder(place, "ntfs") as folder:
        for number in range(4):
            (folder / f"{number}").write_bytes(os.urandom(200_000))
        dsb.ok("source", "map", "/far", folder)
        dsb.ok("update")
        yield folder


def kill_driver(folder: Path, number: signal.Signals = signal.SIGKILL) -> None:
    found = subprocess.run(["pgrep", "--full", f"^ntfs-3g .*{folder}"], capture_output=True, text=True, check=True)
    for process in found.stdout.split():
        os.kill(int(process), number)


@pytest.mark.needs("mkfs.ntfs", "ntfs-3g")
@pytest.mark.parametrize("words", [("backup", "one"), ("update",), ("backup", "-u", "one")], ids=" ".join)
def test_a_source_that_dies_while_it_is_scanned_or_copied_is_no_deletion(
    dsb: Dsb, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "disk").mkdir()
    dsb.ok("disk", "add", "one", tmp_path / "disk", "--folder")
    with far_source(dsb, tmp_path) as folder:
        paths = {entry["path"] for entry in dsb.json("ls")}
        # It answers no more, somebody waits for it, and then it is gone.
        kill_driver(folder, signal.SIGSTOP)
        process = dsb.start(*words)
        wait_until(lambda: waits_for_a_source(process), "it waits for the source")
        kill_driver(folder)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 3, (out, err)
        assert "Traceback" not in err
        assert "Transport endpoint is not connected" in err
        assert {entry["path"] for entry in dsb.json("ls")} == paths
        if "backup" in words:
            assert f"copied {FILES} objects" in out, "of the other source"
        subprocess.run(["umount", "--lazy", folder], check=True)
        subprocess.run(["ntfs-3g", device_of(tmp_path), folder], check=True)
        assert "0 new, 0 changed, 0 gone" in dsb.ok("update")
        assert f"copied {4 + FILES * ('backup' not in words)} objects" in dsb.ok("backup", "one")


def waits_for_a_source(process: subprocess.Popen[str]) -> bool:
    """Whether one of its threads waits for a driver in user space."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return any((task / "wchan").read_text() == "request_wait_answer" for task in tasks)


def device_of(place: Path) -> str:
    """The loop device of the far source's image."""
    told = subprocess.run(
        ["losetup", "--list", "--noheadings", "--output=NAME,BACK-FILE"], capture_output=True, text=True, check=True
    )
    return next(line.split()[0] for line in told.stdout.splitlines() if f"{place}/" in line)
