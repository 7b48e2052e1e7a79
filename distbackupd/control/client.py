"""The daemon as its clients see it: ``dsb``, the agent. Nothing here starts the daemon: what root stopped stays stopped.

    async with DaemonClient() as daemon:
        if await daemon.is_running():
            changes = await daemon.subscribe()
            missed = await daemon.events(since=number)     # nothing falls between the two; News may come twice
            async for change in changes:
                match change:
                    case News(): ...                       # an event, with its sentence
                    case Standing(): ...                   # what it does now, at the most twice a second
                    case Protection(): ...                 # what is protected how well now
                    case Answer(job=asked): ...            # a job that somebody asked for has ended
                    case Presence(running): ...            # the daemon came or went

Every call raises one of four errors, each a sentence for people: :class:`NoBus`, :class:`DaemonAbsent`,
:class:`DaemonRefuses` and, for what cannot be meant, UsageError.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from sdbus import (
    DbusAccessDeniedError,
    DbusInvalidArgsError,
    DbusLimitsExceededError,
    DbusNameHasNoOwnerError,
    DbusNoReplyError,
    DbusServiceUnknownError,
    SdBus,
    SdBusBaseError,
    sd_bus_open_system,
)

from distbackupd.control.connection import call_bus, ping
from distbackupd.control.interface import BUS_NAME, INTERFACE, OBJECT_PATH, Manager1, Variant
from distbackupd.control.trouble import why
from distbackupd.control.wire import News, protection_from, standing_from, wish_options
from distbackupd.model.errors import DistbackupError, UsageError
from distbackupd.model.plans import BackupWish
from distbackupd.model.standing import Answer, Protection, Standing

__all__ = [
    "Change",
    "DaemonAbsent",
    "DaemonClient",
    "DaemonRefuses",
    "DaemonView",
    "News",
    "NoBus",
    "Presence",
]

T = TypeVar("T")

_PASSWORD_SECONDS = 330.0
"""A change may have to wait until somebody has typed a password; the daemon itself gives up a little earlier."""
_ANSWER_SECONDS = 10.0
_SILENCE = 2.0
"""Seconds without a signal after which the bus is asked whether it is still there."""


class NoBus(DistbackupError):
    """There is no system bus, or it does not answer."""

    exit_code = 2


class DaemonAbsent(DistbackupError):
    """The daemon does not run, or ended while it was asked."""

    exit_code = 2


class DaemonRefuses(DistbackupError):
    """The daemon does not let this user do that, or not so often."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Presence:
    """The daemon came to the bus, or left it."""

    running: bool


@dataclass(frozen=True, slots=True)
class DaemonView:
    """All that the daemon shows to everybody at a moment."""

    version: str
    standing: Standing
    protection: Protection


Change = News | Standing | Protection | Answer | Presence


class DaemonClient:
    """A connection to the system bus for one asyncio loop; a context manager. Raises NoBus when it is entered.

    ``whole``: hear the events in whole, with the paths that they name, and also those that are not for everybody. Root may;
    others would be asked for a password.
    """

    def __init__(self, whole: bool | None = None) -> None:
        self._bus: SdBus | None = None
        self._whole = os.geteuid() == 0 if whole is None else whole
        self._last = 0
        self._asked: set[int] = set()

    async def __aenter__(self) -> DaemonClient:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def connect(self) -> None:
        """What entering the context does."""
        with _in_words():
            self._bus = sd_bus_open_system()
            self._bus.method_call_timeout_usec = round(_PASSWORD_SECONDS * 1_000_000)
            await ping(self._bus)
        self._manager = Manager1.new_proxy(BUS_NAME, OBJECT_PATH, self._bus)

    def close(self) -> None:
        """What leaving the context does. Twice is no error."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    async def is_running(self) -> bool:
        """Whether the daemon runs and can be asked."""
        with _in_words():
            return bool(await call_bus(self._connected, "NameHasOwner", "s", BUS_NAME))

    async def serves(self, folder: str) -> bool:
        """Whether its catalogue lies in this folder, as :func:`printable` shows it."""
        return await self._ask(self._manager.serves(folder))

    async def view(self) -> DaemonView:
        """All that it shows now."""
        return _view(await self._properties())

    async def events(self, since: int = 0) -> list[News]:
        """Events with a higher number, oldest first, as far back as the daemon keeps them (some hundreds)."""
        told = self._manager.details(since) if self._whole else self._manager.events(since)
        return [News(*wire) for wire in await self._ask(told)]

    async def subscribe(self) -> AsyncIterator[Change]:
        """What happens from now on, in the order in which it happens; never ends.

        Begins with the present :class:`Standing` and :class:`Protection` if the daemon runs, and tells both again when it
        has come back. The iterator raises NoBus when the bus has ended.
        """
        heard: asyncio.Queue[Any] = asyncio.Queue()
        kept: list[object] = []
        if self._whole and await self.is_running():
            # From here on events are asked for when a signal says that there are some.
            self._last = max((news.number for news in await self.events()), default=0)
        with _in_words():
            for sender, path, interface, member in (
                (BUS_NAME, OBJECT_PATH, INTERFACE, "Told"),
                (BUS_NAME, OBJECT_PATH, INTERFACE, "Answered"),
                (BUS_NAME, OBJECT_PATH, "org.freedesktop.DBus.Properties", "PropertiesChanged"),
                ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged"),
            ):
                slot = self._connected.match_signal_async(sender, path, interface, member, heard.put_nowait)
                kept.append(await asyncio.wait_for(slot, _ANSWER_SECONDS))
        shown = await self._properties() if await self.is_running() else None
        return self._changes(heard, shown, kept)

    async def back_up(self, disk: str, wish: BackupWish | None = None) -> int:
        """Ask for a session with this disk (name or UUID); the job's number, its :class:`Answer` comes later."""
        return await self._job(self._manager.back_up(disk, wish_options(wish or BackupWish())))

    async def eject(self, disk: str) -> int:
        """Ask for this disk to be unmounted and switched off; the job's number."""
        return await self._job(self._manager.eject(disk))

    async def scan(self) -> int:
        """Ask for a scan of all sources; the job's number."""
        return await self._job(self._manager.scan())

    async def cancel(self, job: int = 0) -> bool:
        """Stop this job, or whatever is at work; False: there was nothing to stop."""
        return await self._ask(self._manager.cancel(job))

    async def pause(self) -> None:
        """Let it rest."""
        await self._ask(self._manager.pause())

    async def resume(self) -> None:
        """Let it go on."""
        await self._ask(self._manager.resume())

    @property
    def _connected(self) -> SdBus:
        assert self._bus is not None, "a DaemonClient is used within its context"
        return self._bus

    async def _job(self, answer: Awaitable[int]) -> int:
        job = await self._ask(answer)
        self._asked.add(job)
        return job

    async def _news(self, told: News) -> list[News]:
        """What a signal tells: that event, or all that happened since the last one, in whole."""
        if not self._whole:
            return [told]
        return [] if told.number <= self._last else await self._missed()

    async def _missed(self) -> list[News]:
        if not self._whole:
            return []
        try:
            missed = await self.events(self._last)
        except DaemonAbsent:
            return []
        self._last = max((news.number for news in missed), default=self._last)
        return missed

    async def _in_whole(self, answer: Answer) -> Answer:
        """An answer as whoever asked may know it."""
        if not self._whole and answer.job not in self._asked:
            return answer
        self._asked.discard(answer.job)
        try:
            return Answer(answer.job, *await self._ask(self._manager.outcome(answer.job)))
        except (DaemonAbsent, DaemonRefuses):
            return answer

    async def _ask(self, answer: Awaitable[T]) -> T:
        with _in_words():
            return await answer

    async def _properties(self) -> dict[str, Variant]:
        with _in_words():
            return await self._manager._properties_get_all(INTERFACE)

    async def _changes(
        self, heard: asyncio.Queue[Any], shown: dict[str, Variant] | None, kept: list[object]
    ) -> AsyncIterator[Change]:
        try:
            if shown is not None:
                yield standing_from(shown)
                yield protection_from(shown)
            while True:
                message = await self._next(heard)
                content = message.get_contents()
                match message.member:
                    case "Told":
                        for news in await self._news(News(*content)):
                            yield news
                    case "Answered":
                        for news in await self._missed():
                            yield news
                        yield await self._in_whole(Answer(*content))
                    case "PropertiesChanged" if shown is not None and content[0] == INTERFACE:
                        before, shown = shown, shown | content[1]
                        if standing_from(shown) != standing_from(before):
                            yield standing_from(shown)
                        if protection_from(shown) != protection_from(before):
                            yield protection_from(shown)
                    case "NameOwnerChanged" if content[0] == BUS_NAME:
                        shown = None
                        if not content[2]:
                            yield Presence(False)
                            continue
                        try:
                            shown = await self._properties()
                        except DaemonAbsent:
                            continue  # gone again; the next message tells so
                        yield Presence(True)
                        yield standing_from(shown)
                        yield protection_from(shown)
        finally:
            kept.clear()

    async def _next(self, heard: asyncio.Queue[Any]) -> Any:
        """The next signal. sd-bus tells nobody that the bus has ended, so it is asked in every silence."""
        while True:
            try:
                return await asyncio.wait_for(heard.get(), _SILENCE)
            except TimeoutError:
                with _in_words():
                    await ping(self._connected)


def _view(properties: dict[str, Variant]) -> DaemonView:
    return DaemonView(properties["Version"][1], standing_from(properties), protection_from(properties))


@contextmanager
def _in_words() -> Iterator[None]:
    """Errors of the bus become sentences."""
    try:
        yield
    except (DbusAccessDeniedError, DbusLimitsExceededError) as error:
        raise DaemonRefuses(str(error)) from error
    except DbusInvalidArgsError as error:
        raise UsageError(str(error)) from error
    except (DbusServiceUnknownError, DbusNameHasNoOwnerError) as error:
        raise DaemonAbsent("distbackupd does not run: 'systemctl start distbackupd' starts it") from error
    except DbusNoReplyError as error:
        if str(error) == "Connection terminated":
            raise NoBus(f"distbackupd cannot be asked: {why(error)}") from error
        raise DaemonAbsent(
            "distbackupd ended, or did not answer in time; 'systemctl status distbackupd' tells more"
        ) from error
    except (SdBusBaseError, TimeoutError) as error:
        raise NoBus(f"distbackupd cannot be asked: {why(error)}") from error
