"""A virtual machine with real USB, in which commands run, disks are plugged and pulled, and the power is cut.

with virtual_machine(origin, folder) as machine:
    machine.plug("usb1", image)
    machine.run(f"mkfs.ext4 -q {machine.device('usb1')}")
"""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bed.waiting import wait_until
from tests.vm.qemu import Qemu

_STARTED = time.monotonic()


def tell(sentence: str) -> None:
    """Print a line of what is going on, with the seconds since the start."""
    print(f"{time.monotonic() - _STARTED:7.1f} s  {sentence}", flush=True)


@dataclass(frozen=True)
class Origin:
    """What any number of machines begin as. Nothing of it is ever written to."""

    kernel: Path
    initrd: Path
    key: Path
    """The private key with which root logs in."""
    disk: Path
    """The root disk, raw or qcow2 by its suffix."""
    memory: Path | None = None
    """The memory of a machine that was frozen; None for a cold start."""


@dataclass(frozen=True)
class Finished:
    """What a command in the machine left behind."""

    status: int
    out: str
    err: str


class Machine:
    """A running machine. See :func:`virtual_machine`."""

    def __init__(self, origin: Origin, folder: Path) -> None:
        self._origin = origin
        self._folder = folder
        self._disk = folder / "root.qcow2"
        self._control = folder / "ssh"
        self._plugged: set[str] = set()
        self._starts = 0
        self.started = 0.0
        """When it was started or thawed last, in seconds of Unix time."""
        form = origin.disk.suffix.removeprefix(".")
        overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(origin.disk), "-F", form, str(self._disk)]
        subprocess.run(overlay, check=True)
        self._start(origin.memory)

    def _start(self, memory: Path | None) -> None:
        self._starts += 1
        self.started = time.time()
        run = self._folder / f"start-{self._starts}"
        self._qemu = Qemu(run, self._disk, self._origin.kernel, self._origin.initrd, memory)
        self._ssh = [
            *("ssh", "-q", "-p", str(self._qemu.port), "-i", str(self._origin.key), "-o", "ConnectTimeout=10"),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            *("-o", "ControlMaster=auto", "-o", "ControlPersist=yes", "-o", f"ControlPath={self._control}"),
            "root@127.0.0.1",
        ]
        wait_until(lambda: self.call("true").status == 0, "root to log in", 900)
        self.run(f"date --set=@{time.time():.2f}")

    def call(self, script: str, stdin: str = "", seconds: float = 600) -> Finished:
        """Run a shell script in the machine, as root; how it ended."""
        command = [*self._ssh, script]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=seconds)
        return Finished(done.returncode, done.stdout, done.stderr)

    def run(self, script: str, stdin: str = "", seconds: float = 600) -> str:
        """Run a shell script that must succeed; what it printed."""
        done = self.call(f"set -e; {script}", stdin, seconds)
        assert done.status == 0, f"{script}: {done}"
        return done.out

    def start(self, script: str) -> subprocess.Popen[str]:
        """A shell script that goes on by itself, with its output as a stream."""
        command = [*self._ssh, script]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def copy_in(self, file: Path, to: str) -> None:
        """Copy a file of the host into the machine."""
        with file.open("rb") as stream:
            subprocess.run([*self._ssh, f"cat >'{to}'"], stdin=stream, check=True)

    def plug(self, name: str, image: Path, *, write_protected: bool = False, bytes_per_second: int = 0) -> None:
        """Plug in a USB disk; returns at once. ``image``: a file with its content. ``name``: its serial number.

        Args:
            write_protected: as with the switch that some sticks have.
            bytes_per_second: as fast as it is written to, 0 for as fast as it goes.
        """
        file = {"driver": "file", "filename": str(image), "locking": "off"}
        self._qemu("object-add", qom_type="throttle-group", id=f"speed-{name}", limits={"bps-write": bytes_per_second})
        self._qemu(
            "blockdev-add",
            driver="throttle",
            node_name=f"disk-{name}",
            throttle_group=f"speed-{name}",
            read_only=write_protected,
            file={"driver": "raw", "read-only": write_protected, "file": file},
        )
        self._qemu("device_add", driver="usb-storage", bus="usb.0", id=name, drive=f"disk-{name}", serial=name)
        self._plugged.add(name)

    def unplug(self, name: str) -> None:
        """Pull a USB disk out, whatever is going on with it; returns when it is gone."""
        self._qemu("device_del", id=name)
        self._qemu.wait_for_event(f"DEVICE_DELETED {name}")
        self._qemu("blockdev-del", node_name=f"disk-{name}")
        self._qemu("object-del", id=f"speed-{name}")
        self._plugged.remove(name)

    def set_speed(self, name: str, bytes_per_second: int) -> None:
        """How fast a plugged disk is written to from now on; 0 for as fast as it goes."""
        self._qemu("qom-set", path=f"/objects/speed-{name}", property="limits", value={"bps-write": bytes_per_second})

    def written(self, name: str) -> int:
        """How many bytes were written to a plugged disk since it was plugged in."""
        told = self._qemu("query-blockstats")
        return sum(one["stats"]["wr_bytes"] for one in told if f"/{name}/" in one.get("qdev", ""))

    def device(self, name: str, partition: int = 0) -> str:
        """The node of a plugged disk, or of a partition on it, as soon as udev has made it: ``/dev/sda1``."""
        link = f"/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{name}-0:0" + (f"-part{partition}" if partition else "")
        return self.run(f"udevadm wait --timeout=60 {link} && readlink --canonicalize {link}").strip()

    def cut_power(self) -> None:
        """Switch it off at once: whatever it had not written to its disks is lost. USB disks are unplugged by that."""
        self._qemu.kill()
        self._plugged.clear()

    def switch_on(self) -> None:
        """Start it from cold after :meth:`cut_power`; returns when root can log in."""
        self._start(None)

    def freeze(self) -> Origin:
        """Stop it for good; other machines can go on from this moment. Nothing may be plugged in."""
        assert not self._plugged
        self._hang_up()
        memory = self._folder / "memory"
        self._qemu.freeze(memory)
        return dataclasses.replace(self._origin, disk=self._disk, memory=memory)

    def _hang_up(self) -> None:
        subprocess.run([*self._ssh, "-O", "exit"], capture_output=True, check=False)

    def close(self) -> None:
        """End it, as by a power cut. May be called after any other method."""
        self._hang_up()
        self._qemu.kill()


@contextmanager
def virtual_machine(origin: Origin, folder: Path) -> Iterator[Machine]:
    """A machine that begins as ``origin``, with its clock set to now, and keeps its files in ``folder``.

    Ready when root can log in: after 2 s where ``origin`` was frozen, else after half a minute.
    """
    folder.mkdir(parents=True)
    machine = Machine(origin, folder)
    try:
        yield machine
    finally:
        machine.close()
