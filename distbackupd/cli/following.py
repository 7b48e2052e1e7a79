"""What a person sees of the daemon's work: the same words, bars and lines as if ``dsb`` did it itself."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from distbackupd.cli.output import lines_can_change
from distbackupd.cli.progress import PlainReporter
from distbackupd.control.client import News
from distbackupd.model.standing import Standing

if TYPE_CHECKING:
    from rich.live import Live

_PLAIN_PAUSE = 10.0
"""Seconds between two lines in a pipe that differ in figures only."""


class JobView:
    """Shows a job that the daemon does: its events and its progress. ``told`` are the events so far."""

    def __init__(self, reporter: PlainReporter) -> None:
        self._reporter = reporter
        self._shown = Standing()
        self.told: list[News] = []

    def tell(self, news: News) -> None:
        """An event was told."""
        self.told.append(news)
        self._reporter.show(news.kind, news.severity, news.sentence)

    def stand(self, standing: Standing) -> None:
        """It is further, or does something else."""
        before, self._shown = self._shown, standing
        if not _is_further(before, standing):
            self._reporter.end()
            before = Standing()
            if standing.activity:
                self._reporter.begin(standing.activity, standing.total_items, standing.total_bytes)
        if standing.activity:
            self._reporter.advance(standing.items - before.items, standing.done_bytes - before.done_bytes)

    def end(self) -> None:
        """No bar stays."""
        self._reporter.end()


def _is_further(before: Standing, now: Standing) -> bool:
    """Whether it is the same activity as before."""
    return (
        (now.activity, now.total_items, now.total_bytes) == (before.activity, before.total_items, before.total_bytes)
        and now.items >= before.items
        and now.done_bytes >= before.done_bytes
    )


class PlainWatch:
    """A line for each event and each change of what the daemon does."""

    def __init__(self) -> None:
        self._shown = Standing()
        self._shown_at = float("-inf")

    def tell(self, news: News) -> None:
        """An event was told."""
        self.say(news.sentence)

    def stand(self, standing: Standing) -> None:
        """It is further, or does something else."""
        if standing.sentence == self._shown.sentence:
            return
        is_other = (standing.state, standing.disk, standing.activity) != (
            self._shown.state,
            self._shown.disk,
            self._shown.activity,
        )
        if is_other or time.monotonic() - self._shown_at >= _PLAIN_PAUSE:
            self._shown, self._shown_at = standing, time.monotonic()
            self.say(standing.sentence)

    def say(self, sentence: str) -> None:
        """One line."""
        sys.stdout.write(sentence + "\n")
        sys.stdout.flush()

    def end(self) -> None:
        """Nothing stays."""


class LiveWatch(PlainWatch):
    """One line on a terminal that changes in place, with the events above it."""

    def __init__(self) -> None:
        super().__init__()
        from rich.live import Live  # noqa: PLC0415 - rich takes a tenth of a second to import

        self._live: Live = Live(auto_refresh=False, transient=True)
        self._live.start()

    def stand(self, standing: Standing) -> None:
        """It is further, or does something else."""
        from rich.text import Text  # noqa: PLC0415 - as above

        self._live.update(Text(standing.sentence, no_wrap=True, overflow="ellipsis"), refresh=True)

    def say(self, sentence: str) -> None:
        """Above the line."""
        self._live.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """The line goes."""
        self._live.stop()


def make_watch() -> PlainWatch:
    """The one that fits where standard output goes."""
    return LiveWatch() if lines_can_change() else PlainWatch()
