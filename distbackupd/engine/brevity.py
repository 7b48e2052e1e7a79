"""Tells what a scan meets in so few lines that nobody can fill the journal by filling a folder."""

from __future__ import annotations

from collections import Counter

from distbackupd.engine.ports import Reporter
from distbackupd.model.events import Event, FileSkipped, Remark, SourceLocked
from distbackupd.model.text import say_count

MOST_TOLD = 20
"""So many of each kind, for each reason, one by one."""
_MOST_REASONS = 10
"""So many times as many of each kind at the most, whatever their reasons."""
_NOUNS = {
    FileSkipped: ("file was skipped", "files were skipped"),
    SourceLocked: ("folder was left as known", "folders were left as known"),
    Remark: ("remark was made", "remarks were made"),
}


class Brief:
    """A :class:`~distbackupd.engine.ports.Reporter` in front of another: the first events of a kind, the rest in numbers."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._told: Counter[object] = Counter()
        self._kept_back: Counter[type[Event]] = Counter()
        self.begin = reporter.begin
        self.advance = reporter.advance
        self.end = reporter.end

    def tell(self, event: Event) -> None:
        """Tell it, or count it."""
        kind = type(event)
        if kind in _NOUNS:
            same = (kind, getattr(event, "reason", ""))
            if self._told[same] >= MOST_TOLD or self._told[kind] >= MOST_TOLD * _MOST_REASONS:
                self._kept_back[kind] += 1
                return
            self._told[same] += 1
            self._told[kind] += 1
        self._reporter.tell(event)

    def sum_up(self) -> None:
        """Tell how many were counted only."""
        for kind, number in self._kept_back.items():
            text = f"{say_count(number, *_NOUNS[kind])} beside those named above"
            self._reporter.tell(Remark(f"{text}; 'dsb ls --problems' lists what could not be backed up as it is"))
        self._kept_back.clear()
