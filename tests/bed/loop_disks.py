"""Disks made of image files on loop devices. All are context managers: what they made is gone afterwards."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from distbackupd.model.disks import Volume
from tests.bed.waiting import wait_until

_MAKE = {
    "ext4": (8, ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard"], "-U", "-L"),
    "btrfs": (110, ["mkfs.btrfs", "-q", "-f"], "-U", "-L"),
    "xfs": (300, ["mkfs.xfs", "-q", "-f"], "-m", "-L"),
}
"""Smallest size in MiB, command, UUID option and label option of each kind."""


_MAKE_FOREIGN = {
    "exfat": (16, ["mkfs.exfat"]),
    "ntfs": (16, ["mkfs.ntfs", "-F", "-Q", "-q"]),
    "vfat": (40, ["mkfs.vfat"]),
}
"""Smallest size in MiB and command of what USB disks come with. Their UUIDs are not for us to choose."""


def run(*command: str | os.PathLike[str]) -> str:
    """Run a command that must succeed; what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed: {done.stderr}{done.stdout}"
    return done.stdout.strip()


@dataclass
class LoopDisk:
    """An image with a file system, plugged in (``device`` is its node) or not (``device`` is empty)."""

    image: Path
    filesystem_type: str
    filesystem_uuid: str
    label: str = ""
    device: str = field(default="", init=False)

    def plug(self, read_only: bool = False) -> Volume:
        """Attach it; gives the volume as udev would name it."""
        options = ["--read-only"] if read_only else []
        self.device = run("losetup", "--find", "--show", *options, self.image)
        return self.volume

    def unplug(self) -> None:
        """Detach it and wait until the device is really empty; nothing happens if it is not attached."""
        if self.device:
            device, self.device = self.device, ""
            run("losetup", "--detach", device)
            wait_until(lambda: is_empty(device), f"{device} is detached")

    @property
    def volume(self) -> Volume:
        """The plugged disk."""
        return Volume(self.device, self.filesystem_uuid, self.filesystem_type, self.label)


def is_empty(device: str) -> bool:
    """Whether nothing is attached to the loop device."""
    return not Path(f"/sys/class/block/{os.path.basename(device)}/loop").exists()


def make_image(
    path: Path, filesystem_type: str = "ext4", label: str = "", megabytes: int = 0, filesystem_uuid: str = ""
) -> LoopDisk:
    """A fresh file system in the file ``path``, not plugged in. ``megabytes`` 0: as small as this kind goes."""
    smallest, command, uuid_option, label_option = _MAKE[filesystem_type]
    filesystem_uuid = filesystem_uuid or str(uuid.uuid4())
    with path.open("wb") as image:
        image.truncate(max(megabytes, smallest) << 20)
    options = [uuid_option, f"uuid={filesystem_uuid}" if filesystem_type == "xfs" else filesystem_uuid]
    if label:
        options += [label_option, label]
    run(*command, *options, path)
    return LoopDisk(path, filesystem_type, filesystem_uuid, label)


@contextmanager
def plugged(disk: LoopDisk, read_only: bool = False) -> Iterator[Volume]:
    """The disk is attached while this lasts; mounts of it that are left behind are ended too."""
    volume = disk.plug(read_only)
    try:
        yield volume
    finally:
        unmount_all(volume.device)
        disk.unplug()


@contextmanager
def loop_disk(folder: Path, filesystem_type: str = "ext4", label: str = "", megabytes: int = 0) -> Iterator[LoopDisk]:
    """A fresh disk, plugged in while this lasts."""
    disk = make_image(folder / f"{uuid.uuid4()}.img", filesystem_type, label, megabytes)
    try:
        with plugged(disk):
            yield disk
    finally:
        disk.image.unlink(missing_ok=True)


def make_foreign_image(path: Path, filesystem_type: str, megabytes: int = 0) -> LoopDisk:
    """A fresh ``exfat``, ``ntfs`` or ``vfat`` in the file ``path``, not plugged in. vfat is FAT32 from 512 MiB on."""
    smallest, command = _MAKE_FOREIGN[filesystem_type]
    with path.open("wb") as image:
        image.truncate((megabytes or smallest) << 20)
    run(*command, path)
    return LoopDisk(path, filesystem_type, run("blkid", "-p", "-o", "value", "-s", "UUID", path))


@contextmanager
def foreign_disk(folder: Path, filesystem_type: str, megabytes: int = 0) -> Iterator[Volume]:
    """Such a disk, plugged in while this lasts."""
    with plugged(make_foreign_image(folder / f"{uuid.uuid4()}.img", filesystem_type, megabytes)) as volume:
        yield volume


@contextmanager
def mounted_at(device: str, folder: Path, *options: str) -> Iterator[Path]:
    """The device is mounted there while this lasts, as by somebody else."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", *options, device, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--quiet", folder], capture_output=True, check=False)


def unmount_all(device: str) -> None:
    """End every mount of the device, lazily if it is held: for cleaning up after a test that failed."""
    while any(line.split()[0] == device for line in Path("/proc/self/mounts").read_text().splitlines()):
        if subprocess.run(["umount", "--lazy", device], capture_output=True, check=False).returncode:
            return
