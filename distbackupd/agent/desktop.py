"""The desktop's notification server, ``org.freedesktop.Notifications`` on the session bus: one notification per key.

A server may be missing at login, end and come again, refuse what comes too often, and know more or less of the
specification: ``GetCapabilities`` says. It is asked for anew whenever another process has its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from sdbus import (
    DbusInterfaceCommonAsync,
    SdBus,
    SdBusBaseError,
    dbus_method_async,
    dbus_signal_async,
)
from sdbus.exceptions import DbusNameHasNoOwnerError, DbusServiceUnknownError
from sdbus_async.dbus_daemon import FreedesktopDbus

from distbackupd.agent.notices import Action, Notice

log = logging.getLogger(__name__)

SERVER = "org.freedesktop.Notifications"

PAUSE = 1.2
"""Seconds between two notifications of one key: KDE refuses the same text twice within one second, and floods end here."""

RETRY = 10.0
"""Seconds after which a server that refused is asked again."""

TRIES = 3

LOOK_AGAIN = 60.0
"""Seconds after which a server that is not there is looked for again, whatever the bus has told."""

_FOREVER = 0
_AS_THE_SERVER_LIKES = -1

Clicked = Callable[[Notice, Action], None]


class NotificationServer(DbusInterfaceCommonAsync, interface_name=SERVER):
    """What we use of the desktop notification specification."""

    @dbus_method_async(result_signature="as", method_name="GetCapabilities")
    async def capabilities(self) -> list[str]:
        """Which of the optional parts it has."""
        raise NotImplementedError

    @dbus_method_async("susssasa{sv}i", "u", method_name="Notify")
    async def notify(
        self,
        application: str,
        replaces: int,
        icon: str,
        title: str,
        body: str,
        actions: list[str],
        hints: dict[str, tuple[str, str | int | bool]],
        milliseconds: int,
    ) -> int:
        """Show a notification, in the place of ``replaces`` if that is not 0; its number."""
        raise NotImplementedError

    @dbus_method_async("u", method_name="CloseNotification")
    async def close_notification(self, number: int) -> None:
        """Take a notification off the screen."""
        raise NotImplementedError

    @dbus_signal_async("us")
    def action_invoked(self) -> tuple[int, str]:
        """A button was clicked."""
        raise NotImplementedError

    @dbus_signal_async("uu")
    def notification_closed(self) -> tuple[int, int]:
        """A notification has left the screen, for whatever reason."""
        raise NotImplementedError


@dataclass(slots=True)
class _Shown:
    """What is on the screen under a key. ``number``: 0 once it was closed."""

    notice: Notice
    number: int
    at: float


class Screen:
    """Shows notices. :meth:`show` and :meth:`withdraw` return at once; :meth:`run` does the work."""

    clicked: Clicked
    """Called when somebody chose an action."""
    settled: Callable[[], None]
    """Called when all that was asked for until now is on the screen."""

    def __init__(self, bus: SdBus) -> None:
        self._bus = FreedesktopDbus(bus)
        self._server = NotificationServer.new_proxy(SERVER, "/org/freedesktop/Notifications", bus)
        self._owner = ""
        self._capabilities: frozenset[str] = frozenset()
        self._pending: dict[str, Notice | None] = {}
        self._shown: dict[str, _Shown] = {}
        self._asked = asyncio.Event()
        self._trying = ""
        self._waited = False

    def show(self, notice: Notice) -> None:
        """Show it in the place of an older one with its key."""
        self._pending[notice.key] = notice
        self._asked.set()

    def withdraw(self, key: str) -> None:
        """Take what is shown under the key off the screen."""
        self._pending[key] = None
        self._asked.set()

    def is_shown(self, key: str) -> bool:
        """Whether something with this key is on the screen, or about to be."""
        return self._pending.get(key) is not None or (key in self._shown and self._shown[key].number != 0)

    def settle(self) -> None:
        """Have ``settled`` called when nothing is left to do, also if nothing was asked for."""
        self._asked.set()

    async def run(self) -> None:
        """Work, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear_clicks())
            tasks.create_task(self._hear_closings())
            tasks.create_task(self._work())

    async def _work(self) -> None:
        tries = 0
        while True:
            await self._asked.wait()
            self._asked.clear()
            later: float | None = RETRY
            try:
                later = await self._work_off()
                tries = 0
            except DbusServiceUnknownError:
                await self._wait_for_a_server()
                later = 0.0
            except SdBusBaseError as error:
                tries += 1
                if tries == TRIES:
                    log.warning(
                        "the notification server refused '%s' %d times, it is dropped: %s", self._trying, tries, error
                    )
                    self._pending.pop(self._trying, None)
                    tries = 0
            if later is None:
                self.settled()
            else:
                # A newer notice may come meanwhile; it is shown at once if it has a key of its own.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), later)
                self._asked.set()

    async def _work_off(self) -> float | None:
        """Show what may be shown now. After how many seconds there is more to do; None: all is done."""
        now = time.monotonic()
        waiting = []
        for key, notice in list(self._pending.items()):
            shown = self._shown.get(key)
            rest = shown.at + PAUSE - now if shown and notice else 0.0
            if rest > 0:
                waiting.append(rest)
                continue
            self._trying = key
            if notice is not None:
                await self._notify(notice)
            elif shown:
                await self._close(key)
            if self._pending.get(key) is notice:
                del self._pending[key]
        if waiting:
            return min(waiting)
        return 0.0 if self._pending else None

    async def _notify(self, notice: Notice) -> None:
        await self._ask_who_serves()
        shown = self._shown.get(notice.key)
        number = await self._server.notify(
            "distbackup",
            shown.number if shown else 0,
            notice.icon,
            notice.title,
            html.escape(notice.body, quote=False) if "body-markup" in self._capabilities else notice.body,
            [word for action in self._actions(notice) for word in (action.name.lower(), action.value)],
            hints(notice),
            _FOREVER if notice.stays else _AS_THE_SERVER_LIKES,
        )
        self._shown[notice.key] = _Shown(notice, number, time.monotonic())

    def _actions(self, notice: Notice) -> tuple[Action, ...]:
        return notice.actions if "actions" in self._capabilities else ()

    async def _close(self, key: str) -> None:
        shown = self._shown.pop(key)
        if shown.number:
            # It may have been closed by somebody else in this moment, which some servers call an error.
            with contextlib.suppress(SdBusBaseError):
                await self._server.close_notification(shown.number)

    async def _ask_who_serves(self) -> None:
        """Numbers belong to one process: in another's eyes they are somebody else's notifications."""
        try:
            owner = await self._bus.get_name_owner(SERVER)
        except DbusNameHasNoOwnerError:
            owner = ""
        if not owner or owner != self._owner:
            self._shown.clear()
            self._capabilities = frozenset(await self._server.capabilities())
            self._owner = await self._bus.get_name_owner(SERVER)

    async def _wait_for_a_server(self) -> None:
        """Until one has come, or may have: it can come while we begin to listen, or as something to be started on demand."""
        if not self._waited:
            log.warning("no notification server on this desktop; what is to be told waits for one")
            self._waited = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN):
                async for name, _, owner in self._bus.name_owner_changed:
                    if name == SERVER and owner:
                        return

    async def _hear_clicks(self) -> None:
        async for number, word in self._server.action_invoked:
            for shown in list(self._shown.values()):
                if shown.number == number and word.upper() in Action.__members__:
                    self.clicked(shown.notice, Action[word.upper()])

    async def _hear_closings(self) -> None:
        async for number, _ in self._server.notification_closed:
            for shown in self._shown.values():
                if shown.number == number:
                    shown.number = 0


def hints(notice: Notice) -> dict[str, tuple[str, str | int | bool]]:
    """What a server may make of a notice beyond its text."""
    result: dict[str, tuple[str, str | int | bool]] = {
        "urgency": ("y", notice.urgency.value),
        "desktop-entry": ("s", "distbackup-agent"),
    }
    if notice.actions:
        # Elsewhere it goes when its button is clicked, and the answer has no place.
        result["resident"] = ("b", True)
    if notice.percent is not None:
        result["value"] = ("i", notice.percent)
    return result
