"""The file systems that are cut: how an empty one is made, mended after a cut, and mounted."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from dataclasses import dataclass

from tests.crash.devices import mount, unmount

_MIB = 1 << 20


@dataclass(frozen=True)
class Filesystem:
    """``make``: the command that makes one, without the device; ``mount``: the same for mounting, empty: mount(2) does;
    ``mend``: what the product's mounter runs before it, empty: nothing. ``type``: udev's word for it.
    """

    name: str
    size: int
    make: str
    type: str
    mount: str = ""
    mend: str = ""
    has_journal: bool = True

    @property
    def missing(self) -> str:
        """Why it cannot be had on this machine; empty: it can."""
        for command in (self.make, self.mount, self.mend):
            if command and shutil.which(command.split()[0]) is None:
                return f"{command.split()[0]} is not installed"
        if not self.mount:
            with open("/proc/filesystems", encoding="ascii") as known:
                if self.type not in known.read().split():
                    return f"this kernel has no {self.type}"
        return ""


class Unusable(Exception):
    """The file system itself did not survive: it cannot be mended or mounted without a person."""


_EXT4 = "mkfs.ext4 -q -F -b 4096 -N 2048 -m 0 -O ^resize_inode -E lazy_itable_init=0,lazy_journal_init=0"
FILESYSTEMS = {
    kind.name: kind
    for kind in (
        Filesystem("ext4", 24 * _MIB, _EXT4, "ext4"),
        Filesystem("xfs", 64 * _MIB, "mkfs.xfs --unsupported -q -f -K", "xfs"),
        Filesystem("btrfs", 110 * _MIB, "mkfs.btrfs -q -f -M -m single -d single", "btrfs"),
        Filesystem("exFAT", 16 * _MIB, "mkfs.exfat -c 4096", "exfat", "mount.exfat-fuse", "fsck.exfat -p", False),
        Filesystem("NTFS", 16 * _MIB, "mkfs.ntfs -F -q -f -s 512 -p 0 -H 0 -S 0", "ntfs", "ntfs-3g", has_journal=False),
    )
}


def make(kind: Filesystem, image: str, dice: random.Random) -> None:
    """An empty one in a new sparse file."""
    with open(image, "wb") as file:
        file.truncate(kind.size)
    _run(*kind.make.split(), image)
    if kind.type == "ntfs":
        # mkfs takes the second for a number, so two that are made in one would have the same.
        with open(image, "r+b") as file:
            serial = dice.randbytes(8)
            for boot_sector in (0, kind.size - 512):
                file.seek(boot_sector + 0x48)
                file.write(serial)
    _run("fallocate", "--dig-holes", image)


def attach(kind: Filesystem, device: str, place: str) -> None:
    """Mend it where the product would, and mount it. Raises Unusable."""
    if kind.mend:
        done = _attempt(*kind.mend.split(), device)
        if done.returncode & ~1:
            raise Unusable(f"{kind.mend}: {done.stdout[-200:]} {done.stderr[-200:]}")
    if kind.mount:
        done = _attempt(*kind.mount.split(), device, place)
        if done.returncode:
            raise Unusable(f"{kind.mount}: {done.stderr[-200:]}")
        return
    try:
        mount(device, place, kind.type)
    except OSError as error:
        raise Unusable(f"mount: {error}") from error


def detach(place: str) -> None:
    """Unmount it; a driver in user space has ended then."""
    unmount(place)


def udev_lines(device: str) -> dict[str, str]:
    """What udev would know of the device."""
    told = _attempt("blkid", "-p", "-o", "udev", "--", device).stdout
    return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)


def _attempt(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
        env={**os.environ, "LC_ALL": "C", "LD_PRELOAD": ""},
    )


def _run(*command: str) -> None:
    done = _attempt(*command)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
