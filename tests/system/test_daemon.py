"""The daemon as systemd starts it, beside a udevd of its own, with loop disks that are plugged in and pulled out."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bed.known_file import make_known
from tests.bed.loop_disks import LoopDisk, make_image, mounted_at, plugged, run, unmount_all
from tests.bed.programs import Daemon, Dsb, running_daemon
from tests.bed.waiting import wait_until

MEGABYTES = 100
RULES = "udev/75-distbackupd.rules"
HUGE = 60 << 30
"""Bytes of a sparse file that takes more than half a minute to copy."""

pytestmark = pytest.mark.needs("ext4")


class Shelf:
    """A catalogue with a source of three files, and disks."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.source = place / "source"
        (self.source / "below").mkdir(parents=True)
        for number in range(3):
            (self.source / "below" / f"{number}").write_bytes(b"content %d" % number)
        self.settings: dict[str, str | bool] = {"settle": "0.2s", "scan_at": "04:00"}
        self.dsb = Dsb(place / "catalogue", **self.settings)
        self.dsb.ok("source", "map", "/", self.source)
        self.disks: list[LoopDisk] = []

    def disk(self, name: str, filesystem_type: str = "ext4", megabytes: int = MEGABYTES) -> LoopDisk:
        """A fresh disk that is added and lies on the shelf."""
        disk = make_image(self.place / f"{name}.img", filesystem_type, name, megabytes)
        self.disks.append(disk)
        with plugged(disk) as volume, mounted_at(volume.device, self.place / "by hand") as root:
            self.dsb.ok("disk", "add", name, root)
        return disk

    def objects(self, disk: LoopDisk) -> set[str]:
        """Names of the objects on a disk from the shelf; each hashes to its name."""
        with plugged(disk, read_only=True) as volume, mounted_at(volume.device, self.place / "by hand", "-o", "ro") as root:
            paths = list((root / "distbackup-objects").glob("*/*"))
            assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in paths)
            assert list((root / "distbackup-tmp").iterdir()) == []
            return {path.name for path in paths}


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    for disk in shelf.disks:
        if disk.device:
            unmount_all(disk.device)
            disk.unplug()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_mounted(disk: LoopDisk) -> bool:
    return any(line.split()[0] == disk.device for line in Path("/proc/self/mounts").read_text().splitlines())


def plug_and_wait(daemon: Daemon, disk: LoopDisk, name: str) -> str:
    """Plug it in, wait until it may be unplugged, and unplug it; what was logged."""
    disk.plug()
    log = daemon.wait_for(f"(?m)^{name} is done, you may unplug it$")
    assert not is_mounted(disk)
    disk.unplug()
    return log


@pytest.mark.inside_private_udevd(RULES)
def test_from_plug_to_unplug(shelf: Shelf) -> None:
    one, two, three = (shelf.disk(name) for name in ("one", "two", "three"))
    unknown = make_image(shelf.place / "unknown.img", label="unknown", megabytes=8)
    untouched = unknown.image.read_bytes()
    one.plug()
    with running_daemon(shelf.dsb) as daemon:
        # Plugged in before the start.
        log = daemon.wait_for("(?m)^one is done, you may unplug it$")
        assert "scanned 5 entries" in log
        assert "one: copied 3 objects (27 bytes)" in log
        daemon.wait_for_message(
            "^STATUS=idle; 27 bytes on 3 disks: 27 bytes with one copy; bring two: 27 bytes have one copy only$"
        )
        assert not is_mounted(one)
        one.unplug()

        # Two at once, and one that is none of ours.
        with plugged(unknown):
            two.plug()
            three.plug()
            log = daemon.wait_for("(?m)^two is done, you may unplug it$", "(?m)^three is done, you may unplug it$")
            assert "two: copied 3 objects" in log
            assert "three: copied 3 objects" in log
        assert unknown.image.read_bytes() == untouched
        assert "unknown" not in daemon.log
        assert unknown.filesystem_uuid not in daemon.log
        two.unplug()
        three.unplug()

        # Nothing new.
        began = time.monotonic()
        assert "one: nothing to do in" in plug_and_wait(daemon, one, "one")
        assert time.monotonic() - began < 5

        # A file changes; nobody scans.
        (shelf.source / "below" / "1").write_bytes(b"something else")
        daemon.wait_for("scanned .* 0 new, 1 changed, 0 gone; hashed 1 file")
        assert "one: copied 1 object (14 bytes)" in plug_and_wait(daemon, one, "one")
        (shelf.source / "new folder").mkdir()
        (shelf.source / "new folder" / "new").write_bytes(b"new")
        daemon.wait_for(r"scanned .* 0 gone; hashed 1 file \(3 bytes\)")
        assert "two: copied 2 objects" in plug_and_wait(daemon, two, "two")

        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5
        daemon.wait_for_message("^STOPPING=1")
        assert daemon.log.splitlines()[-1] == "stopped"
        assert "Traceback" not in daemon.log
    assert shelf.objects(one) >= {digest(b"content 1"), digest(b"something else")}
    assert shelf.objects(two) == {
        digest(content) for content in (b"content 0", b"content 1", b"content 2", b"something else", b"new")
    }


@pytest.mark.inside_private_udevd(RULES)
def test_a_deleted_file_goes_when_its_grace_is_over(shelf: Shelf) -> None:
    one = shelf.disk("one")
    with running_daemon(shelf.dsb) as daemon:
        plug_and_wait(daemon, one, "one")
        (shelf.source / "below" / "2").unlink()
        daemon.wait_for("scanned .* 1 gone")
        shelf.dsb.ok("update")
        assert "one: nothing to do in" in plug_and_wait(daemon, one, "one")

        Dsb(shelf.dsb.folder, **shelf.settings, keep_deleted="0")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("(?m)^settings read again$")
        daemon.wait_for_message("^RELOADING=1\nMONOTONIC_USEC=")
        assert "one: deleted 1 object (9 bytes)" in plug_and_wait(daemon, one, "one")

        shelf.dsb.config.write_text('settle = "soon"\n')
        daemon.process.send_signal(signal.SIGHUP)
        log = daemon.wait_for("the settings stay as they were")
        assert 'settle = "soon" is no duration; write it like "30d"' in log
        assert daemon.stop(signal.SIGINT) == 0
    assert shelf.objects(one) == {digest(b"content 0"), digest(b"content 1")}


@pytest.mark.needs("btrfs")
@pytest.mark.inside_private_udevd(RULES)
def test_asked_to_stop_while_a_big_file_is_copied(shelf: Shelf) -> None:
    # No disk but a sparse btrfs is that large here.
    big = shelf.source / "big"
    big.write_bytes(b"not big yet")
    shelf.dsb.ok("update")
    make_known(shelf.dsb.folder, big, HUGE)
    one = shelf.disk("one", "btrfs", 100_000)
    one.plug()
    with running_daemon(shelf.dsb) as daemon:
        daemon.wait_for("one: recognised at")
        wait_until(lambda: is_open(daemon, big), "the big file is being copied")
        daemon.wait_for_message(r"^STATUS=one: copying \d+% \(")

        # Meanwhile nobody else may work on the catalogue.
        pid = daemon.process.pid
        for words in (("backup", "one"), ("update",)):
            told = shelf.dsb.refused(6, *words)
            assert told.endswith(f"(distbackupd backing up, pid {pid}); try again when it is done")
        with running_daemon(shelf.dsb, ready=False) as second:
            assert second.process.wait(10) == 6
            assert second.log == (
                f"{shelf.dsb.folder}: another distbackupd (process {pid}) serves this catalogue; "
                "stop it first, or name another folder with -d\n"
            )
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 5
        daemon.wait_for_message("^STOPPING=1")
        log = daemon.wait_for("(?m)^stopped$")
        assert re.search(r"(?m)^one: interrupted after \d objects?; what was copied is recorded", log)
        assert "you may unplug" not in log
    assert not is_mounted(one)
    one.unplug()
    (disk,) = shelf.dsb.json("info")["disks"]
    assert disk["objects"] == len(shelf.objects(one))

    big.write_bytes(b"big, once")
    assert "100% of the bytes" in shelf.dsb("update").err
    assert "the brake is off" in shelf.dsb.ok("brake", "release")
    one.plug()
    with running_daemon(shelf.dsb) as daemon:
        daemon.wait_for("(?m)^one is done, you may unplug it$")
        assert daemon.stop() == 0
    one.unplug()
    assert digest(b"big, once") in shelf.objects(one)
    assert shelf.dsb.json("info")["copies"].keys() == {"1"}


def is_open(daemon: Daemon, path: Path) -> bool:
    for descriptor in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        try:
            if os.readlink(descriptor) == str(path):
                return True
        except FileNotFoundError:
            continue
    return False


@pytest.mark.inside_private_udevd(RULES)
def test_disks_that_must_not_be_touched_are_told_once(shelf: Shelf) -> None:
    one, two, three = (shelf.disk(name) for name in ("one", "two", "three"))
    with ExitStack() as stack:
        volume = stack.enter_context(plugged(two))
        with mounted_at(volume.device, shelf.place / "by hand") as root:
            (root / "distbackup-disk.json").unlink()
        two.unplug()
    twin = LoopDisk(shelf.place / "twin.img", "ext4", one.filesystem_uuid)
    run("cp", one.image, twin.image)
    before = twin.image.read_bytes()
    with running_daemon(shelf.dsb) as daemon:
        daemon.wait_for("scanned")
        with plugged(twin):
            daemon.wait_for("one is done")
        twin.image.write_bytes(before)
        one.plug()
        daemon.wait_for("one: the disk at .* is not as the last session left 'one'.*'dsb disk refresh one'")
        with plugged(twin) as volume:
            log = daemon.wait_for("one: .* have the same file system UUID")
            both = " and ".join(sorted([one.device, volume.device]))
            assert log == (
                f"one: {both} have the same file system UUID, so one is a clone of the other; nothing was touched: "
                "unplug the clone, or give it a UUID of its own (tune2fs -U random, xfs_admin -U generate)\n"
            )
        assert twin.image.read_bytes() == before
        one.unplug()

        two.plug()
        log = daemon.wait_for("two: .*\n")
        assert log == (
            f"two: there is no distbackup-disk.json at {shelf.place}/mounted/two, so it cannot be recognised as 'two'; "
            "nothing on it was touched: if it lies elsewhere on the disk, say 'dsb disk set two --path PATH'\n"
        )
        wait_until(lambda: not is_mounted(two), "the disk is unmounted again")
        two.unplug()

        image = three.image.read_bytes()
        three.plug(read_only=True)
        log = daemon.wait_for("three .*\n")
        assert log.startswith("three can only be read, nothing was changed on it: it has a write-protection switch")
        assert len(log.splitlines()) == 1
        wait_until(lambda: not is_mounted(three), "the disk is unmounted again")
        three.unplug()
        assert three.image.read_bytes() == image
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log


@pytest.mark.inside_private_udevd(RULES)
def test_a_disk_that_somebody_mounted_is_used_and_stays_mounted(shelf: Shelf) -> None:
    one = shelf.disk("one")
    with plugged(one) as volume, mounted_at(volume.device, shelf.place / "by hand") as root:
        with running_daemon(shelf.dsb) as daemon:
            log = daemon.wait_for("one is done.*\n")
            assert f"one: recognised at {root}, starting\n" in log
            assert f"one is done; it was mounted at {root} before, so unmount it there before you unplug it\n" in log
            assert daemon.stop() == 0
        assert is_mounted(one)
        assert (root / "distbackup.sqlite").exists()


@pytest.mark.inside_private_udevd(RULES)
def test_once_does_what_is_due_and_leaves(shelf: Shelf) -> None:
    one = shelf.disk("one")
    with plugged(one):
        run("udevadm", "settle", "--timeout=10")
        with running_daemon(shelf.dsb, "--once", ready=False) as daemon:
            assert daemon.process.wait(20) == 0
            assert daemon.log.splitlines()[-1] == "one is done, you may unplug it"
        assert not is_mounted(one)
    assert shelf.dsb.json("info")["copies"].keys() == {"1"}
