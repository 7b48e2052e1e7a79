"""The daemon's side: the desk as the object ``/org/distbackupd`` of ``org.distbackupd`` on the system bus."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from sdbus import (
    DbusAccessDeniedError,
    DbusInvalidArgsError,
    DbusLimitsExceededError,
    SdBus,
    SdBusLibraryError,
    dbus_method_async_override,
    dbus_property_async_override,
    get_current_message,
)
from sdbus.sd_bus_internals import NameQueueFlag, SdBusRequestNameInQueueError

from distbackupd import __version__
from distbackupd.control.authority import Action, Authority
from distbackupd.control.connection import BusThread
from distbackupd.control.desk import Desk
from distbackupd.control.interface import BUS_NAME, INTERFACE, OBJECT_PATH, Manager1, Variant, WireNews, WireOutcome
from distbackupd.control.limits import Pace
from distbackupd.control.wire import (
    LONGEST_PATH,
    answer_of,
    details_of,
    disk_named,
    news_of,
    outcome_of,
    protection_properties,
    standing_properties,
    wish_from,
)
from distbackupd.model.errors import TooMuchAsked
from distbackupd.model.standing import Answer, Protection, Standing, Told
from distbackupd.model.text import printable

log = logging.getLogger(__name__)

SHORTEST_PAUSE = 0.5
"""Seconds between two ``PropertiesChanged``."""

_LISTS_AT_ONCE, _LISTS_A_SECOND = 30, 3.0
"""So many lists of events a user may ask for; each is some hundred sentences."""


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
        news = news_of(told)
        if news is not None:
            self._post(self._emit_told, news)

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

    def _emit_told(self, news: WireNews) -> None:
        with suppress(SdBusLibraryError):
            self._manager.told.emit(news)

    def _emit_answered(self, answer: Answer) -> None:
        with suppress(SdBusLibraryError):
            self._manager.answered.emit(answer_of(answer))


class _Manager(Manager1):
    """The object on the bus.

    Properties and signals are for everybody. Each method says by its first line whom it is for.
    """

    def __init__(self, desk: Desk, authority: Authority) -> None:
        super().__init__()
        self._desk = desk
        self._authority = authority
        self._lists = Pace(_LISTS_AT_ONCE, _LISTS_A_SECOND)
        self._made: tuple[Standing, Protection, dict[str, Variant]] | None = None

    def shown(self) -> dict[str, Variant]:
        """All properties that change, by their names."""
        standing, protection = self._desk.standing(), self._desk.protection()
        # Whoever reads them all, again and again, costs next to nothing.
        if self._made is None or self._made[0] is not standing or self._made[1] is not protection:
            self._made = (standing, protection, standing_properties(standing) | protection_properties(protection))
        return self._made[2]

    @dbus_property_async_override()
    def version(self) -> str:
        return __version__

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
        with _in_words():
            name, wish = disk_named(disk), wish_from(options)
        user = await self._permitted(Action.MANAGE)
        with _in_words():
            job = self._desk.ask_backup(user, name, wish)
        log.info("user %d asks for a backup to %s", user, printable(name))
        return job

    @dbus_method_async_override()
    async def eject(self, disk: str) -> int:
        with _in_words():
            name = disk_named(disk)
        user = await self._permitted(Action.MANAGE)
        with _in_words():
            job = self._desk.ask_eject(user, name)
        log.info("user %d asks to eject %s", user, printable(name))
        return job

    @dbus_method_async_override()
    async def scan(self) -> int:
        user = await self._permitted(Action.MANAGE)
        with _in_words():
            job = self._desk.ask_scan(user)
        log.info("user %d asks for a scan", user)
        return job

    @dbus_method_async_override()
    async def cancel(self, job: int) -> bool:
        user = await self._permitted(Action.MANAGE)
        log.info("user %d cancels %s", user, f"job {job}" if job else "the work in hand")
        return self._desk.cancel(job)

    @dbus_method_async_override()
    async def pause(self) -> None:
        await self._permitted(Action.MANAGE)
        self._desk.pause()

    @dbus_method_async_override()
    async def resume(self) -> None:
        await self._permitted(Action.MANAGE)
        self._desk.resume()

    @dbus_method_async_override()
    async def events(self, since: int) -> list[WireNews]:
        user = await self._authority.user(_sender())
        if user:
            self._lists.spend(user)
        return [news for told in self._desk.told_since(since) if (news := news_of(told)) is not None]

    @dbus_method_async_override()
    async def details(self, since: int) -> list[WireNews]:
        user = await self._permitted(Action.READ_DETAILS)
        if user:
            self._lists.spend(user)
        return [details_of(told) for told in self._desk.told_since(since)]

    @dbus_method_async_override()
    async def outcome(self, job: int) -> WireOutcome:
        answer = self._desk.outcome(await self._authority.user(_sender()), job)
        if answer is None:
            raise DbusAccessDeniedError("this job has not ended, or it is none of yours; nothing was told")
        return outcome_of(answer)

    @dbus_method_async_override()
    async def serves(self, folder: str) -> bool:
        # Everybody may ask: whether a guess is right tells nothing about what lies there.
        return len(folder) <= LONGEST_PATH and folder == printable(str(self._desk.folder))

    def _shown(self, name: str) -> Any:
        return self.shown()[name][1]

    async def _permitted(self, action: Action) -> int:
        """The caller's user number, if it may do this. Raises DbusAccessDeniedError, DbusLimitsExceededError."""
        return await self._authority.demand(_sender(), action)


@contextmanager
def _in_words() -> Iterator[None]:
    """What cannot be meant, and what is too much, become errors of D-Bus."""
    try:
        yield
    except ValueError as error:
        raise DbusInvalidArgsError(str(error)) from error
    except TooMuchAsked as error:
        raise DbusLimitsExceededError(str(error)) from error


def _sender() -> str:
    return get_current_message().sender or ""
