"""A connection to the system bus that is kept up in a thread with an asyncio loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from sdbus import SdBus, SdBusBaseError, sd_bus_open_system

from distbackupd.control.trouble import why

log = logging.getLogger(__name__)

T = TypeVar("T")

Use = Callable[[SdBus], AbstractAsyncContextManager[object]]

FIRST_SECONDS = 5.0
"""The longest that :meth:`BusThread.start` waits for the first connection."""
_STOP_SECONDS = 2.0
_ANSWER_SECONDS = 10.0


class BusThread:
    """Connects, lets ``use`` work with the connection for as long as it holds, and connects again when it was lost.

    ``use`` is entered in the thread's loop; its errors of the bus are told in one warning, ``consequence`` first, and it
    is tried again after ``pause`` seconds. sd-bus tells nobody that a bus has ended, so it is asked once a ``pause``.
    """

    def __init__(self, name: str, use: Use, consequence: str, pause: float = 30.0) -> None:
        self._use = use
        self._consequence = consequence
        self._pause = pause
        self._complaint = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: asyncio.Task[None] | None = None
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; returns when the first attempt has succeeded or failed, or after :data:`FIRST_SECONDS`."""
        self._thread.start()
        self._tried.wait(FIRST_SECONDS)

    def stop(self) -> None:
        """End the connection, whatever it is doing; returns after two seconds at the latest. Twice is no error."""
        if self._life is not None:
            self.post(self._life.cancel)
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def post(self, call: Callable[..., object], *arguments: object) -> None:
        """Let the loop call this soon; nothing if it has ended. Thread-safe, returns at once."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call, *arguments)

    def ask(self, question: Callable[[], Awaitable[T]], seconds: float) -> T:
        """What this comes to in the loop, asked from another thread.

        Raises TimeoutError after so many seconds, whatever the bus does, and what the question raises.
        """

        async def answer() -> T:
            return await question()

        if self._loop is None:
            raise TimeoutError
        try:
            future = asyncio.run_coroutine_threadsafe(answer(), self._loop)
        except RuntimeError as ended:
            raise TimeoutError from ended
        try:
            return future.result(seconds)
        finally:
            future.cancel()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop, self._life = asyncio.get_running_loop(), asyncio.current_task()
        try:
            while True:
                try:
                    await self._connect_and_use()
                except (SdBusBaseError, TimeoutError) as error:
                    self._complain(why(error))
                except Exception:
                    log.exception("a bug in distbackupd, please report it; it goes on without D-Bus for a while")
                self._tried.set()
                await asyncio.sleep(self._pause)
        finally:
            self._tried.set()

    async def _connect_and_use(self) -> None:
        bus = sd_bus_open_system()
        try:
            await ping(bus)
            async with self._use(bus):
                self._complaint = ""
                self._tried.set()
                while True:
                    await asyncio.sleep(self._pause)
                    await ping(bus)
        finally:
            bus.close()

    def _complain(self, reason: str) -> None:
        if reason != self._complaint:
            self._complaint = reason
            log.warning("%s: %s", self._consequence, reason)


async def call(
    bus: SdBus,
    service: str,
    path: str,
    interface: str,
    member: str,
    signature: str = "",
    *arguments: Any,
    seconds: float = 0,
) -> Any:
    """What a method answers. Raises TimeoutError after so many seconds (0: ten), SdBusBaseError."""
    message = bus.new_method_call_message(service, path, interface, member)
    if signature:
        message.append_data(signature, *arguments)
    reply = await asyncio.wait_for(bus.call_async(message), seconds)
    return reply.get_contents()


async def call_bus(bus: SdBus, member: str, signature: str = "", *arguments: Any, seconds: float = _ANSWER_SECONDS) -> Any:
    """What the bus itself answers. Raises as :func:`call`."""
    name = "org.freedesktop.DBus"
    return await call(bus, name, "/org/freedesktop/DBus", name, member, signature, *arguments, seconds=seconds)


async def ping(bus: SdBus) -> None:
    """Returns if the bus answers. Raises as :func:`call`."""
    await call_bus(bus, "GetId")
