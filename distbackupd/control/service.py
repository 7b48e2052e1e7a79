"""The daemon's side: the desk as the object ``/org/distbackupd`` of ``org.distbackupd`` on the system bus."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from sdbus import (
    DbusInvalidArgsError,
    SdBus,
    SdBusLibraryError,
    dbus_method_async_override,
    dbus_property_async_override,
    get_current_message,
)
from sdbus.sd_bus_internals import NameQueueFlag, SdBusRequestNameInQueueError

from distbackupd import __version__
from distbackupd.control.authority import Authority
from distbackupd.control.connection import BusThread
from distbackupd.control.desk import Desk
from distbackupd.control.interface import BUS_NAME, INTERFACE, OBJECT_PATH, Manager1, Variant, WireNews
from distbackupd.control.wire import answer_of, news_of, protection_properties, standing_properties, wish_from
from distbackupd.model.events import FileSkipped
from distbackupd.model.standing import Answer, Protection, Standing, Told
from distbackupd.model.text import printable

log = logging.getLogger(__name__)

SHORTEST_PAUSE = 0.5
"""Seconds between two ``PropertiesChanged``."""


class ControlService:
    """Shows the desk on the system bus and takes to it what others ask for.

    Where there is no bus, or it does not let us own our name, one warning tells so; the daemon goes on without, and it is
    tried again every ``pause`` seconds. So it is when the bus was restarted.
    """

    def __init__(self, desk: Desk, pause: float = 30.0) -> None:
        self._desk = desk
        self._thread = BusThread("d-bus", self._serve, "nobody can watch this daemon or ask it over D-Bus", pause)

    def start(self) -> None:
        """Returns when others can ask, or when it is known that they cannot; after five seconds at the latest."""
        self._thread.start()

    def stop(self) -> None:
        """Others cannot ask any more; returns after two seconds at the latest."""
        self._thread.stop()

    @asynccontextmanager
    async def _serve(self, bus: SdBus) -> AsyncIterator[None]:
        manager = _Manager(self._desk, Authority(bus))
        handle = manager.export_to_dbus(OBJECT_PATH, bus)
        announcer = _Announcer(manager, self._desk, self._thread)
        unsubscribe = self._desk.subscribe(announcer)
        try:
            try:
                await asyncio.wait_for(bus.request_name_async(BUS_NAME, NameQueueFlag), 5)
            except SdBusRequestNameInQueueError:
                log.warning(
                    "another program serves %s on the system bus, perhaps a distbackupd on another catalogue: "
                    "this one can be asked when that ends",
                    BUS_NAME,
                )
            yield
        finally:
            unsubscribe()
            announcer.end()
            handle.stop()


class _Announcer:
    """A :class:`~distbackupd.control.desk.Listener` that makes signals of what it hears."""

    def __init__(self, manager: _Manager, desk: Desk, thread: BusThread) -> None:
        self._manager = manager
        self._desk = desk
        self._post = thread.post
        self._loop = asyncio.get_running_loop()
        self._announced = manager.shown()
        self._announced_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def stands(self, standing: Standing) -> None:  # noqa: ARG002 - the newest is asked for when it is announced
        self._post(self._soon)

    def protects(self, protection: Protection) -> None:  # noqa: ARG002 - as above
        self._post(self._soon)

    def told(self, told: Told) -> None:
        # Names of files are nobody's business but root's, and there may be a million of them.
        if not isinstance(told.event, FileSkipped):
            self._post(self._emit_told, told)

    def answered(self, answer: Answer) -> None:
        self._post(self._emit_answered, answer)

    def end(self) -> None:
        """No timer outlives the connection."""
        if self._timer:
            self._timer.cancel()

    def _soon(self) -> None:
        if self._timer is None:
            due = max(self._announced_at + SHORTEST_PAUSE, self._loop.time())
            self._timer = self._loop.call_at(due, self._announce)

    def _announce(self) -> None:
        self._timer = None
        self._announced_at = self._loop.time()
        shown = self._manager.shown()
        changed = {name: value for name, value in shown.items() if value != self._announced[name]}
        self._announced = shown
        if changed:
            with suppress(SdBusLibraryError):  # the bus has ended: that is found out, and told, elsewhere
                self._manager.properties_changed.emit((INTERFACE, changed, []))

    def _emit_told(self, told: Told) -> None:
        with suppress(SdBusLibraryError):
            self._manager.told.emit(news_of(told))

    def _emit_answered(self, answer: Answer) -> None:
        with suppress(SdBusLibraryError):
            self._manager.answered.emit(answer_of(answer))


class _Manager(Manager1):
    """The object on the bus."""

    def __init__(self, desk: Desk, authority: Authority) -> None:
        super().__init__()
        self._desk = desk
        self._authority = authority

    def shown(self) -> dict[str, Variant]:
        """All properties that change, by their names."""
        return standing_properties(self._desk.standing()) | protection_properties(self._desk.protection())

    @dbus_property_async_override()
    def version(self) -> str:
        return __version__

    @dbus_property_async_override()
    def folder(self) -> str:
        return printable(str(self._desk.folder))

    @dbus_property_async_override()
    def state(self) -> Any:
        return self._shown("State")

    @dbus_property_async_override()
    def status(self) -> Any:
        return self._shown("Status")

    @dbus_property_async_override()
    def disk(self) -> Any:
        return self._shown("Disk")

    @dbus_property_async_override()
    def paused(self) -> Any:
        return self._shown("Paused")

    @dbus_property_async_override()
    def progress(self) -> Any:
        return self._shown("Progress")

    @dbus_property_async_override()
    def bytes_by_copies(self) -> Any:
        return self._shown("BytesByCopies")

    @dbus_property_async_override()
    def disks(self) -> Any:
        return self._shown("Disks")

    @dbus_property_async_override()
    def wanted(self) -> Any:
        return self._shown("Wanted")

    @dbus_property_async_override()
    def last_scan(self) -> Any:
        return self._shown("LastScan")

    @dbus_property_async_override()
    def brake(self) -> Any:
        return self._shown("Brake")

    @dbus_property_async_override()
    def unread(self) -> Any:
        return self._shown("Unread")

    @dbus_property_async_override()
    def unconfirmed(self) -> Any:
        return self._shown("Unconfirmed")

    @dbus_property_async_override()
    def failed_scan(self) -> Any:
        return self._shown("FailedScan")

    @dbus_property_async_override()
    def advice(self) -> Any:
        return self._shown("Advice")

    @dbus_method_async_override()
    async def back_up(self, disk: str, options: dict[str, Variant]) -> int:
        try:
            wish = wish_from(options)
        except ValueError as error:
            raise DbusInvalidArgsError(str(error)) from error
        user = await self._permitted()
        log.info("user %d asks for a backup to %s", user, printable(disk))
        return self._desk.ask_backup(disk, wish)

    @dbus_method_async_override()
    async def eject(self, disk: str) -> int:
        user = await self._permitted()
        log.info("user %d asks to eject %s", user, printable(disk))
        return self._desk.ask_eject(disk)

    @dbus_method_async_override()
    async def scan(self) -> int:
        user = await self._permitted()
        log.info("user %d asks for a scan", user)
        return self._desk.ask_scan()

    @dbus_method_async_override()
    async def cancel(self, job: int) -> bool:
        user = await self._permitted()
        log.info("user %d cancels %s", user, f"job {job}" if job else "the work in hand")
        return self._desk.cancel(job)

    @dbus_method_async_override()
    async def pause(self) -> None:
        await self._permitted()
        self._desk.pause()

    @dbus_method_async_override()
    async def resume(self) -> None:
        await self._permitted()
        self._desk.resume()

    @dbus_method_async_override()
    async def events(self, since: int) -> list[WireNews]:
        is_root = await self._authority.user(_sender()) == 0
        return [news_of(told) for told in self._desk.told_since(since) if is_root or not isinstance(told.event, FileSkipped)]

    def _shown(self, name: str) -> Any:
        return self.shown()[name][1]

    async def _permitted(self) -> int:
        """The caller's user number, if it may change things. Raises DbusAccessDeniedError."""
        return await self._authority.demand(_sender())


def _sender() -> str:
    return get_current_message().sender or ""
