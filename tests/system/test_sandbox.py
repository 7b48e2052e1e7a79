"""Hotplug in the unit's sandbox, on a booted machine: what PID 1 does for it, and what is said when PID 1 cannot."""

from __future__ import annotations

import sysconfig
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distbackupd.model.disks import Volume
from tests.bed.container import Machine, container
from tests.bed.loop_disks import make_foreign_image, make_image

pytestmark = pytest.mark.needs("container", "ext4", "mkfs.exfat", "mkfs.ntfs")

ROOT = Path(__file__).parents[2]
PACKAGES = Path(sysconfig.get_paths()["purelib"])
PROBE = """\
[Service]
Type=oneshot
ExecStart=
ExecStart=/usr/bin/python3 /root/probe.py
Environment=PYTHONPATH=/opt/code:/opt/packages PYTHONDONTWRITEBYTECODE=1
WatchdogSec=0
Restart=no
StandardOutput=append:/root/probe.log
StandardError=inherit
"""
PROLOGUE = """\
import os, subprocess, sys
from distbackupd.hotplug.commands import Commands
from distbackupd.hotplug.keys import KeptKeys
from distbackupd.hotplug.mounts import SystemMounter
from distbackupd.model.disks import Volume
from distbackupd.model.errors import DiskTrouble
mounter = SystemMounter(commands=Commands(delegated=True), sleep=lambda seconds: None)
"""


@contextmanager
def station(folder: Path) -> Iterator[tuple[Machine, list[Volume]]]:
    """A booted machine whose distbackupd.service runs what :func:`run_inside` gives it; its disks."""
    images = [
        make_image(folder / "ext4.img"),
        *(make_foreign_image(folder / f"{kind}.img", kind) for kind in ("ntfs", "exfat")),
    ]
    with container(images, {ROOT: "/opt/code", PACKAGES: "/opt/packages"}) as machine:
        machine.write("/etc/systemd/system/distbackupd.service", (ROOT / "systemd/distbackupd.service").read_text())
        machine.write("/etc/systemd/system/distbackupd.service.d/probe.conf", PROBE)
        machine.run("mkdir", "--mode=0700", "/run/distbackup-mnt")
        yield machine, [image.volume for image in images]


def run_inside(machine: Machine, program: str) -> list[str]:
    """Run Python in the sandbox, with a mounter in it; the lines that it printed."""
    machine.write("/root/probe.py", PROLOGUE + textwrap.dedent(program))
    machine.run("rm", "--force", "/root/probe.log")
    done = machine.attempt("systemctl", "start", "distbackupd")
    told = machine.path("/root/probe.log").read_text()
    assert done.returncode == 0, told
    return told.splitlines()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, list[Volume]]]:
    with station(tmp_path_factory.mktemp("disks")) as machine_and_disks:
        yield machine_and_disks


def test_drivers_in_user_space_outlive_the_command_that_started_them(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, disks = sandbox
    told = run_inside(
        machine,
        f"""
        for volume in {disks!r}:
            with mounter.mounted(volume, "usb") as mount:
                with open(mount.root + b"/file", "w") as file:
                    file.write("content")
                assert mounter.mount_of(mount.root) == mount
            assert os.listdir("/run/distbackup-mnt") == []
            with mounter.mounted(volume, "usb") as mount, open(mount.root + b"/file") as file:
                print(mount.filesystem_type, file.read())
        """,
    )
    assert told == ["ext4 content", "ntfs content", "exfat content"]
    assert all(machine.mounts_of(volume.device) == [] for volume in disks)


def test_disk_that_others_keep_busy_is_released_when_they_let_go(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, disks = sandbox
    told = run_inside(
        machine,
        f"""
        volume = {disks[0]!r}
        keep = "--unit=keeper", "--working-directory=/run/distbackup-mnt/usb"
        try:
            with mounter.mounted(volume, "usb"):
                subprocess.run(["systemd-run", "--quiet", *keep, "sleep", "1000"], check=True)
        except DiskTrouble as trouble:
            print(trouble)
        subprocess.run(["systemctl", "stop", "keeper"], check=True)
        mounter.release(volume, "usb")
        print(os.listdir("/run/distbackup-mnt"))
        """,
    )
    assert len(told) == 2
    assert told[0].startswith("usb is still mounted at /run/distbackup-mnt/usb, in use by PID ")
    assert "(sleep); " in told[0]
    assert told[1] == "[]"


def test_kept_key_is_decrypted_by_pid_1(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, _ = sandbox
    machine.run("sh", "-c", "mkdir -p /etc/distbackupd/keys; printf 'a\\nkey' > /root/key")
    encrypt = ["systemd-creds", "encrypt", "--name=uuid", "/root/key", "/etc/distbackupd/keys/uuid.cred"]
    machine.run(*encrypt)
    assert run_inside(machine, 'print(KeptKeys(Commands(delegated=True)).read("uuid"))') == ["b'a\\nkey'"]


def test_without_a_bus_it_is_said_in_one_sentence(sandbox: tuple[Machine, list[Volume]]) -> None:
    machine, disks = sandbox
    told = run_inside(
        machine,
        f"""
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=/nowhere"
        try:
            with mounter.mounted({disks[0]!r}, "usb"):
                pass
        except DiskTrouble as trouble:
            print(trouble)
        """,
    )
    [sentence] = told
    assert sentence == (
        f"usb ({disks[0].device}) cannot be mounted: systemd cannot be asked to run mount: Failed to connect to bus: "
        "No such file or directory; see to that, then plug it in again"
    )


def test_shutdown_that_has_begun_still_unmounts(tmp_path: Path) -> None:
    with station(tmp_path) as (machine, disks):
        machine.write(
            "/root/probe.py",
            PROLOGUE
            + textwrap.dedent(f"""
                import signal, socket
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
                with mounter.mounted({disks[0]!r}, "usb") as mount:
                    held = open(mount.root + b"/file", "w")
                    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
                    signal.sigwait([signal.SIGTERM])
                    held.close()
                subprocess.run(["systemd-cat", "echo", "left", *os.listdir("/run/distbackup-mnt")])
                """),
        )
        machine.write("/etc/systemd/system/distbackupd.service.d/stay.conf", "[Service]\nType=notify\n")
        machine.run("systemctl", "start", "distbackupd")
        assert machine.mounts_of(disks[0].device) == ["/run/distbackup-mnt/usb"]
        machine.power_off()
        machine.wait_for_journal("(?m)^left$")
