"""The package on a booted machine: systemd runs the daemon in its sandbox, udev tells it of disks, PID 1 mounts them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distbackupd import __version__
from distbackupd.catalogue.schema import APPLICATION_ID, MIGRATIONS
from tests.bed.container import Machine, container
from tests.bed.loop_disks import LoopDisk, make_image, mounted_at, plugged
from tests.bed.package import debian_package
from tests.bed.waiting import wait_until
from tests.trees import assert_same_tree, build_nasty_tree

UNIT = "distbackupd.service"
MOUNTED = "/run/distbackup-mnt"
MEGABYTES = 100
SETTINGS = 'settle = "0.2s"\n'

pytestmark = pytest.mark.needs("container", "ext4", "dh")


class Station:
    """A machine with the package installed. What lies in ``place`` it sees in ``/srv``; it backs up ``/srv/source``."""

    def __init__(self, machine: Machine, place: Path) -> None:
        self.machine = machine
        self.place = place
        self.source = place / "source"

    def install(self, package: Path) -> str:
        """Install it, keeping settings of one's own; what dpkg said."""
        shutil.copy(package, self.place / "package.deb")
        return self.machine.run("dpkg", "--install", "--force-confold", "/srv/package.deb")

    def dsb(self, *words: str) -> str:
        """Run a command that must succeed; what it printed."""
        return self.machine.run("dsb", *words)

    def disk(self, name: str, filesystem_type: str = "ext4", megabytes: int = MEGABYTES) -> LoopDisk:
        """A fresh disk that is enrolled and lies on the shelf."""
        disk = make_image(self.place.parent / f"{name}.img", filesystem_type, name, megabytes)
        device = self.machine.plug(disk).device
        self.machine.wait_for_device(f"/dev/disk/by-uuid/{disk.filesystem_uuid}")
        self.machine.run("mount", device, "/mnt")
        self.dsb("disk", "add", name, "/mnt")
        self.machine.run("umount", "/mnt")
        self.machine.unplug(disk)
        return disk

    def wait(self, *patterns: str) -> str:
        """Wait until the daemon, or systemd of it, has logged each of these since the last wait; what was logged."""
        return self.machine.wait_for_journal(*(f"(?m){pattern}" for pattern in patterns), unit=UNIT, seconds=20)

    def wait_for_farewell(self, *names: str) -> str:
        """Wait until these disks may be unplugged; what was logged."""
        return self.wait(*(f"^{name} is done, you may unplug it$" for name in names))

    def back_up(self, disk: LoopDisk, name: str) -> str:
        """From plug to unplug; what was logged."""
        device = self.machine.plug(disk).device
        log = self.wait_for_farewell(name)
        assert self.machine.mounts_of(device) == []
        self.machine.unplug(disk)
        return log

    def status(self) -> str:
        """The line that ``systemctl status`` shows."""
        return self.machine.properties(UNIT)["StatusText"]

    def wait_for_status(self, pattern: str) -> str:
        """Wait until that line matches; the line."""
        return wait_until(lambda: line if re.search(pattern, line := self.status()) else "", f"{pattern} as status")

    def objects(self, disk: LoopDisk) -> set[str]:
        """Names of the objects on a disk from the shelf; each hashes to its name."""
        with (
            plugged(disk, read_only=True) as volume,
            mounted_at(volume.device, self.place.parent / "seen", "-o", "ro") as root,
        ):
            paths = list((root / "distbackup-objects").glob("*/*"))
            assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in paths)
            assert list((root / "distbackup-tmp").iterdir()) == []
            return {path.name for path in paths}


@contextmanager
def new_station(folder: Path) -> Iterator[Station]:
    """A booted machine with the package of the present tree, its daemon running, and nothing mapped yet."""
    place = folder / "srv"
    (place / "source").mkdir(parents=True)
    package = debian_package()
    with container(folders={place: "/srv"}) as machine:
        station = Station(machine, place)
        machine.write("/etc/distbackupd/distbackupd.toml", SETTINGS)
        station.install(package)
        yield station


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """For tests that leave the machine as they found it, with disks of their own. Its source is the nasty tree."""
    with new_station(tmp_path_factory.mktemp("service")) as station:
        build_nasty_tree(station.source)
        station.dsb("source", "map", "/nasty", "/srv/source")
        station.dsb("update")
        yield station


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Station]:
    """For one test alone. Its source holds a few small files."""
    with new_station(tmp_path) as station:
        for number in range(3):
            (station.source / f"{number}").write_text(f"content {number}")
        station.dsb("source", "map", "/small", "/srv/source")
        station.dsb("update")
        yield station


@contextmanager
def drop_in(station: Station, lines: str) -> Iterator[None]:
    """The unit has these lines too, and was restarted with them, while this lasts."""
    path = f"/etc/systemd/system/{UNIT}.d/test.conf"
    station.machine.write(path, f"[Service]\n{lines}\n")
    try:
        station.machine.run("systemctl", "daemon-reload")
        station.machine.run("systemctl", "restart", UNIT)
        yield
    finally:
        station.machine.path(path).unlink()
        station.machine.run("systemctl", "daemon-reload")
        station.machine.run("systemctl", "restart", UNIT)


# --- the service ---


def test_installing_starts_and_enables_it(station: Station) -> None:
    told = station.machine.properties(UNIT)
    assert (told["ActiveState"], told["UnitFileState"], told["NRestarts"]) == ("active", "enabled", "0")
    shown = station.machine.run("systemctl", "status", UNIT)
    assert re.search(r'(?m)^ *Status: "idle; ', shown)
    assert "Traceback" not in station.machine.journal()


def test_the_unit_is_well_written_and_hardened(station: Station) -> None:
    unit = f"/lib/systemd/system/{UNIT}"
    verified = station.machine.attempt("systemd-analyze", "verify", "--man=no", unit)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    # In tenths: at the most 2.5.
    station.machine.run("systemd-analyze", "security", "--offline=true", "--threshold=25", unit)


def test_the_sandbox_holds(station: Station) -> None:
    pid = station.machine.properties(UNIT)["MainPID"]
    status = station.machine.path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status
    inside = ["nsenter", f"--target={pid}", "--mount", "--"]
    for path in ("/etc/file", "/usr/file", "/srv/file", "/home/guest/file", "/root/file"):
        assert "Read-only" in station.machine.attempt(*inside, "touch", path).stderr, path
    assert "loop" not in station.machine.run(*inside, "ls", "/dev")
    with drop_in(station, "ExecStartPre=/bin/sh -c '! mount -t tmpfs tmpfs /mnt && ! mknod /var/lib/distbackup/disk b 7 0'"):
        assert station.machine.properties(UNIT)["ActiveState"] == "active"


def test_reload_takes_new_settings_and_refuses_wrong_ones(station: Station) -> None:
    station.machine.write("/etc/distbackupd/distbackupd.toml", f'{SETTINGS}scan_at = "04:00"\n')
    station.machine.run("systemctl", "reload", UNIT)
    station.wait("^settings read again$")
    station.machine.write("/etc/distbackupd/distbackupd.toml", 'settle = "soon"\n')
    station.machine.run("systemctl", "reload", UNIT)
    log = station.wait("the settings stay as they were")
    assert 'settle = "soon" is no duration; write it like "30d"' in log
    assert station.machine.properties(UNIT)["ActiveState"] == "active"
    station.machine.write("/etc/distbackupd/distbackupd.toml", SETTINGS)
    station.machine.run("systemctl", "reload", UNIT)
    station.wait("^settings read again$")


def test_a_daemon_that_hangs_is_killed_and_started_again(station: Station) -> None:
    with drop_in(station, "WatchdogSec=1s\nTimeoutAbortSec=1s\nRestartSec=0"):
        pid = station.machine.properties(UNIT)["MainPID"]
        station.machine.run("kill", "-STOP", pid)
        station.wait("Watchdog timeout", "serving the catalogue")
        told = station.machine.properties(UNIT)
        assert (told["ActiveState"], told["NRestarts"]) == ("active", "1")
        assert told["MainPID"] != pid


# --- from plug to unplug ---


def test_what_comes_back_is_what_was_there(station: Station) -> None:
    disk = station.disk("whole")
    log = station.back_up(disk, "whole")
    assert f"whole: recognised at {MOUNTED}/whole, starting\n" in log
    assert re.search(r"whole: copied \d+ objects", log)
    assert "skipped" not in log
    assert station.machine.run("ls", MOUNTED) == ""
    station.machine.plug(disk)
    station.wait_for_farewell("whole")
    assert re.search("^Restored", station.dsb("restore", "whole", "/srv/restored"))
    assert_same_tree(station.source, station.place / "restored" / "nasty")
    station.machine.unplug(disk)


def test_two_disks_at_once_are_both_done(station: Station) -> None:
    names = ("left", "right")
    disks = [station.disk(name) for name in names]
    for disk in disks:
        station.machine.plug(disk)
    log = station.wait_for_farewell(*names)
    for name in names:
        assert re.search(rf"{name}: copied \d+ objects", log)
    # One after the other.
    first, second = sorted(names, key=lambda name: log.index(f"{name}: recognised"))
    assert log.index(f"{first} is done") < log.index(f"{second}: recognised")
    for disk in disks:
        assert station.machine.mounts_of(disk.device) == []
        station.machine.unplug(disk)
    assert station.objects(disks[0]) == station.objects(disks[1]) != set()


def test_the_same_disk_twice_in_a_row_is_done_again_at_once(station: Station) -> None:
    disk = station.disk("twice")
    station.back_up(disk, "twice")
    for _ in range(2):
        assert "twice: nothing to do in" in station.back_up(disk, "twice")


def test_plugging_starts_a_stopped_daemon_each_time(station: Station) -> None:
    disk = station.disk("starter")
    for expected in ("copied", "nothing to do"):
        station.machine.run("systemctl", "stop", UNIT)
        station.wait("^Stopped")
        log = station.back_up(disk, "starter")
        assert "Started" in log
        assert f"starter: {expected}" in log


def test_a_stranger_does_not_start_it_and_is_not_touched(station: Station) -> None:
    stranger = make_image(station.place.parent / "stranger.img", label="stranger")
    before = stranger.image.read_bytes()
    station.machine.run("systemctl", "stop", UNIT)
    station.machine.plug(stranger)
    station.machine.wait_for_device("/dev/disk/by-label/stranger")
    assert station.machine.properties(UNIT)["ActiveState"] == "inactive"
    station.machine.run("systemctl", "start", UNIT)
    station.wait("scanned")
    assert "UDISKS_AUTO" not in station.machine.run("udevadm", "info", "--query=property", stranger.device)
    station.machine.unplug(stranger)
    assert stranger.image.read_bytes() == before


def test_the_desktop_is_told_to_leave_our_disks_alone(station: Station) -> None:
    disk = station.disk("hands-off")
    device = station.machine.plug(disk).device
    station.wait_for_farewell("hands-off")
    assert "UDISKS_AUTO=0\n" in station.machine.run("udevadm", "info", "--query=property", device)
    station.machine.unplug(disk)


def test_a_disk_that_somebody_mounted_is_used_there_and_stays_mounted(station: Station) -> None:
    disk = station.disk("borrowed")
    device = station.machine.plug(disk).device
    station.wait_for_farewell("borrowed")
    root = "/media/guest/borrowed"
    station.machine.run("mkdir", "-p", root)
    station.machine.run("mount", device, root)
    station.machine.run("systemctl", "restart", UNIT)
    log = station.wait("borrowed is done")
    assert f"borrowed is done; it was mounted at {root} before, so unmount it there before you unplug it\n" in log
    assert station.machine.mounts_of(device) == [root]
    station.machine.run("umount", root)
    station.machine.unplug(disk)


def test_who_keeps_a_disk_busy_is_named_and_the_next_plug_works(station: Station) -> None:
    disk = station.disk("busy")
    root = f"{MOUNTED}/busy"
    holder = station.machine.start("sh", "-c", f"until mountpoint -q {root}; do :; done; cd {root}; exec sleep 1000")
    device = station.machine.plug(disk).device
    log = station.wait("busy is still mounted")
    told = re.search(rf"busy is still mounted at {root}, in use by PID (\d+) \(sleep\); what was recorded is safe", log)
    assert told, log
    assert "busy is done" not in log
    assert station.machine.mounts_of(device) == [root]
    station.machine.run("kill", told[1])
    holder.wait(10)
    station.machine.run("umount", root)
    station.machine.unplug(disk)
    assert "busy: nothing to do" in station.back_up(disk, "busy")


def test_a_write_protected_disk_is_told_and_left_as_it_was(station: Station) -> None:
    disk = station.disk("locked")
    before = disk.image.read_bytes()
    device = station.machine.plug(disk, read_only=True).device
    log = station.wait("^locked can only be read, nothing was changed on it")
    assert "is done" not in log
    wait_until(lambda: station.machine.mounts_of(device) == [], "it is unmounted")
    station.machine.unplug(disk)
    assert disk.image.read_bytes() == before
    assert "locked: copied" in station.back_up(disk, "locked")


def test_it_works_without_udisks2_and_polkit(station: Station) -> None:
    disk = station.disk("headless")
    with station.machine.without("udisks2", "polkit"):
        station.machine.run("systemctl", "restart", UNIT)
        assert "headless: copied" in station.back_up(disk, "headless")


# --- from boot to shutdown, from installing to purging ---


def test_a_disk_that_is_plugged_in_at_boot_is_done(fresh: Station) -> None:
    disk = fresh.disk("early")
    fresh.back_up(disk, "early")
    fresh.machine.run("systemctl", "stop", UNIT)
    (fresh.source / "new").write_text("made while nobody looked")
    # An empty container file system is rebooted with what is plugged in; the daemon was enabled by installing it.
    fresh.machine.run("systemctl", "mask", "--runtime", UNIT)
    fresh.machine.plug(disk)
    fresh.machine.reboot()
    log = fresh.wait_for_farewell("early")
    assert "early: copied 1 object" in log
    assert fresh.machine.mounts_of(disk.device) == []


def test_upgrade_brings_the_catalogue_to_the_new_form(fresh: Station, tmp_path: Path) -> None:
    disk = fresh.disk("old")
    fresh.back_up(disk, "old")
    fresh.install(renamed(debian_package(), f"{__version__}~before", tmp_path))
    fresh.machine.run("systemctl", "stop", UNIT)
    fresh.machine.run("sh", "-c", "mv /var/lib/distbackup/distbackup.sqlite* /srv")
    make_first_form(fresh.place / "distbackup.sqlite")
    fresh.machine.run("mv", "/srv/first.sqlite", "/var/lib/distbackup/distbackup.sqlite")
    fresh.install(debian_package())
    fresh.wait("serving the catalogue")
    assert fresh.machine.run("dpkg-query", "--show", "--showformat=${Version}", "distbackupd") == __version__
    kept = {path.name for path in fresh.machine.path("/var/lib/distbackup").glob("*.before-version-*")}
    assert kept == {f"distbackup.sqlite.before-version-{version}" for version in range(2, len(MIGRATIONS) + 1)}
    assert "old: nothing to do" in fresh.back_up(disk, "old")


def make_first_form(catalogue: Path) -> None:
    """Write what a catalogue knows into ``first.sqlite`` beside it, as the first release would have."""
    with contextlib.closing(sqlite3.connect(catalogue.with_name("first.sqlite"))) as connection:
        connection.executescript(MIGRATIONS[0])
        connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
        connection.execute("ATTACH ? AS present", [str(catalogue)])
        tables = connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        for (table,) in tables.fetchall():
            columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"DELETE FROM main.{table}")
            connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM present.{table}")
        connection.commit()


def renamed(package: Path, version: str, folder: Path) -> Path:
    """The same package as another version."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
    other = folder / "other.deb"
    subprocess.run(["dpkg-deb", "--build", "-Znone", "--root-owner-group", tree, other], check=True, capture_output=True)
    return other


def test_remove_and_purge_leave_the_disks_and_their_own_way_back(fresh: Station) -> None:
    disk = fresh.disk("last")
    fresh.back_up(disk, "last")
    objects = fresh.objects(disk)
    fresh.machine.write("/etc/distbackupd/keys/somewhere.key", "the only one")
    fresh.machine.run("dpkg", "--remove", "distbackupd")
    assert fresh.machine.attempt("systemctl", "is-active", UNIT).stdout == "inactive\n"
    assert fresh.machine.path("/var/lib/distbackup/distbackup.sqlite").exists()
    # Nobody is there whom plugging could start.
    device = fresh.machine.plug(disk).device
    fresh.machine.wait_for_device("/dev/disk/by-label/last")
    fresh.machine.run("mkdir", "-p", f"{MOUNTED}/last")
    fresh.machine.run("mount", device, f"{MOUNTED}/last")
    fresh.machine.run("dpkg", "--purge", "distbackupd")
    assert not fresh.machine.path("/var/lib/distbackup").exists()
    assert not fresh.machine.path("/usr/lib/distbackupd").exists()
    assert fresh.machine.path("/etc/distbackupd/keys/somewhere.key").read_text() == "the only one"
    assert fresh.machine.run("systemctl", "list-units", "--failed", "--no-legend") == ""
    fresh.machine.run("python3", f"{MOUNTED}/last/distbackup-restore.py", "/srv/restored")
    assert_same_tree(fresh.source, fresh.place / "restored" / "small")
    fresh.machine.run("umount", f"{MOUNTED}/last")
    fresh.machine.unplug(disk)
    assert fresh.objects(disk) == objects
