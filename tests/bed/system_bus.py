"""A system bus of one's own, with our policy, a real polkit on it if wanted, and a logind that tells what it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdbus import DbusInterfaceCommonAsync, DbusUnprivilegedFlag, SdBus, dbus_method_async, dbus_signal_async

from distbackupd.control.connection import BusThread
from tests.bed.capabilities import POLKITD
from tests.bed.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")

# As Debian's system.conf, but for activation and limits.
_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "busconfig.dtd">
<busconfig>
  <listen>unix:path={place}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.login1"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
  </policy>
  <policy user="root">
    <allow own="org.freedesktop.login1"/>
    <allow own="org.freedesktop.PolicyKit1"/>
  </policy>
  <servicedir>{place}/services</servicedir>
  <include>{root}/packaging/dbus/org.distbackupd.conf</include>
  <include ignore_missing="yes">/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf</include>
</busconfig>
"""


class SystemBus:
    """A running ``dbus-daemon``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.address = f"unix:path={place}/bus"
        self._socket = place / "bus"
        self._configuration = place / "bus.conf"
        self._services = place / "services"
        self._services.mkdir()
        self._configuration.write_text(_CONFIGURATION.format(place=place, root=ROOT))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it can be connected to."""
        self._process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self._configuration}", "--nofork", "--nopidfile"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._takes_connections, "the bus takes connections")

    def _takes_connections(self) -> bool:
        # The socket's file is there a moment before anybody listens on it.
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(self._socket)) == 0

    def end(self) -> None:
        """As if it was stopped: everybody is disconnected."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
            self._socket.unlink(missing_ok=True)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """While the context lasts it takes what it is sent and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def activating(self, command: list[str], log: Path) -> Iterator[None]:
        """While the context lasts the bus starts this command for whoever asks for our name; systemd would do it else."""
        service = self._services / "org.distbackupd.service"
        pid = log.with_suffix(".pid")
        script = f"cd {ROOT}; echo $$ > {pid}; exec {shlex.join(command)} > {log} 2>&1"
        service.write_text(f"[D-BUS Service]\nName=org.distbackupd\nExec=/bin/sh -c {shlex.quote(script)}\n")
        self.busctl("call", *_BUS, "ReloadConfig")
        try:
            yield
        finally:
            service.unlink()
            if pid.exists():
                started = int(pid.read_text())
                os.kill(started, signal.SIGTERM)
                wait_until(lambda: not Path(f"/proc/{started}").exists(), "the started program's end")

    def busctl(self, *words: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``busctl`` on this bus, as another user if wanted."""
        become = ["setpriv", f"--reuid={user}", "--clear-groups"] if user else []
        return subprocess.run(
            [*become, "busctl", f"--address={self.address}", *words], capture_output=True, text=True, check=False, timeout=60
        )

    def has(self, name: str) -> bool:
        """Whether somebody owns the name."""
        return self.busctl("status", name).returncode == 0


@contextmanager
def system_bus() -> Iterator[SystemBus]:
    """A bus that all programs, this one too, take for the machine's system bus; every user may connect to it."""
    with _open_folder() as place:
        yield from _running(SystemBus(place))


def _running(bus: SystemBus) -> Iterator[SystemBus]:
    before = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")
    os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = bus.address
    bus.start()
    try:
        yield bus
    finally:
        bus.end()
        if before is None:
            del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
        else:
            os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = before


@contextmanager
def _open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def polkit(bus: SystemBus, permitted: str) -> Iterator[None]:
    """A polkitd on the bus that knows our policy, and a rule that permits this user all."""
    with _open_folder() as place:
        yield from _running_polkit(bus, place / "actions", place / "rules", permitted)


def _running_polkit(bus: SystemBus, actions: Path, rules: Path, permitted: str) -> Iterator[None]:
    for folder in (actions, rules):
        folder.mkdir()
    shutil.copy(ROOT / "packaging" / "polkit" / "org.distbackupd.policy", actions)
    (rules / "50-test.rules").write_text(
        f'polkit.addRule(function(action, subject) {{ if (subject.user == "{permitted}") return polkit.Result.YES; }});\n'
    )
    script = f"""
        mount --bind {actions} /usr/share/polkit-1/actions
        mount --bind {rules} /etc/polkit-1/rules.d
        exec {POLKITD} --no-debug
    """
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-euc", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: bus.has("org.freedesktop.PolicyKit1"), "polkit on the bus")
        yield
    finally:
        process.kill()
        process.wait(10)


class _Login1(DbusInterfaceCommonAsync, interface_name="org.freedesktop.login1.Manager"):
    """The part of logind's interface that is used."""

    def __init__(self, logind: Logind) -> None:
        super().__init__()
        self._logind = logind

    @dbus_method_async("ssss", "h", DbusUnprivilegedFlag)
    async def inhibit(self, what: str, who: str, why: str, mode: str) -> int:
        """Take a lock."""
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        self._logind.locks[(what, who, why, mode)] = ours
        asyncio.get_running_loop().call_soon(os.close, theirs)
        return theirs

    @dbus_signal_async("b")
    def prepare_for_shutdown(self) -> bool:
        """Begins or is over."""
        raise NotImplementedError

    @dbus_signal_async("b")
    def prepare_for_sleep(self) -> bool:
        """Begins or is over."""
        raise NotImplementedError


@dataclass
class Logind:
    """What it was asked for."""

    locks: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    served: Any = None
    thread: BusThread | None = None

    def held(self) -> set[tuple[str, str, str, str]]:
        """Locks whose holder has not let go."""
        return {lock for lock, descriptor in self.locks.items() if _is_open(descriptor)}

    def tell(self, signal_name: str, begins: bool) -> None:
        """Send ``prepare_for_sleep`` or ``prepare_for_shutdown``."""
        assert self.thread is not None
        self.thread.post(getattr(self.served, signal_name).emit, begins)


def _is_open(descriptor: int) -> bool:
    try:
        return os.read(descriptor, 1) != b""
    except BlockingIOError:
        return True


@contextmanager
def logind() -> Iterator[Logind]:
    """A logind on the system bus, run by this process."""
    stand_in = Logind()

    @asynccontextmanager
    async def serve(bus: SdBus) -> AsyncIterator[None]:
        stand_in.served = _Login1(stand_in)
        handle = stand_in.served.export_to_dbus("/org/freedesktop/login1", bus)
        await bus.request_name_async("org.freedesktop.login1", 0)
        try:
            yield
        finally:
            handle.stop()

    stand_in.thread = BusThread("stand-in logind", serve, "no logind")
    stand_in.thread.start()
    try:
        yield stand_in
    finally:
        stand_in.thread.stop()
        for descriptor in stand_in.locks.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
