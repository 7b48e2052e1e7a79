"""A machine with the package installed: where the service is tested as its users have it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.container import Machine, container
from tests.bed.loop_disks import LoopDisk, make_image, mounted_at, plugged
from tests.bed.package import debian_package
from tests.bed.waiting import wait_until

UNIT = "distbackupd.service"
SETTINGS = 'settle = "0.2s"\n'


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

    def disk(self, name: str, filesystem_type: str = "ext4", megabytes: int = 100) -> LoopDisk:
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
        return self.machine.properties(UNIT).get("StatusText", "")

    def wait_for_status(self, pattern: str) -> str:
        """Wait until that line matches; the line."""
        return wait_until(lambda: line if re.search(pattern, line := self.status()) else "", f"{pattern} as status", 20)

    def objects(self, disk: LoopDisk) -> set[str]:
        """Names of the objects on a disk from the shelf; each hashes to its name."""
        with (
            plugged(disk, read_only=True) as volume,
            mounted_at(volume.device, self.place.parent / "seen", "-o", "ro") as root,
        ):
            paths = list((root / "distbackup-objects").glob("*/*"))
            assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in paths)
            assert list((root / "distbackup-tmp").iterdir()) == []
            # Root's, though the daemon is not root, and nobody else's: numbers of users differ from machine to machine.
            ours = [*root.glob("distbackup*"), *root.glob("distbackup-objects/**/*")]
            owners = {(path.stat().st_uid, path.stat().st_gid) for path in ours}
            assert owners == {(0, 0)}, owners
            return {path.name for path in paths}


@contextmanager
def new_station(folder: Path) -> Iterator[Station]:
    """A booted machine with the package of the present tree, its daemon running, and nothing mapped yet."""
    if "DISTBACKUPD_SUITE" in os.environ:
        pytest.skip("the package fits only the release of Debian that it was built on")
    place = folder / "srv"
    (place / "source").mkdir(parents=True)
    package = debian_package()
    with container(folders={place: "/srv"}) as machine:
        station = Station(machine, place)
        machine.write("/etc/distbackupd/distbackupd.toml", SETTINGS)
        station.install(package)
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
