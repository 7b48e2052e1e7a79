"""A desktop of one's own: an X server that nobody sees, a session bus, a real notification server, a mouse, a camera."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bed.waiting import wait_until

DEBIANS_PYTHON = "/usr/bin/python3"
"""The one that has dbusmock."""

NOTIFICATIONS = "org.freedesktop.Notifications"

XFCE = next(iter(sorted(map(str, Path("/usr/lib").glob("*/xfce4/notifyd/xfce4-notifyd")))), "xfce4-notifyd")

SERVERS = {"dunst": ["dunst"], "xfce4-notifyd": [XFCE]}
MOCK = [DEBIANS_PYTHON, "-m", "dbusmock", "--template", "notification_daemon"]


@dataclass
class Bus:
    """A bus of one's own; nothing but the test is on it."""

    address: str
    process: subprocess.Popen[str]

    def has(self, name: str) -> bool:
        """Whether somebody owns this name."""
        return name in self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ListNames").split(
            '"'
        )

    def call(self, *words: str) -> str:
        """Call a method, as ``busctl call``; what it answered, as text."""
        done = subprocess.run(
            ["busctl", f"--address={self.address}", "call", *words], capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout

    def end(self) -> None:
        """As at the end of a session: everybody is disconnected."""
        self.process.terminate()
        self.process.wait(10)


@contextmanager
def bus(folder: Path, name: str) -> Iterator[Bus]:
    """A message bus; it asks for no policy and starts nothing on demand."""
    config = folder / f"{name}.conf"
    config.write_text(
        "<busconfig><type>session</type><auth>EXTERNAL</auth>"
        f"<listen>unix:path={folder / name}</listen>"
        '<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>'
        '<allow own="*"/></policy></busconfig>'
    )
    process = subprocess.Popen(
        ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--nosyslog", "--print-address=1"],
        stdout=subprocess.PIPE,
        text=True,
    )
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
