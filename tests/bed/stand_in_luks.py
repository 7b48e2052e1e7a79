"""LUKS disks where the kernel has no device-mapper: all is real but the cipher.

An image has a real LUKS2 header, whose keys cryptsetup itself tests. What lies behind it is not encrypted: unlocking
attaches a second loop device to that part of the disk, and a copy of sysfs tells the two as device-mapper would.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.commands import CommandFailed, Commands, Finished, Word
from distbackupd.model.disks import LUKS
from tests.bed.loop_disks import LoopDisk, make_image, run

_HEADER = 16 << 20
_FACTS = ("dev", "ro", "size", "uevent")


def make_luks_image(path: Path, key: bytes) -> LoopDisk:
    """A container that this key opens, with an ext4 in it; not plugged in."""
    inside = make_image(path.with_suffix(".inside"))
    with path.open("wb") as image:
        image.truncate(_HEADER + inside.image.stat().st_size)
    fast = ["--type=luks2", f"--offset={_HEADER // 512}", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"]
    words = ["cryptsetup", "luksFormat", "--batch-mode", *fast, "--key-file=-", str(path)]
    subprocess.run(words, input=key, check=True, capture_output=True)
    with path.open("r+b") as image:
        image.seek(_HEADER)
        image.write(inside.image.read_bytes())
    inside.image.unlink()
    return LoopDisk(path, LUKS, run("cryptsetup", "luksUUID", path))


class StandInCommands(Commands):
    """Runs everything as it is, but for ``cryptsetup open`` and ``close``. ``log`` has those two: ``open NAME``."""

    def __init__(self, copy_of_sysfs: Path) -> None:
        super().__init__()
        self._sysfs = copy_of_sysfs
        self._unlocked: dict[str, str] = {}
        self.log: list[str] = []

    def attempt(self, words: Sequence[Word], given: bytes = b"") -> Finished:
        """See :class:`Commands`."""
        told = [os.fsdecode(word) for word in words]
        if told[:2] == ["cryptsetup", "close"]:
            self._close(told[-1])
        elif told[:2] == ["cryptsetup", "open"] and "--test-passphrase" not in told:
            device, label = told[-2:]
            tested = super().attempt(["cryptsetup", "open", "--test-passphrase", "--key-file=-", device], given)
            if tested.status:
                return tested
            self._open(device, label, "--readonly" in told)
        else:
            return super().attempt(words, given)
        return Finished(0, b"", b"")

    def unlock_by_somebody(self, device: str, label: str) -> str:
        """The desktop unlocks the container; the node of what is in it."""
        return self._open(device, label, read_only=False)

    def lock_all(self) -> None:
        """For cleaning up."""
        for label in list(self._unlocked):
            with suppress(CommandFailed):
                self._close(label)

    def _open(self, device: str, label: str, read_only: bool) -> str:
        options = ["--read-only"] if read_only else []
        inside = run("losetup", "--find", "--show", f"--offset={_HEADER}", *options, device)
        self._unlocked[label] = inside
        above, below = (self._copy(node) for node in (inside, device))
        (above / "dm").mkdir()
        (above / "dm/name").write_text(f"{label}\n")
        (above / "dm/uuid").write_text(f"CRYPT-LUKS2-0-{label}\n")
        (above / "slaves" / below.name).touch()
        (below / "holders" / above.name).touch()
        self.log.append(f"open {label}")
        return inside

    def _close(self, label: str) -> None:
        inside = self._unlocked.get(label)
        if inside is None:
            raise CommandFailed(f"Device {label} is not active", 4)
        if any(line.split()[0] == inside for line in Path("/proc/self/mounts").read_text().splitlines()):
            raise CommandFailed(f"Device {label} is still in use", 5)
        del self._unlocked[label]
        run("losetup", "--detach", inside)
        entry = self._sysfs / "class/block" / os.path.basename(inside)
        for below in (entry / "slaves").iterdir():
            (self._sysfs / "class/block" / below.name / "holders" / entry.name).unlink()
        run("rm", "-r", entry)
        (self._sysfs / "class/block" / entry.name).symlink_to(f"/sys/class/block/{entry.name}")
        self.log.append(f"close {label}")

    def _copy(self, device: str) -> Path:
        """Instead of the link to the real thing: a folder in which more can be said."""
        entry = self._sysfs / "class/block" / os.path.basename(device)
        if entry.is_symlink():
            entry.unlink()
            for kind in ("holders", "slaves"):
                (entry / kind).mkdir(parents=True)
            for fact in _FACTS:
                (entry / fact).symlink_to(f"/sys/class/block/{entry.name}/{fact}")
            number = self._sysfs / "dev/block" / (entry / "dev").read_text().strip()
            number.unlink()
            number.symlink_to(entry)
        return entry


@contextmanager
def stand_in_luks(folder: Path) -> Iterator[StandInCommands]:
    """While this lasts hotplug reads a copy of sysfs; give its mounter these commands."""
    copy = folder / "sysfs"
    # Loop devices come into being when they are wanted: their links lead nowhere until then.
    loops = {"class/block": {f"loop{number}" for number in range(256)}, "dev/block": {f"7:{minor}" for minor in range(256)}}
    for part, coming in loops.items():
        (copy / part).mkdir(parents=True)
        for name in coming | set(os.listdir(f"/sys/{part}")):
            (copy / part / name).symlink_to(f"/sys/{part}/{name}")
    commands = StandInCommands(copy)
    with patch.object(sysfs, "SYSFS", copy):
        try:
            yield commands
        finally:
            commands.lock_all()
