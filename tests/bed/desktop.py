"""A desktop of one's own: an X server that nobody sees, a session bus, a real notification server, a mouse, a camera."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.bed.waiting import wait_until

DEBIANS_PYTHON = "/usr/bin/python3"
"""The one that has dbusmock."""

NOTIFICATIONS = "org.freedesktop.Notifications"

XFCE = next(iter(sorted(map(str, Path("/usr/lib").glob("*/xfce4/notifyd/xfce4-notifyd")))), "xfce4-notifyd")

SERVERS = {"dunst": ["dunst"], "xfce4-notifyd": [XFCE]}


@dataclass
class Bus:
    """A bus of one's own; nothing but the test is on it."""

    address: str
    process: subprocess.Popen[str]

    def call(self, service: str, path: str, member: str, *arguments: str) -> Any:
        """Call a method, ``member`` with its interface, arguments as busctl has them; what it answered, as JSON has it."""
        interface, _, name = member.rpartition(".")
        done = subprocess.run(
            ["busctl", f"--address={self.address}", "--json=short", "call", service, path, interface, name, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["data"] if done.stdout else None

    def has(self, name: str) -> bool:
        """Whether somebody owns this name."""
        answer = self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.NameHasOwner", "s", name)
        return bool(answer[0])

    def end(self) -> None:
        """As at the end of a session: everybody is disconnected."""
        self.process.terminate()
        self.process.wait(10)


@contextmanager
def bus(folder: Path, name: str) -> Iterator[Bus]:
    """A message bus. It allows everything; on demand it starts what ``.service`` files in ``folder`` name."""
    config = folder / f"{name}.conf"
    config.write_text(
        "<busconfig><type>session</type><auth>EXTERNAL</auth>"
        f"<listen>unix:path={folder / name}</listen><servicedir>{folder}</servicedir>"
        '<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>'
        '<allow own="*"/></policy></busconfig>'
    )
    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--nosyslog", "--print-address=1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process:
        try:
            yield Bus(process.stdout.readline().strip(), process)
        finally:
            process.terminate()


@dataclass
class Desktop:
    """What a person has before them. ``environment``: for programs that run in this session."""

    bus: Bus
    environment: dict[str, str]
    folder: Path

    def start(self, *words: str, log: str) -> subprocess.Popen[bytes]:
        """A program of this session; what it prints goes to a file of this name."""
        with open(self.folder / log, "ab") as out:
            return subprocess.Popen(words, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def photograph(self, path: Path) -> Path:
        """What is on the screen now, as a PNG."""
        self.run("import", "-window", "root", str(path))
        return path

    def run(self, *words: str) -> str:
        """Run a program of this session to its end; what it printed."""
        return subprocess.run(words, env=self.environment, capture_output=True, text=True, check=True, timeout=30).stdout

    def click(self, x: int, y: int, button: int = 1) -> None:
        """Click there."""
        self.run("xdotool", "mousemove", str(x), str(y), "click", str(button))


@contextmanager
def desktop(folder: Path) -> Iterator[Desktop]:
    """A session with an X server and no notification server yet."""
    home = folder / "home"
    home.mkdir()
    with ExitStack() as stack:
        session = stack.enter_context(bus(folder, "session"))
        display = stack.enter_context(_screen())
        environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_STATE_HOME": str(home / ".local/state"),
            "DISPLAY": display,
            "DBUS_SESSION_BUS_ADDRESS": session.address,
            "NO_AT_BRIDGE": "1",
            "LC_ALL": "C.UTF-8",
        }
        yield Desktop(session, environment, folder)


@contextmanager
def server(desk: Desktop, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A notification server in this session, ready to serve; its output goes to ``server.log``."""
    process = desk.start(*words, log="server.log")
    try:
        wait_until(lambda: desk.bus.has(NOTIFICATIONS) or process.poll() is not None, f"{words[0]} to serve")
        assert process.poll() is None, (desk.folder / "server.log").read_text()
        yield process
    finally:
        _end(process)


class Notification(NamedTuple):
    """A call of Notify, as the server got it."""

    application: str
    replaces: int
    icon: str
    title: str
    body: str
    actions: list[str]
    hints: dict[str, Any]
    milliseconds: int


class MockServer:
    """dbusmock in the place of a notification server: shows nothing, but knows exactly what it was told."""

    def __init__(self, desk: Desktop) -> None:
        self._bus = desk.bus

    def notified(self) -> list[Notification]:
        """Every notification so far, in order."""
        found = []
        for _, method, arguments in self._call("org.freedesktop.DBus.Mock.GetCalls")[0]:
            if method == "Notify":
                words = [argument["data"] for argument in arguments]
                words[6] = {name: hint["data"] for name, hint in words[6].items()}
                found.append(Notification(*words))
        return found

    def wait_for(self, count: int) -> list[Notification]:
        """The notifications, as soon as they are so many."""
        return wait_until(lambda: len(told := self.notified()) >= count and told, f"{count} notifications")

    def click(self, number: int, action: str) -> None:
        """As if somebody clicked on the button of this action."""
        self._signal("ActionInvoked", "us", "u", str(number), "s", action)

    def close(self, number: int) -> None:
        """As if somebody clicked it away."""
        self._signal("NotificationClosed", "uu", "u", str(number), "u", "2")

    def _signal(self, name: str, signature: str, *words: str) -> None:
        self._call("org.freedesktop.DBus.Mock.EmitSignal", "sssav", NOTIFICATIONS, name, signature, "2", *words)

    def _call(self, member: str, *words: str) -> Any:
        return self._bus.call(NOTIFICATIONS, f"/{NOTIFICATIONS.replace('.', '/')}", member, *words)


@contextmanager
def mock_server(desk: Desktop, capabilities: str = "actions body body-markup") -> Iterator[MockServer]:
    """A server that can do this."""
    parameters = json.dumps({"capabilities": capabilities})
    words = [DEBIANS_PYTHON, "-m", "dbusmock", "--template", "notification_daemon", "--parameters", parameters]
    with server(desk, *words):
        yield MockServer(desk)


@contextmanager
def _screen() -> Iterator[str]:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x500x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as numbers:
            yield f":{numbers.readline().strip()}"
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
        return
    process.kill()
    process.wait()
