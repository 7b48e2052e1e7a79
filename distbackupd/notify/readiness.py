"""Talk to the service manager: ready, status, reloading, stopping, and the watchdog's ping.

Nothing here fails when there is no service manager, or when it does not listen: a lost notification must not end a
backup.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from systemd import daemon

from distbackupd.model.text import printable
from distbackupd.notify.journal import sendable

log = logging.getLogger(__name__)


def notify(*assignments: str) -> bool:
    """Send these assignments in one message; whether somebody took it. Thread-safe."""
    try:
        return bool(daemon.notify(sendable("\n".join(assignments))))
    except OSError as error:
        log.debug("the service manager does not listen: %s", error)
        return False


def ready() -> bool:
    """The daemon does its work from now on, or again after :func:`reloading`."""
    return notify("READY=1")


def status(text: str) -> bool:
    """The line that ``systemctl status`` shows."""
    # Whatever name is in it, it is one assignment: the next line would be taken for another one, such as MAINPID=.
    return notify("STATUS=" + printable(text.replace("\n", " ")))


def reloading() -> bool:
    """Settings are being read again; :func:`ready` tells when that is done."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> bool:
    """The daemon ends as soon as the work in hand is at a good place."""
    return notify("STOPPING=1")


def extend_timeout(seconds: float) -> bool:
    """Starting, reloading or stopping takes up to so much longer, from now."""
    return notify(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")


class Heart:
    """A component's sign of life. Made by :meth:`Pulse.register`; all methods are cheap and thread-safe."""

    def __init__(self, name: str, silence: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._silence = silence
        self._beaten = clock()

    def beat(self) -> None:
        """The component is alive."""
        self._beaten = self._clock()

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """While the context lasts the component may be silent for ``seconds``, if that is more than usual."""
        usual = self._silence
        self._silence = max(usual, seconds)
        self.beat()
        try:
            yield
        finally:
            self.beat()
            self._silence = usual

    def alive(self, now: float) -> bool:
        """Whether it has beaten within its allowed silence."""
        return now - self._beaten <= self._silence


def silent_hearts(hearts: Iterable[Heart], now: float) -> list[str]:
    """Names of those that have been silent for too long."""
    return [heart.name for heart in hearts if not heart.alive(now)]


class Pulse:
    """Pings systemd's watchdog from a thread of its own, only while every registered heart beats.

    systemd then ends and restarts a daemon that hangs. Without a watchdog (``WatchdogSec=``) it does nothing. The ping
    cannot come from the engine's thread: that one rightly sits in a flush of a slow disk for minutes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hearts: list[Heart] = []
        self._told: list[str] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def register(self, name: str, silence: float) -> Heart:
        """A new heart that may be silent for ``silence`` seconds."""
        heart = Heart(name, silence, self._clock)
        self._hearts.append(heart)
        return heart

    def start(self) -> None:
        """Ping from now on, where systemd asked for it. Starting twice is no error."""
        interval = ping_interval()
        if interval is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, args=[interval], name="pulse", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ping no more. Stopping twice is no error."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def ping(self) -> bool:
        """One look: pings if all hearts beat. Whether they did; silent ones are told once."""
        silent = silent_hearts(self._hearts, self._clock())
        if silent and silent != self._told:
            log.error("no sign of life from: %s; systemd will restart the daemon unless it comes back", ", ".join(silent))
        self._told = silent
        if not silent:
            notify("WATCHDOG=1")
        return not silent

    def _run(self, interval: float) -> None:
        while True:
            self.ping()
            if self._stop.wait(interval):
                return


def ping_interval() -> float | None:
    """Seconds between pings: half of what systemd allows. None: it does not watch this process."""
    try:
        if int(os.environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return None
        microseconds = int(os.environ["WATCHDOG_USEC"])
    except (KeyError, ValueError):
        return None
    return microseconds / 2_000_000 if microseconds > 0 else None
