"""What ties the agent together: news come from the daemon, notices go to the screen, clicks go back.

At login the daemon is asked for the events that it still keeps. All of them are heard, so that a running session's story
is known; shown is what came after the last one that was shown, the newest of each key. Somebody who was never told
anything is shown only what asks for something: what was done before is history.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from enum import Enum
from typing import Protocol

from distbackupd.agent.desktop import Screen
from distbackupd.agent.memory import Memory
from distbackupd.agent.notices import (
    Action,
    Narrator,
    News,
    Notice,
    Telling,
    Withdrawn,
    dated,
    not_ejected,
    still_matters,
    unanswered,
)
from distbackupd.model.standing import Standing

PROGRESS_EVERY = 5.0
PROGRESS_FOR = 60.0
"""Seconds for which progress is shown anew once it was asked for. Not longer: GNOME shows its banner again each time."""

RETURN_WITHIN = 10.0
"""Seconds in which a daemon that was restarted is back; a session that ran when it went is told of only after that."""

OLD = 600
"""Seconds after which what happened is told with its time."""


class Daemon(Protocol):
    """What the agent wants of the daemon. Every call but :meth:`presence` and :meth:`news` may raise DaemonSilent."""

    def presence(self) -> AsyncIterator[bool]:
        """Whether it runs: at once, and whenever that changes. Never starts it."""

    def news(self) -> AsyncIterator[News]:
        """Events as they are told, from whichever daemon serves."""

    async def news_since(self, number: int) -> Sequence[News]:
        """Kept events with a higher number, oldest first."""

    async def standing(self) -> Standing:
        """What it is doing."""

    async def eject(self, disk: str) -> str:
        """Unmount, lock and power off; the sentence why not, empty if it was done. May ask the person for a password."""


class DaemonSilent(Exception):
    """The daemon has gone or does not answer; ``str()`` is the sentence."""


class _Change(Enum):
    CAME = "came"
    LOST = "went, and did not come back"


class Teller:
    """Tells the person at the desk. One for a session."""

    def __init__(self, daemon: Daemon, memory: Memory, clock: Callable[[], float] = time.time) -> None:
        self._daemon = daemon
        self._memory = memory
        self._clock = clock
        self._narrator = Narrator()
        self._heard = memory.last
        self._queue: asyncio.Queue[News | _Change] = asyncio.Queue()
        self._answers: dict[str, asyncio.Task[None]] = {}
        self._screen: Screen

    async def run(self, screen: Screen) -> None:
        """Work, until cancelled. ``screen`` must be told of :meth:`clicked` and :meth:`settled`."""
        self._screen = screen
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(screen.run())
            tasks.create_task(self._hear_news())
            tasks.create_task(self._hear_presence())
            tasks.create_task(self._work())

    def settled(self) -> None:
        """All that was heard is on the screen, or needs not be."""
        if self._heard is not None and self._queue.empty():
            self._memory.keep(self._heard)

    def clicked(self, notice: Notice, action: Action) -> None:
        """Answer a click, beside everything else. A second click while the first is answered changes nothing."""
        name = f"{action.name} {notice.disk}"
        if name not in self._answers:
            self._answers[name] = asyncio.create_task(self._answer(notice.disk, action))
            self._answers[name].add_done_callback(lambda _: self._answers.pop(name))

    async def _answer(self, disk: str, action: Action) -> None:
        try:
            match action:
                case Action.PROGRESS:
                    await self._show_progress(disk)
                case Action.DETAILS:
                    await self._show_details(disk)
                case Action.EJECT:
                    await self._eject(disk)
        except DaemonSilent as silence:
            self._screen.show(unanswered(disk, str(silence)))

    async def _hear_news(self) -> None:
        async for news in self._daemon.news():
            self._queue.put_nowait(news)

    async def _hear_presence(self) -> None:
        loop = asyncio.get_running_loop()
        alarm: asyncio.TimerHandle | None = None
        async for there in self._daemon.presence():
            if alarm:
                alarm.cancel()
            if there:
                self._queue.put_nowait(_Change.CAME)
            else:
                alarm = loop.call_later(RETURN_WITHIN, self._queue.put_nowait, _Change.LOST)

    async def _work(self) -> None:
        while True:
            match await self._queue.get():
                case _Change.CAME:
                    await self._catch_up()
                case _Change.LOST:
                    self._show(self._narrator.orphaned())
                case News() as news if self._heard is None or news.number > self._heard:
                    self._heard = news.number
                    self._show(self._narrator.hear(news))
            self._screen.settle()

    async def _catch_up(self) -> None:
        try:
            kept = await self._daemon.news_since(0)
            standing = await self._daemon.standing()
        except DaemonSilent:
            return  # It went again, or is told of when it comes back.
        newest = max((news.number for news in kept), default=0)
        first = self._heard is None
        # Another catalogue counts from the beginning.
        last = self._heard if self._heard is not None and self._heard <= newest else 0
        self._narrator = Narrator()
        telling: Telling = []
        for news in kept:
            told = self._narrator.hear(news)
            if news.number > last:
                telling += [self._with_time(one, news) if isinstance(one, Notice) else one for one in told]
        at_work = [standing.disk] if standing.disk else []
        self._show(still_matters(telling, at_work, first))
        self._heard = newest

    def _with_time(self, notice: Notice, news: News) -> Notice:
        if self._clock() - news.time < OLD:
            return notice
        return dated(notice, time.strftime("%A, %d %B, %H:%M", time.localtime(news.time)))

    def _show(self, telling: Sequence[Notice | Withdrawn]) -> None:
        for told in telling:
            if isinstance(told, Notice):
                self._screen.show(told)
            else:
                self._screen.withdraw(told.key)

    async def _show_progress(self, disk: str) -> None:
        deadline = time.monotonic() + PROGRESS_FOR
        while disk in self._narrator.running:
            standing = await self._daemon.standing()
            if disk not in self._narrator.running:
                return
            notice = self._narrator.progress(disk, standing.sentence, _percent(standing))
            if time.monotonic() >= deadline:
                self._screen.show(dated(notice, time.strftime("as of %H:%M", time.localtime(self._clock()))))
                return
            self._screen.show(notice)
            await asyncio.sleep(PROGRESS_EVERY)
            if not self._screen.is_shown(notice.key):
                return

    async def _show_details(self, disk: str) -> None:
        standing = await self._daemon.standing()
        self._screen.show(self._narrator.details(disk, standing.sentence))

    async def _eject(self, disk: str) -> None:
        sentence = await self._daemon.eject(disk)
        if sentence:
            self._screen.show(not_ejected(disk, sentence))
        else:
            self._screen.withdraw(f"eject:{disk}")


def _percent(standing: Standing) -> int | None:
    return min(100, standing.done_bytes * 100 // standing.total_bytes) if standing.total_bytes else None
