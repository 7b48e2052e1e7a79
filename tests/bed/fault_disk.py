"""A disk that fails on command: image -> nbdkit with its error filter -> nbdfuse -> loop device. Real block errors."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from distbackupd.model.disks import Volume
from tests.bed.loop_disks import is_empty, make_image, run, unmount_all
from tests.bed.waiting import wait_until


@dataclass
class FaultDisk:
    """A plugged disk whose writes or reads can be made to fail."""

    volume: Volume
    folder: Path
    nbdkit: int

    def break_writes(self) -> None:
        """From now on every write to the device fails."""
        (self.folder / "break-writes").touch()

    def break_reads(self) -> None:
        """From now on every read that the page cache does not answer fails."""
        (self.folder / "break-reads").touch()

    def mend(self) -> None:
        """The device works again. A file system that has seen errors may stay read-only."""
        for name in ("break-writes", "break-reads"):
            (self.folder / name).unlink(missing_ok=True)

    def hang(self) -> None:
        """The device answers no more, until :meth:`wake`."""
        os.kill(self.nbdkit, signal.SIGSTOP)

    def wake(self) -> None:
        """A hanging device goes on."""
        os.kill(self.nbdkit, signal.SIGCONT)

    def die(self) -> None:
        """The electronics burn out: every access fails from now on, for good."""
        os.kill(self.nbdkit, signal.SIGKILL)


@contextmanager
def fault_disk(
    folder: Path, filesystem_type: str = "ext4", megabytes: int = 64, error: str = "EIO", *filters: str
) -> Iterator[FaultDisk]:
    """A fresh disk, plugged in and whole. ``error`` is what failing accesses say: ``EIO`` or ``ENOSPC``.

    ``filters`` are further words for nbdkit (``--filter=delay``, ``wdelay=10ms``). ``folder`` must be empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    disk = make_image(folder / "disk.img", filesystem_type, megabytes=megabytes)
    front = folder / "front"
    front.mkdir()
    pid_file = folder / "nbdkit.pid"
    words = [
        *[word for word in filters if word.startswith("--")],
        "--filter=error",
        "file",
        str(disk.image),
        *[word for word in filters if not word.startswith("--")],
        f"error={error}",
        "error-pwrite-rate=100%",
        f"error-pwrite-file={folder / 'break-writes'}",
        "error-pread-rate=100%",
        f"error-pread-file={folder / 'break-reads'}",
    ]
    server = ["nbdkit", "--foreground", "--exit-with-parent", "--pidfile", str(pid_file), *words]
    with (folder / "nbdfuse.log").open("wb") as log:
        process = subprocess.Popen(
            ["nbdfuse", str(front / "disk"), "[", *server, "]"], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    device = ""
    try:
        wait_until(lambda: (front / "disk").exists() and pid_file.exists() and pid_file.read_text(), "nbdfuse is up")
        nbdkit = int(pid_file.read_text())
        device = run("losetup", "--find", "--show", front / "disk")
        yield FaultDisk(Volume(device, disk.filesystem_uuid, filesystem_type), folder, nbdkit)
    finally:
        for name in ("break-writes", "break-reads"):
            (folder / name).unlink(missing_ok=True)
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int(pid_file.read_text()), signal.SIGCONT)
        if device:
            unmount_all(device)
            subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)
            wait_until(lambda: is_empty(device), f"{device} is detached")
        subprocess.run(["umount", "--lazy", front], capture_output=True, check=False)
        process.terminate()
        process.wait(timeout=10)
