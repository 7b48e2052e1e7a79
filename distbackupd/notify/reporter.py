"""What use cases report, as journal entries and as how things stand: the line that ``systemctl status`` shows."""

from __future__ import annotations

import time
from collections.abc import Callable

from distbackupd.model.events import (
    DiskRefused,
    Event,
    ScanStarted,
    SessionFailed,
    SessionFinished,
    SessionInterrupted,
    SessionStarted,
)
from distbackupd.model.standing import Standing
from distbackupd.notify import journal
from distbackupd.notify.progress import Progress, status_line

SHORTEST_PAUSE = 1.0
"""Seconds between two status lines."""


class JournalReporter:
    """Implements the engine's ``Reporter``: events become journal entries, progress becomes a standing once a second.

    ``show`` and ``beat`` are called in the engine's thread; ``beat`` at every call, as a sign of life. An activity may
    begin within another; the standing tells the innermost. ``moved`` is called whenever the work got further.
    """

    def __init__(
        self,
        show: Callable[[Standing], object],
        beat: Callable[[], None] = lambda: None,
        tell: Callable[[Event], None] = journal.tell,
        monotonic: Callable[[], float] = time.monotonic,
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self._moved = moved
        self._show_standing = show
        self._beat = beat
        self._tell = tell
        self._monotonic = monotonic
        self._subject = ""
        self._state = "idle"
        self._activities: list[tuple[Progress, float]] = []
        self._shown_at = float("-inf")
        self.trouble = ""
        """What went wrong with the last disk, in words for everybody, until a session begins; empty: nothing."""

    def tell(self, event: Event) -> None:
        """One journal entry; a session's events also name the disk in the standing."""
        self._beat()
        self._moved()
        if isinstance(event, SessionFailed | DiskRefused):
            self.trouble = event.public_sentence
        if isinstance(event, SessionStarted):
            self._subject, self._state = event.disk, "session"
            self.trouble = ""
            self._show_standing(Standing(self._state, event.public_sentence, event.disk))
        elif isinstance(event, ScanStarted) and not self._subject:
            self._state = "scanning"
        elif isinstance(event, SessionFinished | SessionFailed | SessionInterrupted):
            self._subject = ""
        self._tell(event)

    def begin(self, activity: str, items: int = 0, total_bytes: int = 0) -> None:
        """A new innermost activity; shown at once."""
        self._beat()
        self._moved()
        self._activities.append((Progress(activity, items, total_bytes), self._monotonic()))
        self._show()

    def advance(self, items: int, done_bytes: int, current: bytes = b"") -> None:  # noqa: ARG002 - no line a file
        """The innermost activity is so much further."""
        self._beat()
        if items or done_bytes:
            self._moved()
        if not self._activities:
            return
        progress, _ = self._activities[-1]
        progress.items += items
        progress.done_bytes += done_bytes
        if self._monotonic() - self._shown_at >= SHORTEST_PAUSE:
            self._show()

    def end(self) -> None:
        """The innermost activity is over; without one this is nothing."""
        self._beat()
        self._moved()
        if self._activities:
            self._activities.pop()
        if self._activities:
            self._show()

    def forget(self) -> None:
        """Whatever was going on is over: an error may have left activities open."""
        self._activities.clear()
        self._subject, self._state = "", "idle"

    def _show(self) -> None:
        now = self._monotonic()
        progress, started = self._activities[-1]
        self._shown_at = now
        self._show_standing(
            Standing(
                state=self._state,
                sentence=status_line(self._subject, progress, now - started),
                disk=self._subject,
                activity=progress.activity,
                items=progress.items,
                total_items=progress.total_items,
                done_bytes=progress.done_bytes,
                total_bytes=progress.total_bytes,
                seconds=now - started,
            )
        )
