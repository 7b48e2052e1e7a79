"""Disks and sources that do not answer, and give no error either: the daemon lives, tells it, serves others, and ends."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distbackupd.model.errors import DiskTrouble
from tests.bed.fault_disk import fault_disk
from tests.bed.foreign_targets import foreign_folder
from tests.bed.loop_disks import foreign_disk, mounted_at, run
from tests.bed.programs import Daemon, Dsb, running_daemon
from tests.bed.waiting import wait_until

RULES = "udev/75-distbackupd.rules"
FILES = 16

pytestmark = pytest.mark.needs("root", "loop")


@pytest.fixture
def dsb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dsb:
    """A catalogue with sixteen files of 500 kB, and a service manager that watches the daemon."""
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    dsb = Dsb(tmp_path / "catalogue", settle="0.2s", scan_at="04:00", verify_share="0%", power_off=False)
    (tmp_path / "source").mkdir()
    for number in range(FILES):
        (tmp_path / "source" / f"{number}").write_bytes(os.urandom(500_000))
    dsb.ok("source", "map", "/", tmp_path / "source")
    dsb.ok("update")
    return dsb


@contextmanager
def hasty_daemon(dsb: Dsb) -> Iterator[Daemon]:
    """One that waits a second where the real one waits minutes."""
    with running_daemon(dsb, module="tests.bed.hasty_daemon") as daemon:
        yield daemon


def pings(daemon: Daemon) -> int:
    return daemon.messages.count("WATCHDOG=1")


def told_since(daemon: Daemon, number: int, pattern: str) -> str:
    """The service manager was told this after so many messages."""
    return wait_until(
        lambda: next((text for text in daemon.messages[number:] if re.search(pattern, text)), ""), f"{pattern} is told", 15
    )


def assert_lives(daemon: Daemon, dsb: Dsb) -> None:
    """It tells systemd so, and others are served."""
    before = pings(daemon)
    wait_until(lambda: pings(daemon) > before + 1, "it tells the service manager that it is alive")
    assert f"Now: distbackupd backing up, pid {daemon.process.pid}" in dsb.ok("status")
    assert len(dsb.json("ls")) == FILES


@pytest.mark.needs("nbd", "ext4")
@pytest.mark.inside_private_udevd(RULES)
def test_a_disk_that_hangs_is_told_waited_for_and_left_behind_at_a_stop(dsb: Dsb, tmp_path: Path) -> None:
    with fault_disk(tmp_path / "bed", "ext4", 100, "EIO", "--filter=rate", "rate=24M") as disk:
        with mounted_at(disk.volume.device, tmp_path / "by hand") as root:
            dsb.ok("disk", "add", "one", root)
        with hasty_daemon(dsb) as daemon:
            daemon.wait_for_message("^STATUS=one: copying")
            disk.hang()
            try:
                daemon.wait_for("(?m)^one(, or a source,)? has not answered for .*; what was recorded is safe, and the work")
                daemon.wait_for_message("^STATUS=one(, or a source,)? has not answered for .*; other disks wait for it")
                assert_lives(daemon, dsb)
            finally:
                disk.wake()
            daemon.wait_for("(?m)^one: answers again after .*, the work goes on$")
            disk.hang()
            try:
                told = len(daemon.messages)
                daemon.process.send_signal(signal.SIGTERM)
                told_since(daemon, told, "^STOPPING=1")
                told_since(daemon, told, "^STATUS=stopping at a good place$")
                told_since(daemon, told, "^STATUS=stopping: one.* has not answered for .*; it is waited for a little longer")
                daemon.wait_for("(?m)^one.* has not answered for .*, so it is not waited for any longer; what was recorded")
                # What waits for a block device, not even SIGKILL ends; all other threads are gone.
                wait_until(lambda: len(os.listdir(f"/proc/{daemon.process.pid}/task")) <= 6, "only waiters are left")
            finally:
                disk.wake()
            assert daemon.process.wait(10) == DiskTrouble.exit_code
            assert "Traceback" not in daemon.log
        with running_daemon(dsb) as daemon:
            daemon.wait_for("(?m)^one is done, you may unplug it$", seconds=30)
            assert daemon.stop() == 0
        with mounted_at(disk.volume.device, tmp_path / "by hand") as root:
            objects = list((root / "distbackup-objects").glob("*/*"))
            assert len(objects) == FILES
            assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in objects)


@contextmanager
def stopped_driver(place: Path | str) -> Iterator[None]:
    """The program that serves the file system of a device or folder does not answer while this lasts."""
    found = subprocess.run(
        ["pgrep", "--full", f"^[^ ]*(ntfs-3g|exfat-fuse|mount.exfat) .*{place}"], capture_output=True, text=True, check=False
    )
    processes = [int(line) for line in found.stdout.split()]
    assert processes, f"nothing serves {place}"
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@pytest.mark.needs("mkfs.exfat", "mount.exfat-fuse")
@pytest.mark.inside_private_udevd(RULES)
def test_a_disk_whose_driver_hangs_holds_up_no_stop(dsb: Dsb, tmp_path: Path) -> None:
    (tmp_path / "source" / "big").write_bytes(os.urandom(60_000_000))
    dsb.ok("update")
    with foreign_disk(tmp_path, "exfat", 200) as volume:
        run("mkdir", tmp_path / "by hand")
        run("mount.exfat-fuse", volume.device, tmp_path / "by hand")
        dsb.ok("disk", "add", "one", tmp_path / "by hand")
        run("umount", tmp_path / "by hand")
        with hasty_daemon(dsb) as daemon:
            daemon.wait_for("one: recognised at")
            with stopped_driver(volume.device):
                daemon.wait_for("(?m)^one(, or a source,)? has not answered for .*; what was recorded is safe")
                daemon.process.send_signal(signal.SIGTERM)
                daemon.wait_for("so it is not waited for any longer")
            # A call that the driver has taken already is one that nothing ends but its answer.
            assert daemon.process.wait(10) == DiskTrouble.exit_code
        with running_daemon(dsb) as daemon:
            daemon.wait_for("(?m)^one is done, you may unplug it$", seconds=30)
            assert daemon.stop() == 0


@pytest.mark.needs("mkfs.ntfs", "ntfs-3g")
@pytest.mark.inside_private_udevd(RULES)
def test_a_source_that_hangs_is_told_and_holds_up_no_stop(dsb: Dsb, tmp_path: Path) -> None:
    with foreign_folder(tmp_path, "ntfs") as folder:
        (folder / "file").write_bytes(b"content")
        dsb.ok("source", "map", "/far", folder)
        dsb.ok("update")
        before = dsb.ok("ls")
        with stopped_driver(folder), hasty_daemon(dsb) as daemon:
            daemon.wait_for("(?m)^a source has not answered for .*; nothing counts as deleted, and the work goes on")
            assert dsb.ok("ls") == before
            assert daemon.stop() == DiskTrouble.exit_code
        with hasty_daemon(dsb) as daemon:
            daemon.wait_for("scanned .* 0 new, 0 changed, 0 gone")
            assert daemon.stop() == 0
