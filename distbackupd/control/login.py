"""logind: the machine does not fall asleep while a disk is written, and waits a little when it is shut down."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sdbus import SdBus, SdBusBaseError

from distbackupd.control.connection import BusThread, call
from distbackupd.control.trouble import why

log = logging.getLogger(__name__)

_SERVICE = "org.freedesktop.login1"
_PATH = "/org/freedesktop/login1"
_INTERFACE = "org.freedesktop.login1.Manager"

ASK_SECONDS = 2.0
"""The longest that the engine waits for logind: a lock is a courtesy, the backup is not."""


class LoginManager:
    """The machine's own sleep and shutdown. Where there is no bus, or no logind on it, this does nothing."""

    def __init__(self) -> None:
        self._thread = BusThread(
            "logind", self._listen, "a machine that is to sleep or to shut down does not wait for backups"
        )
        self._bus: SdBus | None = None
        self._going_down: Callable[[], object] = lambda: None
        self._awake: Callable[[], object] = lambda: None

    def start(self, going_down: Callable[[], object], awake: Callable[[], object]) -> None:
        """Call ``going_down`` when the machine begins to shut down, ``awake`` when it has slept, in another thread.

        Neither may block. Returns after five seconds at the latest.
        """
        self._going_down, self._awake = going_down, awake
        self._thread.start()

    def stop(self) -> None:
        """Call nothing any more; returns after two seconds at the latest."""
        self._thread.stop()

    @contextmanager
    def inhibited(self, why: str) -> Iterator[None]:
        """While the context lasts the machine does not fall asleep; a shutdown waits for the end of the context.

        It waits as long as logind's ``InhibitDelayMaxSec`` says, five seconds by default; the service manager gives the
        time that it takes to unmount. ``why`` is what ``systemd-inhibit --list`` shows. Raises nothing, and takes four
        seconds at the most, whatever logind does.
        """
        locks = [self._lock("sleep", why, "block"), self._lock("shutdown", why, "delay")]
        try:
            yield
        finally:
            for lock in locks:
                if lock is not None:
                    os.close(lock)

    def _lock(self, what: str, reason: str, mode: str) -> int | None:
        """The descriptor that holds the lock until it is closed; None where there is none to be had."""
        bus = self._bus
        if bus is None:
            return None

        async def inhibit() -> int:
            words = (what, "distbackupd", reason, mode)
            lock: int = await call(bus, _SERVICE, _PATH, _INTERFACE, "Inhibit", "ssss", *words, seconds=ASK_SECONDS)
            return lock

        try:
            return self._thread.ask(inhibit, ASK_SECONDS)
        except (SdBusBaseError, TimeoutError) as error:
            log.debug("logind does not keep the machine from %s: %s", what, why(error))
            return None

    @asynccontextmanager
    async def _listen(self, bus: SdBus) -> AsyncIterator[None]:
        async def subscribe(signal: str, heard: Callable[[bool], object]) -> object:
            def unpack(message: Any) -> None:
                heard(bool(message.get_contents()))

            slot = bus.match_signal_async(_SERVICE, _PATH, _INTERFACE, signal, unpack)
            return await asyncio.wait_for(slot, ASK_SECONDS)

        kept = [
            await subscribe("PrepareForShutdown", lambda begins: self._going_down() if begins else None),
            await subscribe("PrepareForSleep", lambda begins: None if begins else self._awake()),
        ]
        self._bus = bus
        try:
            yield
        finally:
            self._bus = None
            kept.clear()
