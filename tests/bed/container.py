"""A booted systemd for a test: PID 1, udevd, journald, logind, D-Bus, polkit and udisks2 in a container, on real disks.

``container-rootfs`` builds what it boots from, once; ``container-boot`` boots it in a second. A container sees the disks
that were plugged into it and no other. It is gone, with every mount and process in it, when its test ends in whatever
way, and also when the tests are killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import json
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distbackupd.model.disks import Volume
from tests.bed.loop_disks import LoopDisk
from tests.bed.waiting import wait_until

Word = str | bytes | os.PathLike[str]

_HERE = Path(__file__).parent
_CGROUP = "distbackupd-test"
_LOOP_MAJOR = 7
_LOOP_CTL_GET_FREE = 0x4C82
_POWER_OFF = signal.SIGRTMIN + 4
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}
_numbers = itertools.count(1)


class Machine:
    """A running container. Commands in it are run as root unless told otherwise."""

    def __init__(self, process: subprocess.Popen[bytes], manager: socket.socket, place: Path) -> None:
        self._process = process
        self._manager = manager
        self._plugged = place / "plugged"
        self._console = place / "console"
        self._records: list[dict[str, Any]] = []
        self._read = 0
        self._follower: subprocess.Popen[bytes] | None = None
        self.disks: list[LoopDisk] = []
        self.leader = 0

    def run(self, *words: Word, user: str = "", seconds: float = 60) -> str:
        """Run a command that must succeed, see :meth:`attempt`; what it printed on standard output."""
        done = self.attempt(*words, user=user, seconds=seconds)
        assert done.returncode == 0, f"{words} ended with {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def attempt(self, *words: Word, user: str = "", seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. ``user``: as this user of the container, with its groups and without privileges."""
        with self.start(*words, user=user) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def start(self, *words: Word, user: str = "") -> subprocess.Popen[str]:
        """A command that goes on by itself; it ends with the container at the latest."""
        enter = ["nsenter", f"--target={self.leader}", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--"]
        environment = {**_ENVIRONMENT, "HOME": "/root"}
        if user:
            number = self.path("/etc/passwd").read_text().split(f"\n{user}:")[1].split(":")[1]
            enter += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--inh-caps=-all", "--"]
            bus = {"XDG_RUNTIME_DIR": f"/run/user/{number}", "DBUS_SESSION_BUS_ADDRESS": f"unix:path=/run/user/{number}/bus"}
            environment |= {"HOME": f"/home/{user}", **bus}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return subprocess.Popen([*enter, *words], env=environment, text=True, errors="surrogateescape", **pipes)

    def path(self, path: str) -> Path:
        """Where this machine sees a file of the container.

        Absolute symbolic links do not lead there, nor may the path be resolved, as SQLite does: that ends at a file of
        this machine.
        """
        return Path(f"/proc/{self.leader}/root{path}")

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file in the container, and make the folders above it."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)

    def plug(self, disk: LoopDisk, read_only: bool = False) -> Volume:
        """Attach a disk; udevd and PID 1 of the container know of it some hundredths of a second later."""
        assert not disk.device, f"{disk.image} is plugged in already, as {disk.device}"
        options = ["--read-only"] if read_only else []
        while True:
            device = _free_loop_device()
            self._make_node(device)
            attached = subprocess.run(["losetup", *options, device, disk.image], capture_output=True, text=True, check=False)
            if attached.returncode == 0:
                disk.device = device
                self.disks.append(disk)
                return disk.volume
            self._remove_node(device)
            # Else somebody was faster, and another device is free.
            assert "busy" in attached.stderr, f"{disk.image} cannot be attached: {attached.stderr}"

    def unplug(self, disk: LoopDisk) -> None:
        """Detach a disk, which must not be mounted any more; nothing happens if it is not attached."""
        device = disk.device
        disk.unplug()
        if device:
            self._remove_node(device)

    def wait_for_device(self, device: str) -> None:
        """Wait until the container's PID 1, and so its udevd, knows the device."""
        unit = self.run("systemd-escape", "--path", "--suffix=device", device).strip()
        wait_until(lambda: self.attempt("systemctl", "--quiet", "is-active", unit).returncode == 0, f"{unit} is there")

    def mounts_of(self, device: str) -> list[str]:
        """Where the device is mounted in the container."""
        lines = Path(f"/proc/{self.leader}/mounts").read_text().splitlines()
        return [line.split()[1] for line in lines if line.split()[0] == device]

    def properties(self, unit: str) -> dict[str, str]:
        """What ``systemctl show`` tells of a unit: ``ActiveState``, ``StatusText``, ``MainPID``, ``NRestarts``."""
        return dict(line.split("=", 1) for line in self.run("systemctl", "show", unit).splitlines())

    def journal(self, unit: str = "") -> str:
        """All messages so far, one below the other: of and about one unit, or of everybody. Reboots do not end them."""
        return _messages(list(self._records), unit)

    def wait_for_journal(self, *patterns: str, unit: str = "", seconds: float = 15) -> str:
        """Wait until each of these was logged since the last such call, by one unit or by whomever; what was since."""
        seen = 0

        def found() -> str:
            nonlocal seen
            seen = len(self._records)
            news = _messages(self._records[self._read : seen], unit)
            return news if all(re.search(pattern, news) for pattern in patterns) else ""

        try:
            news = wait_until(found, f"{patterns} in the journal", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the journal:\n{self.journal()}") from error
        self._read = seen
        return news

    @contextmanager
    def without(self, *services: str) -> Iterator[None]:
        """As if these were not installed: they are stopped, and D-Bus does not start them while this lasts."""
        folder = self.path("/usr/share/dbus-1/system-services")
        files = [
            file
            for file in folder.glob("*.service")
            if any(f"={service}.service" in file.read_text() for service in services)
        ]
        assert len(files) == len(services), f"{services} are not what D-Bus can start"
        reload = ["busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ReloadConfig"]
        self.run("systemctl", "stop", *services)
        self.run("systemctl", "mask", "--runtime", "--quiet", *services)
        for file in files:
            file.rename(f"{file}.hidden")
        self.run(*reload)
        try:
            yield
        finally:
            for file in files:
                Path(f"{file}.hidden").rename(file)
            self.run("systemctl", "unmask", "--runtime", "--quiet", *services)
            self.run(*reload)

    def reboot(self, seconds: float = 60) -> None:
        """Shut down and boot again with the same files, by ``systemctl reboot``; what is plugged in stays plugged in."""
        self.attempt("systemctl", "reboot")
        self.wait_for_boot(seconds)

    def power_off(self, seconds: float = 60) -> None:
        """Shut down in good order, as a machine does when its button is pressed; nothing can be run any more."""
        os.kill(self.leader, _POWER_OFF)
        self._process.wait(seconds)

    def wait_for_boot(self, seconds: float = 60) -> None:
        """Wait until PID 1 says that it has started everything."""
        deadline = time.monotonic() + seconds
        self._manager.settimeout(0.2)
        told: dict[str, str] = {}
        while told.get("READY") != "1":
            with contextlib.suppress(TimeoutError):
                told = dict(line.partition("=")[::2] for line in self._manager.recv(4096).decode().splitlines())
                self.leader = int(told.get("X_NSPAWN_LEADER_PID", self.leader))
            alive = self._process.poll() is None and time.monotonic() < deadline
            assert alive, f"the container did not boot:\n{self._console.read_text()}"
        self._follow_journal()

    def end(self) -> None:
        """Pull the plug: every process in it is killed, its mounts are gone, its disks are detached."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.leader or self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        if self._follower:
            self._follower.terminate()
        with contextlib.ExitStack() as stack:
            for disk in self.disks:
                stack.callback(disk.unplug)

    def _follow_journal(self) -> None:
        """Read from outside: PID 1 would wait for a stranger among its processes when it shuts down."""
        place = f"--directory={self.path('/var/log/journal')}"
        begin = f"--after-cursor={self._records[-1]['__CURSOR']}" if self._records else "--lines=all"
        command = ["journalctl", place, begin, "--follow", "--output=json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        threading.Thread(target=self._read_journal, args=[process], daemon=True).start()
        self._follower, follower = process, self._follower
        if follower:
            follower.terminate()

    def _read_journal(self, process: subprocess.Popen[bytes]) -> None:
        with process:
            assert process.stdout
            for line in process.stdout:
                self._records.append(json.loads(line))

    def _make_node(self, device: str) -> None:
        """Before the kernel tells of the disk, as on a real machine."""
        (self._plugged / os.path.basename(device)).touch()
        number = os.makedev(_LOOP_MAJOR, int(device.removeprefix("/dev/loop")))
        if self.leader:
            with contextlib.suppress(FileExistsError):
                os.mknod(self.path(device), stat.S_IFBLK | 0o660, number)

    def _remove_node(self, device: str) -> None:
        """Somebody else's disk may get the number next."""
        (self._plugged / os.path.basename(device)).unlink(missing_ok=True)
        if self.leader:
            self.path(device).unlink(missing_ok=True)


@contextmanager
def container(disks: Sequence[LoopDisk] = (), folders: Mapping[Path, str] | None = None) -> Iterator[Machine]:
    """A container that has booted, until this ends.

    ``disks`` are plugged in when it boots. ``folders`` of this machine are seen at the given places in the container.
    DISTBACKUPD_SUITE chooses another release of Debian than this machine's: ``bookworm``, ``trixie``.
    """
    root = rootfs()
    _sweep_cgroups()
    name = f"{_CGROUP}-{os.getpid()}-{next(_numbers)}"
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="distbackupd-container-")))
        for folder in ("layer", "plugged"):
            (place / folder).mkdir()
        manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        manager.bind(f"{place}/notify")
        stack.callback(wait_until, lambda: _remove_cgroups(name), f"the cgroups of {name} are gone")
        binds = [f"--bind={outside}:{inside}" for outside, inside in (folders or {}).items()]
        with (place / "console").open("wb") as console:
            # Ctrl+C is meant for the tests: they end the container then.
            process = subprocess.Popen(
                [_HERE / "container-boot", name, root, place, *binds],
                env={**os.environ, "NOTIFY_SOCKET": f"{place}/notify"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        machine = Machine(process, manager, place)
        stack.callback(machine.end)
        for disk in disks:
            machine.plug(disk)
        machine.wait_for_boot()
        yield machine


@functools.cache
def rootfs() -> str:
    """The folder that a container boots from. Raises RuntimeError: why it could not be built."""
    suite = os.environ.get("DISTBACKUPD_SUITE")
    done = subprocess.run(
        [_HERE / "container-rootfs", *([suite] if suite else [])], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout.strip()


def _free_loop_device() -> str:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        return f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
    finally:
        os.close(control)


def _cgroups(pattern: str) -> list[Path]:
    """Cgroups with such a name at the top of every hierarchy that systemd looks at."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    tops = [
        mount
        for _, mount, kind, options, *_ in lines
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options)
    ]
    return [cgroup for top in tops for cgroup in Path(top).glob(pattern)]


def _remove_cgroups(name: str) -> bool:
    """Remove the cgroups of a container that has ended; False while the kernel still has a process in one."""
    for cgroup in _cgroups(name):
        for folder, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    return not _cgroups(name)


def _sweep_cgroups() -> None:
    """Remove what runs that were killed left behind: their containers have ended with them, but no folder does."""
    for cgroup in _cgroups(f"{_CGROUP}-*"):
        owner = cgroup.name.split("-")[-2]
        if not Path(f"/proc/{owner}").exists():
            _remove_cgroups(cgroup.name)


def _messages(records: Sequence[Mapping[str, Any]], unit: str) -> str:
    told = [record for record in records if not unit or unit in (record.get("_SYSTEMD_UNIT"), record.get("UNIT"))]
    return "".join(f"{_text(record.get('MESSAGE'))}\n" for record in told)


def _text(message: str | list[int] | None) -> str:
    """The journal gives what is no UTF-8, or has control characters in it, as a list of bytes."""
    return bytes(message).decode("utf-8", "replace") if isinstance(message, list) else message or ""
