"""What a person sees while a command works: bars on a terminal, plain lines in a pipe, nothing with ``--json``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from distbackupd.cli.output import lines_can_change
from distbackupd.model.events import Event
from distbackupd.notify.progress import Progress, status_line

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_PLAIN_PAUSE = 10.0
"""Seconds between two lines of progress in a pipe."""
_QUIET_ON_TERMINALS = {"ScanStarted"}


class PlainReporter:
    """One line an event, and one line of progress every ten seconds of long work."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._progress: Progress | None = None
        self._began = self._shown = 0.0

    def tell(self, event: Event) -> None:
        """See :class:`distbackupd.engine.ports.Reporter`."""
        self.show(type(event).__name__, event.severity, event.sentence)

    def show(self, kind: str, severity: int, sentence: str) -> None:  # noqa: ARG002 - a pipe gets every kind
        """Warnings and errors go to standard error, the rest to standard output. ``kind``: the event's class."""
        stream = sys.stderr if severity <= 4 or self._quiet else sys.stdout
        if not self._quiet or severity <= 4:
            stream.write(sentence + "\n")
            stream.flush()

    def begin(self, activity: str, items: int = 0, total_bytes: int = 0) -> None:
        """See :class:`distbackupd.engine.ports.Reporter`."""
        self._progress = Progress(activity, items, total_bytes)
        self._began = self._shown = time.monotonic()

    def advance(self, items: int, done_bytes: int, current: bytes = b"") -> None:  # noqa: ARG002 - no line a file
        """See :class:`distbackupd.engine.ports.Reporter`."""
        if self._progress is None:
            return
        self._progress.items += items
        self._progress.done_bytes += done_bytes
        now = time.monotonic()
        if now - self._shown >= _PLAIN_PAUSE and not self._quiet:
            self._shown = now
            sys.stdout.write(status_line("", self._progress, now - self._began) + "\n")
            sys.stdout.flush()

    def end(self) -> None:
        """See :class:`distbackupd.engine.ports.Reporter`."""
        self._progress = None


class TerminalReporter(PlainReporter):
    """A bar with amount, speed and remaining time; events are printed above it."""

    def __init__(self) -> None:
        super().__init__()
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._by_bytes = False

    def show(self, kind: str, severity: int, sentence: str) -> None:
        """Above the bar, if there is one."""
        if kind in _QUIET_ON_TERMINALS:
            return
        if self._bars is None:
            super().show(kind, severity, sentence)
        else:
            style = "red" if severity <= 3 else "yellow" if severity == 4 else ""
            self._bars.console.print(sentence, style=style, markup=False, highlight=False, soft_wrap=True)

    def begin(self, activity: str, items: int = 0, total_bytes: int = 0) -> None:
        """See :class:`distbackupd.engine.ports.Reporter`."""
        # rich takes a tenth of a second to import: only where somebody looks at a bar.
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            ProgressColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bars  # noqa: PLC0415

        self._by_bytes = total_bytes > 0
        columns: tuple[ProgressColumn, ...]
        if self._by_bytes:
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        elif items:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        else:
            columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f}"), TimeElapsedColumn())
        self._bars = Bars(TextColumn("{task.description:>10}"), *columns, transient=True)
        self._task = self._bars.add_task(activity, total=total_bytes or items or None)
        self._bars.start()

    def advance(self, items: int, done_bytes: int, current: bytes = b"") -> None:  # noqa: ARG002 - no line a file
        """See :class:`distbackupd.engine.ports.Reporter`."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, done_bytes if self._by_bytes else items)

    def end(self) -> None:
        """See :class:`distbackupd.engine.ports.Reporter`."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def make_reporter(as_json: bool) -> PlainReporter:
    """The reporter that fits where standard output goes."""
    if not as_json and lines_can_change():
        return TerminalReporter()
    return PlainReporter(quiet=as_json)
