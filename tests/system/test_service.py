"""The package on a booted machine: systemd runs the daemon in its sandbox, udev tells it of disks, a helper mounts them."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from distbackupd import __version__
from distbackupd.catalogue.schema import APPLICATION_ID, MIGRATIONS
from tests.bed import known_file
from tests.bed.loop_disks import make_image
from tests.bed.package import debian_package
from tests.bed.station import SETTINGS, UNIT, Station, drop_in, new_station
from tests.bed.waiting import wait_until
from tests.trees import assert_same_tree, build_nasty_tree

MOUNTED = "/run/distbackup-mnt"
HUGE = 60 << 30
"""Bytes of a sparse file that takes a minute or more to copy."""

# The first of them may have to build the package, and what the machine boots from.
pytestmark = [pytest.mark.needs("btrfs", "container", "dh", "ext4"), pytest.mark.timeout(400)]


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


# --- the service ---


def test_installing_starts_and_enables_it(station: Station) -> None:
    told = station.machine.properties(UNIT)
    assert (told["ActiveState"], told["UnitFileState"], told["NRestarts"]) == ("active", "enabled", "0")
    shown = station.machine.run("systemctl", "status", UNIT)
    assert re.search(r'(?m)^ *Status: "idle; ', shown)
    assert "Traceback" not in station.machine.journal()


def test_the_unit_is_well_written_and_hardened(station: Station) -> None:
    for name in (UNIT, "distbackupd-helper.service", "distbackupd-helper.socket"):
        unit = f"/lib/systemd/system/{name}"
        verified = station.machine.attempt("systemd-analyze", "verify", "--man=no", unit)
        assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
        if name.endswith(".service"):
            # In tenths: at the most 2.0.
            station.machine.run("systemd-analyze", "security", "--offline=true", "--threshold=20", unit)


def test_the_sandbox_holds(station: Station) -> None:
    pid = station.machine.properties(UNIT)["MainPID"]
    status = station.machine.path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status
    user = station.machine.run("id", "--user", "distbackup").strip()
    assert user != "0"
    assert f"Uid:\t{user}\t{user}\t{user}\t{user}\n" in status
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
    with drop_in(station, "WatchdogSec=2s\nTimeoutAbortSec=1s\nRestartSec=0"):
        pid = station.machine.properties(UNIT)["MainPID"]
        station.machine.run("kill", "-STOP", pid)
        station.wait(r"Watchdog timeout[\s\S]*^Started")
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
        refused = station.machine.attempt("dsb", "pause", user="guest")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr == (
            "dsb: polkit does not answer here, so only root may change what distbackupd does; "
            "nothing was changed: use sudo\n"
        )
        station.dsb("pause")
        station.dsb("resume")


# --- in the middle of a long session ---


class LongCopy:
    """A disk that has been copied to for a moment, out of a minute or more."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.machine = station.machine
        # No disk but a sparse btrfs is that large here.
        (station.source / "big").write_bytes(b"not big yet")
        station.dsb("update")
        known = f"make_known(Path('/var/lib/distbackup'), Path('/srv/source/big'), {HUGE})"
        self.machine.run("python3", "-c", f"{Path(known_file.__file__).read_text()}\n{known}")
        self.disk = station.disk("long", "btrfs", 100_000)

    def wait_for_bytes(self) -> None:
        """Wait until the status line counts bytes."""
        self.station.wait_for_status(r"^long: copying \d+% \([1-9]")

    def mounted(self) -> list[str]:
        """Where it is mounted."""
        return self.machine.mounts_of(self.disk.device)

    def wait_until_unmounted(self) -> None:
        """Wait until it might be unplugged."""
        wait_until(lambda: self.mounted() == [], "the long disk is unmounted")


@pytest.fixture(scope="module")
def long_station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LongCopy]:
    """Not plugged in yet."""
    with new_station(tmp_path_factory.mktemp("long")) as station:
        station.dsb("source", "map", "/long", "/srv/source")
        yield LongCopy(station)


@pytest.fixture
def long_copy(long_station: LongCopy) -> Iterator[LongCopy]:
    """Plugged in and under way until the test has ended."""
    long_station.machine.plug(long_station.disk)
    try:
        long_station.wait_for_bytes()
        yield long_station
    finally:
        long_station.machine.attempt("dsb", "cancel")
        long_station.wait_until_unmounted()
        long_station.machine.unplug(long_station.disk)


INTERRUPTED = r"^long: interrupted after \d objects?; what was copied is recorded, the next plug goes on there$"


def test_a_session_keeps_the_machine_awake_and_can_be_paused_and_cancelled(long_copy: LongCopy) -> None:
    station, machine = long_copy.station, long_copy.machine
    inhibitors = machine.run("systemd-inhibit", "--list", "--no-legend")
    assert re.search(r"(?m)^distbackupd .* sleep +backing up to a disk block$", inhibitors)
    assert re.search(r"(?m)^distbackupd .* shutdown +backing up to a disk delay$", inhibitors)
    assert "Now: long: copying" in station.dsb("status")

    assert station.dsb("pause") == "paused; 'dsb resume' goes on\n"
    station.wait_for_status("^long: paused; 'dsb resume' goes on$")
    assert long_copy.mounted() == [f"{MOUNTED}/long"]
    station.dsb("resume")
    long_copy.wait_for_bytes()

    station.dsb("cancel")
    assert "you may unplug" not in station.wait(INTERRUPTED)
    station.wait_for_status("^idle; ")
    wait_until(lambda: "distbackupd" not in machine.run("systemd-inhibit", "--list"), "nothing keeps it awake any more")
    assert long_copy.mounted() == []


def test_a_disk_can_be_ejected_from_its_session(long_copy: LongCopy) -> None:
    assert "long is done, you may unplug it\n" in long_copy.station.dsb("eject", "long")
    assert long_copy.mounted() == []
    log = long_copy.station.wait(INTERRUPTED, "^long is done, you may unplug it$")
    assert log.count("you may unplug it") == 1


def test_pulling_it_out_ends_the_session_at_once(long_copy: LongCopy) -> None:
    # A loop device that is mounted cannot be pulled, but udev can say so.
    long_copy.machine.run("udevadm", "trigger", "--action=remove", long_copy.disk.device)
    assert "is done" not in long_copy.station.wait(INTERRUPTED)
    long_copy.wait_until_unmounted()


def test_stopping_the_service_unmounts_and_starting_goes_on(long_copy: LongCopy) -> None:
    long_copy.machine.run("systemctl", "stop", UNIT, seconds=20)
    assert long_copy.mounted() == []
    assert long_copy.machine.properties(UNIT)["Result"] == "success"
    long_copy.station.wait(INTERRUPTED)
    long_copy.machine.run("systemctl", "start", UNIT)
    long_copy.wait_for_bytes()


def test_what_a_killed_daemon_left_mounted_is_used_again(long_copy: LongCopy) -> None:
    with drop_in(long_copy.station, "RestartSec=0"):
        long_copy.wait_for_bytes()
        long_copy.machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", UNIT)
        long_copy.station.wait(r"Failed with result 'signal'[\s\S]*^Started")
        long_copy.wait_for_bytes()
        assert long_copy.mounted() == [f"{MOUNTED}/long"]


def test_a_shutdown_interrupts_it_and_the_next_boot_goes_on(long_copy: LongCopy) -> None:
    long_copy.machine.reboot()
    long_copy.station.wait(INTERRUPTED, r"^stopped$[\s\S]*^Started")
    long_copy.wait_for_bytes()


# --- who may do what ---


def test_everybody_sees_how_it_stands_and_administrators_change_it(station: Station) -> None:
    station.wait_for_status("^idle; ")
    seen = station.machine.run("dsb", "status", user="guest")
    assert re.search(r"(?m)^Now: distbackupd waits .*\nLast scan: ", seen), seen
    words = [*BUS, "org.distbackupd.Manager1", "Status"]
    assert station.machine.run("busctl", "get-property", *words, user="guest") == f's "{station.status()}"\n'
    for command in (["pause"], ["resume"], ["cancel"], ["eject", "whole"], ["backup", "whole"]):
        refused = station.machine.attempt("dsb", *command, user="guest")
        assert (refused.returncode, refused.stdout) == (2, ""), command
        assert refused.stderr.startswith("dsb: only an administrator may change what distbackupd does; nothing was changed")
        assert len(refused.stderr.splitlines()) == 1
    assert "paused" not in station.status()


BUS = ("org.distbackupd", "/org/distbackupd")


def test_what_root_stopped_stays_stopped_whatever_an_ordinary_user_asks(station: Station) -> None:
    station.machine.run("systemctl", "stop", UNIT)
    refused = station.machine.attempt("dsb", "status", user="guest")
    sentence = "distbackupd does not run, and only root may start it: 'sudo systemctl start distbackupd'"
    assert (refused.returncode, refused.stderr) == (2, f"dsb: {sentence}\n")
    bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    attacks = [
        ["busctl", "call", *BUS, "org.distbackupd.Manager1", "Scan"],
        ["busctl", "get-property", *BUS, "org.distbackupd.Manager1", "State"],
        ["busctl", "call", *bus, "StartServiceByName", "su", BUS[0], "0"],
        ["systemctl", "--no-ask-password", "start", UNIT],
    ]
    for attack in attacks:
        assert station.machine.attempt(*attack, user="guest").returncode != 0, attack
    assert station.machine.properties(UNIT)["ActiveState"] == "inactive"
    station.machine.run("systemctl", "start", UNIT)


def test_d_bus_tells_what_the_shipped_description_says(station: Station) -> None:
    shipped = ElementTree.fromstring(
        station.machine.path("/usr/share/dbus-1/interfaces/org.distbackupd.Manager1.xml").read_text()
    )
    introspect = ["busctl", "introspect", "--xml-interface", *BUS]
    told = ElementTree.fromstring(station.machine.run(*introspect, user="guest"))
    assert members(told) == members(shipped) != set()


def members(node: ElementTree.Element) -> set[tuple[str, ...]]:
    """Methods, signals and properties of our interface, each with the types and directions of what belongs to it."""
    return {
        (
            member.tag,
            member.attrib["name"],
            member.get("type", ""),
            *(argument.get("direction", "out") + argument.attrib["type"] for argument in member.iter("arg")),
        )
        for member in node.findall("interface[@name='org.distbackupd.Manager1']/*")
    }


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
