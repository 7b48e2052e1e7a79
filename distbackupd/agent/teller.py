"""What ties the agent together: news come from the daemon, notices go to the screen, clicks go back.

When the daemon is there it is asked for the events that it still keeps. All of them are heard, so that a running session's
story is known; shown is what came after the last one that was shown, the newest of each key. Somebody who was never told
anything is shown only what asks for something: what was done before is history.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

from distbackupd.agent.memory import Memory
from distbackupd.agent.notices import (
    Action,
    Narrator,
    Notice,
    Telling,
    Withdrawn,
    dated,
    not_ejected,
    still_matters,
)
from distbackupd.control.client import Change, DaemonAbsent, Presence
from distbackupd.control.wire import News
from distbackupd.model.errors import DistbackupError
from distbackupd.model.standing import Answer, Standing

PROGRESS_EVERY = 5.0
PROGRESS_FOR = 60.0
"""Seconds for which progress is shown anew once it was asked for. Not longer: GNOME shows its banner again each time."""

RETURN_WITHIN = 10.0
"""Seconds in which a daemon that was restarted is back; that it left a session behind is told only after that."""

OLD = 600
"""Seconds after which what happened is told with its time."""


class Daemon(Protocol):
    """What the agent wants of :class:`distbackupd.control.client.DaemonClient`, which tells what these mean."""

    async def subscribe(self) -> AsyncIterator[Change]: ...  # noqa: D102

    async def events(self, since: int = 0) -> list[News]: ...  # noqa: D102

    async def eject(self, disk: str) -> int: ...  # noqa: D102


class Screen(Protocol):
    """What the agent wants of :class:`distbackupd.agent.desktop.Screen`, which tells what these mean."""

    clicked: Callable[[Notice, Action], None]
    settled: Callable[[], None]

    def show(self, notice: Notice) -> None: ...  # noqa: D102

    def withdraw(self, key: str) -> None: ...  # noqa: D102

    def is_shown(self, key: str) -> bool: ...  # noqa: D102

    def settle(self) -> None: ...  # noqa: D102


class Teller:
    """Tells the person at the desk. One for a session."""

    def __init__(self, screen: Screen, memory: Memory, clock: Callable[[], float] = time.time) -> None:
        self._screen = screen
        self._memory = memory
        self._clock = clock
        self._narrator = Narrator()
        self._standing = Standing()
        self._newest = 0
        self._shown = memory.last
        self._jobs: dict[int, asyncio.Future[Answer]] = {}
        self._answering: dict[str, asyncio.Task[None]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        screen.clicked = self._clicked
        screen.settled = self._settled

    async def listen(self, daemon: Daemon) -> None:
        """Tell what this daemon says. Raises NoBus when the bus has ended; to be called again with a new connection."""
        self._daemon = daemon
        behind = True
        try:
            async for change in await daemon.subscribe():
                match change:
                    case Presence(running):
                        behind = running
                        self._is_gone(not running)
                    case Standing():
                        self._standing = change
                        if behind:
                            behind = not await self._catch_up()
                    case News() if change.number > self._newest:
                        self._newest = self._shown = change.number
                        self._tell(self._narrator.hear(change))
                        self._screen.settle()
                    case Answer(job) if job in self._jobs:
                        self._jobs.pop(job).set_result(change)
        finally:
            self._is_gone(True)

    async def _catch_up(self) -> bool:
        try:
            kept = await self._daemon.events(0)
        except DaemonAbsent:
            return False
        self._is_gone(False)
        self._newest = max((news.number for news in kept), default=0)
        # The numbers are times: where the clock was set back since, nothing that is kept was shown.
        last = self._shown if self._shown is not None and self._shown <= self._newest else 0
        self._narrator = Narrator()
        telling: Telling = []
        for news in kept:
            told = self._narrator.hear(news)
            if news.number > last:
                telling += [self._with_time(one, news.time) for one in told]
        at_work = [self._standing.disk] if self._standing.disk else []
        self._tell(still_matters(telling, at_work, first=self._shown is None))
        if kept or self._shown is None:
            self._shown = self._newest
        self._screen.settle()
        return True

    def _with_time(self, told: Notice | Withdrawn, then: int) -> Notice | Withdrawn:
        if isinstance(told, Withdrawn) or self._clock() - then < OLD:
            return told
        return dated(told, time.strftime("%A, %d %B, %H:%M", time.localtime(then)))

    def _tell(self, telling: Iterable[Notice | Withdrawn]) -> None:
        for told in telling:
            if isinstance(told, Notice):
                self._screen.show(told)
            else:
                self._screen.withdraw(told.key)

    def _settled(self) -> None:
        if self._shown is not None:
            self._memory.keep(self._shown)

    def _is_gone(self, gone: bool) -> None:
        if self._alarm:
            self._alarm.cancel()
            self._alarm = None
        if gone:
            for job in self._jobs.values():
                job.set_exception(DaemonAbsent("distbackupd ended meanwhile; 'systemctl status distbackupd' tells more"))
            self._jobs.clear()
            self._alarm = asyncio.get_running_loop().call_later(RETURN_WITHIN, self._tell_of_orphans)

    def _tell_of_orphans(self) -> None:
        self._tell(self._narrator.orphaned())

    # --- clicks ---

    def _clicked(self, notice: Notice, action: Action) -> None:
        """Beside everything else; a second click while the first is being answered changes nothing."""
        name = f"{action.name} {notice.disk}"
        if name not in self._answering:
            self._answering[name] = asyncio.create_task(self._answer(notice.disk, action))
            self._answering[name].add_done_callback(lambda _: self._answering.pop(name))

    async def _answer(self, disk: str, action: Action) -> None:
        match action:
            case Action.PROGRESS:
                await self._show_progress(disk)
            case Action.DETAILS:
                self._screen.show(self._narrator.details(disk, self._standing.sentence))
            case Action.EJECT:
                await self._eject(disk)

    async def _show_progress(self, disk: str) -> None:
        deadline = time.monotonic() + PROGRESS_FOR
        while disk in self._narrator.running:
            notice = self._narrator.progress(disk, self._standing.sentence, _percent(self._standing))
            if time.monotonic() >= deadline:
                self._screen.show(dated(notice, time.strftime("as of %H:%M", time.localtime(self._clock()))))
                return
            self._screen.show(notice)
            await asyncio.sleep(PROGRESS_EVERY)
            if not self._screen.is_shown(notice.key):
                return

    async def _eject(self, disk: str) -> None:
        try:
            job = await self._daemon.eject(disk)
            self._jobs[job] = asyncio.get_running_loop().create_future()
            answer = await self._jobs[job]
        except DistbackupError as error:
            self._screen.show(not_ejected(disk, str(error)))
        else:
            self._tell([not_ejected(disk, answer.sentence) if answer.exit_code else Withdrawn(f"eject:{disk}")])


def _percent(standing: Standing) -> int | None:
    return min(100, standing.done_bytes * 100 // standing.total_bytes) if standing.total_bytes else None
