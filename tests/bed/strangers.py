"""What an ordinary user's program can do to a service on the bus: calls by the hundred that wait for no answer."""

from __future__ import annotations

import asyncio
import json
import os
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from sdbus import (
    DbusInterfaceCommonAsync,
    DbusUnprivilegedFlag,
    SdBus,
    SdBusBaseError,
    dbus_method_async,
    sd_bus_open_system,
)

from distbackupd.control.connection import BusThread
from distbackupd.control.interface import BUS_NAME, INTERFACE, OBJECT_PATH

Call = tuple[Any, ...]
"""Method, signature, and arguments."""


def run_as(user: int, work: Callable[[], Awaitable[object]], seconds: float = 60) -> Any:
    """What ``work`` comes to in a process of this user without any privilege; as JSON carries it."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(ours)
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            answer = asyncio.run(asyncio.wait_for(work(), seconds))
            with os.fdopen(theirs, "w") as stream:
                json.dump(answer, stream)
            status = 0
        except BaseException:  # noqa: BLE001 - told as the interpreter tells it
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        told = stream.read()
    _, waited = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(waited) == 0, "the stranger's program failed"
    return json.loads(told)


async def flood(calls: list[Call], connections: int, patience: float) -> dict[str, int]:
    """All the calls over each of so many connections at once: how many were answered how, ``waits`` after the patience."""
    buses = [sd_bus_open_system() for _ in range(connections)]
    for bus in buses:
        bus.method_call_timeout_usec = 300_000_000
    tasks = [asyncio.create_task(_answer(bus, call)) for bus in buses for call in calls]
    done, waiting = await asyncio.wait(tasks, timeout=patience)
    counted: dict[str, int] = {"waits": len(waiting)} if waiting else {}
    for task in done:
        counted[task.result()] = counted.get(task.result(), 0) + 1
    for task in waiting:
        task.cancel()
    for bus in buses:
        with suppress(OSError):  # the bus has thrown it out
            bus.close()
    return counted


async def _answer(bus: SdBus, call: Call) -> str:
    method, signature, *arguments = call
    message = bus.new_method_call_message(BUS_NAME, OBJECT_PATH, INTERFACE, method)
    if signature:
        message.append_data(signature, *arguments)
    try:
        await bus.call_async(message)
    except SdBusBaseError as error:
        return type(error).__name__
    return "done"


class HangingPolkit(DbusInterfaceCommonAsync, interface_name="org.freedesktop.PolicyKit1.Authority"):
    """It waits for somebody who types a password, for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.questions = 0

    @dbus_method_async("(sa{sv})sa{ss}us", "(bba{ss})", DbusUnprivilegedFlag)
    async def check_authorization(
        self, subject: Any, action: str, details: dict[str, str], flags: int, cancellation: str
    ) -> tuple[bool, bool, dict[str, str]]:
        """Ask."""
        self.questions += 1
        await asyncio.sleep(1000)
        return False, False, {}


@contextmanager
def hanging_polkit() -> Iterator[HangingPolkit]:
    """A polkit on the system bus that answers nobody."""
    polkit = HangingPolkit()

    @asynccontextmanager
    async def serve(bus: SdBus) -> AsyncIterator[None]:
        handle = polkit.export_to_dbus("/org/freedesktop/PolicyKit1/Authority", bus)
        await bus.request_name_async("org.freedesktop.PolicyKit1", 0)
        try:
            yield
        finally:
            handle.stop()

    thread = BusThread("hanging polkit", serve, "no polkit")
    thread.start()
    try:
        yield polkit
    finally:
        thread.stop()
