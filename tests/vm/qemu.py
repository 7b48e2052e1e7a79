"""One run of QEMU: the hardware it shows to the machine inside, and the socket on which it is told what to do.

The hardware is the same in every run, for a machine that was frozen wakes up only in what it fell asleep in.
"""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.bed.waiting import wait_until

PROGRAM = "qemu-system-x86_64"

HARDWARE = [
    *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024", "-smp", "2"),
    *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
    *("-device", "virtio-blk-pci,drive=root", "-device", "virtio-rng-pci"),
    *("-device", "virtio-net-pci,netdev=network,romfile="),
    *("-device", "qemu-xhci,id=usb,p2=8,p3=8"),
]
"""No KVM: where it is missing, or only half there, everything goes on as anywhere else, some ten times slower."""


class Refused(Exception):
    """QEMU did not do what it was told; ``str(error)`` is why."""


class Qemu:
    """A running machine. Its files (sockets, what the console printed) lie in ``folder``.

    ``disk`` is its root disk, a qcow2 file, which is written to. With ``memory``, a file that :meth:`freeze` wrote, the
    machine goes on where it was frozen; without, it starts from cold with ``kernel`` and ``initrd``.
    """

    def __init__(self, folder: Path, disk: Path, kernel: Path, initrd: Path, memory: Path | None = None) -> None:
        folder.mkdir(parents=True)
        control = folder / "qmp"
        command = [
            *("nice", PROGRAM, *HARDWARE),
            *("-kernel", str(kernel), "-initrd", str(initrd), "-append", "root=/dev/vda rw console=ttyS0 quiet"),
            *("-drive", f"file={disk},if=none,id=root,cache=unsafe"),
            *("-netdev", "user,id=network,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"),
            *("-qmp", f"unix:{control},server=on,wait=off"),
            *("-serial", f"file:{folder}/console.log"),
            *(["-incoming", f"exec:cat {memory}"] if memory else []),
        ]
        self._errors = folder / "qemu.log"
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        try:
            self._socket = self._connect(control)
            self._stream = self._socket.makefile("r", encoding="utf-8")
            self._events: list[str] = []
            self._stream.readline()  # a greeting
            self("qmp_capabilities")
            if memory:
                self.wait_for_status("paused")
                self("cont")
        except BaseException:
            self.kill()
            raise

    def _connect(self, control: Path) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(600)

        def connected() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"QEMU ended at once: {self._errors.read_text('utf-8', 'replace')}")
            return connection.connect_ex(str(control)) == 0

        wait_until(connected, "QEMU's control socket", 120)
        return connection

    def __call__(self, command: str, **arguments: Any) -> Any:
        """Tell QEMU to do something; what it returns. In names of arguments ``_`` stands for ``-``. Raises Refused."""
        words = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": words}).encode() + b"\n")
        while True:
            answer = json.loads(self._stream.readline())
            if "error" in answer:
                raise Refused(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
            self._events.append(self._name(answer))

    def wait_for_event(self, name: str) -> None:
        """Wait until QEMU told this event: ``DEVICE_DELETED usb1``; each counts once."""
        while name not in self._events:
            self._events.append(self._name(json.loads(self._stream.readline())))
        self._events.remove(name)

    @staticmethod
    def _name(event: dict[str, Any]) -> str:
        return f"{event['event']} {event.get('data', {}).get('device', '')}".strip()

    def wait_for_status(self, status: str) -> None:
        """Wait until the machine is ``paused`` (thawed), ``postmigrate`` (frozen) and the like."""
        wait_until(lambda: self("query-status")["status"] == status, f"the machine to be {status}", 600)

    @property
    def port(self) -> int:
        """The port of this host, on 127.0.0.1, that leads to the machine's port 22."""
        told = self("human-monitor-command", command_line="info usernet").split()
        return int(told[told.index("127.0.0.1") + 1])

    def freeze(self, memory: Path) -> None:
        """Stop the machine for good and write its memory to a file, which with its disk is all of it."""
        self("migrate-set-parameters", max_bandwidth=1 << 40)
        self("stop")
        self("migrate", uri=f"exec:cat >{memory}")
        self.wait_for_status("postmigrate")
        self("quit")
        self.process.wait(60)

    def kill(self) -> None:
        """Cut its power: what the machine had not written to its disks is lost. May be called twice."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        if hasattr(self, "_socket"):
            self._socket.close()
