"""The booted systemd that other tests rely on, and what a service in a sandbox can have PID 1 do for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.container import Machine, container
from tests.bed.loop_disks import LoopDisk, is_empty, make_image, run
from tests.bed.waiting import wait_until

# The first of them may have to build what it boots from.
pytestmark = [pytest.mark.needs("container", "ext4"), pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[3]
SANDBOX = """[Service]
Type=oneshot
CapabilityBoundingSet=CAP_DAC_OVERRIDE
DevicePolicy=closed
NoNewPrivileges=yes
PrivateDevices=yes
ProtectControlGroups=yes
ProtectSystem=strict
ReadWritePaths=/run/disks
RestrictNamespaces=yes
SystemCallFilter=@system-service
ExecStart=/bin/sh -eux {script}
"""
DELEGATED = "systemd-run --quiet --pipe --wait --collect"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with container() as machine:
        yield machine


def in_sandbox(machine: Machine, script: str) -> None:
    """Run shell commands as a service that may neither mount nor see a block device."""
    machine.write("/root/script", script)
    machine.write("/etc/systemd/system/sandboxed.service", SANDBOX.format(script="/root/script"))
    machine.run("mkdir", "-p", "/run/disks/one")
    machine.run("systemctl", "daemon-reload")
    started = machine.attempt("systemctl", "start", "sandboxed")
    assert started.returncode == 0, machine.run("journalctl", "--unit=sandboxed", "--output=cat")


def test_what_a_desktop_has_is_running(machine: Machine) -> None:
    assert machine.run("systemctl", "is-system-running", "--wait") == "running\n"
    for unit in ("systemd-udevd", "systemd-journald", "systemd-logind", "dbus", "polkit", "udisks2"):
        assert machine.properties(unit)["ActiveState"] == "active", unit


def test_a_plugged_disk_is_seen_and_gone_after_unplugging(machine: Machine, tmp_path: Path) -> None:
    disk = make_image(tmp_path / "disk.img", label="shelf-01")
    device = machine.plug(disk).device
    link = f"/dev/disk/by-uuid/{disk.filesystem_uuid}"
    machine.wait_for_device(link)
    told = machine.run("udevadm", "info", "--query=property", device)
    assert f"ID_FS_UUID={disk.filesystem_uuid}\n" in told
    assert "ID_FS_LABEL=shelf-01\n" in told
    machine.run("mount", device, "/mnt")
    assert machine.mounts_of(device) == ["/mnt"]
    machine.run("umount", "/mnt")
    machine.unplug(disk)
    assert is_empty(device)
    wait_until(lambda: machine.attempt("test", "-e", link).returncode == 1, "the link is gone")


def test_disks_that_are_not_plugged_into_it_it_does_not_have(machine: Machine, tmp_path: Path) -> None:
    disk = make_image(tmp_path / "disk.img")
    disk.plug()
    try:
        machine.run("udevadm", "settle")
        assert machine.attempt("blkid", "--uuid", disk.filesystem_uuid).stdout == ""
        assert machine.attempt("mount", disk.device, "/mnt").returncode == 32
    finally:
        disk.unplug()


def test_an_ordinary_user_has_no_privileges(machine: Machine) -> None:
    assert machine.run("id", "--user", "--name", user="guest") == "guest\n"
    capabilities = machine.run("grep", "CapEff", "/proc/self/status", user="guest")
    assert int(capabilities.split()[1], 16) == 0
    call = ["busctl", "call", "org.freedesktop.hostname1", "/org/freedesktop/hostname1", "org.freedesktop.hostname1"]
    refused = machine.attempt(*call, "SetStaticHostname", "sb", "mine", "false", user="guest")
    assert refused.returncode == 1
    assert "authentication" in refused.stderr


def test_a_service_can_be_missing(machine: Machine) -> None:
    ask = ["busctl", "introspect", "org.freedesktop.UDisks2", "/org/freedesktop/UDisks2"]
    with machine.without("udisks2", "polkit"):
        assert "was not provided by any .service files" in machine.attempt(*ask).stderr
    machine.run(*ask)
    assert machine.properties("udisks2")["ActiveState"] == "active"


def test_the_machine_around_it_keeps_its_settings(machine: Machine) -> None:
    setting = "/proc/sys/fs/inotify/max_user_watches"
    # What is written is what is there: where it can be written after all, nothing is changed by the attempt.
    assert machine.attempt("sh", "-c", f"value=$(cat {setting}) && echo $value >{setting}").returncode != 0


def test_a_reboot_keeps_files_and_disks_and_the_journal(tmp_path: Path) -> None:
    early = make_image(tmp_path / "early.img", label="early")
    shared = tmp_path / "shared"
    shared.mkdir()
    with container([early], {shared: "/srv/shared"}) as machine:
        machine.wait_for_device("/dev/disk/by-label/early")
        machine.write("/etc/kept", "kept")
        machine.run("cp", "/etc/kept", "/srv/shared/kept")
        machine.run("logger", "before the reboot")
        machine.wait_for_journal("before the reboot")
        boot = machine.path("/proc/sys/kernel/random/boot_id").read_text()
        machine.reboot()
        assert machine.path("/proc/sys/kernel/random/boot_id").read_text() != boot
        machine.wait_for_device("/dev/disk/by-label/early")
        assert machine.path("/etc/kept").read_text() == (shared / "kept").read_text() == "kept"
        machine.run("logger", "after the reboot")
        news = machine.wait_for_journal("after the reboot")
        assert "before the reboot" not in news
        machine.power_off()


def test_nothing_is_left_when_a_test_fails(tmp_path: Path) -> None:
    disk = make_image(tmp_path / "disk.img")
    device = ""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012, SIM117
        with container() as first, container() as second:
            device = first.plug(disk).device
            first.run("mount", device, "/mnt")
            sleeper = second.start("sleep", "1000")
            raise ZeroDivisionError
    assert sleeper.wait(10) != 0
    assert is_empty(device)
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert first.leader != second.leader
    for leader in (first.leader, second.leader):
        assert not Path(f"/proc/{leader}").exists()


KILLED = """
import signal
from tests.bed.container import container
with container() as machine:
    print(machine.leader, flush=True)
    signal.pause()
"""


def test_nothing_runs_on_when_the_tests_are_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}) as tests:
        assert tests.stdout
        leader = Path("/proc", tests.stdout.readline().decode().strip())
        assert (leader / "cmdline").read_bytes()
        tests.kill()
    # Nobody may be there to take notice of the dead.
    wait_until(lambda: not leader.exists() or not (leader / "cmdline").read_bytes(), "the container has ended", 60)


def test_what_pid_1_mounts_is_seen_and_writable_in_a_sandbox(machine: Machine, tmp_path: Path) -> None:
    disk = make_image(tmp_path / "disk.img")
    device = machine.plug(disk).device
    machine.wait_for_device(device)
    in_sandbox(
        machine,
        f"""
        if mount {device} /run/disks/one; then exit 1; fi
        {DELEGATED} -- mount -o noatime {device} /run/disks/one
        echo written >/run/disks/one/file
        if touch /etc/file; then exit 2; fi
        exec 5</run/disks/one/file
        # It is busy for PID 1 too while the service has a file open.
        if {DELEGATED} -- umount /run/disks/one; then exit 3; fi
        exec 5<&-
        """,
    )
    assert machine.mounts_of(device) == ["/run/disks/one"]
    assert machine.path("/run/disks/one/file").read_text() == "written\n"
    in_sandbox(machine, f"{DELEGATED} -- umount /run/disks/one\nif grep {device} /proc/self/mounts; then exit 4; fi")
    assert machine.mounts_of(device) == []
    machine.unplug(disk)


@pytest.mark.needs("mkfs.ntfs", "fusermount3")
def test_a_fuse_mount_outlives_the_command_that_made_it(machine: Machine, tmp_path: Path) -> None:
    image = tmp_path / "ntfs.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    run("mkfs.ntfs", "-F", "-Q", "-q", image)
    disk = LoopDisk(image, "ntfs", "")
    device = machine.plug(disk).device
    machine.wait_for_device(device)
    mount = f"mount -t ntfs {device} /run/disks/one"
    # With the usual way to end a service the helper is killed though the mount was reported as made.
    in_sandbox(machine, f"{DELEGATED} -- {mount}")
    wait_until(lambda: machine.mounts_of(device) == [], "the mount is lost")
    in_sandbox(
        machine,
        f"""
        {DELEGATED} --property=KillMode=process -- {mount}
        echo written >/run/disks/one/file
        """,
    )
    assert machine.path("/run/disks/one/file").read_text() == "written\n"
    machine.run("umount", "/run/disks/one")
    machine.unplug(disk)


def test_the_root_file_system_is_built_once(tmp_path: Path) -> None:
    script = ROOT / "tests" / "bed" / "container-rootfs"
    again = subprocess.run([script], capture_output=True, text=True, check=True)
    assert again.stderr == ""
    assert Path(again.stdout.strip(), "etc", "os-release").is_file()
    unknown = subprocess.run(
        [script, "no-such-suite"], capture_output=True, text=True, check=False, env={"XDG_CACHE_HOME": str(tmp_path)}
    )
    assert unknown.returncode == 69
    assert "container-rootfs: mmdebstrap failed" in unknown.stderr
