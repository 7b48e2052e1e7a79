"""What a person should be reminded of though nothing happens: disks that stay away, and the one to bring."""

from __future__ import annotations

from distbackupd.engine.bench import Bench
from distbackupd.engine.overview import protection
from distbackupd.engine.timekeeping import has_just_jumped
from distbackupd.model.events import DiskNotSeen, Remark

LAST_REMINDER = "last_reminder"
"""The fact that keeps when it was, unix seconds; so a daemon that starts every morning does not nag every morning."""

_DAY = 86_400


def is_reminder_due(bench: Bench) -> bool:
    """Whether the last reminder is a day old, or in the future because the clock was set back.

    After the clock has jumped ahead it waits until that has lasted: no disk was away for a year that took a minute.
    """
    if has_just_jumped(bench):
        return False
    last = bench.catalogue.sessions.recall(LAST_REMINDER)
    return last is None or not 0 <= bench.clock.now() - int(last) < _DAY


def remind(bench: Bench, away: float) -> None:
    """Tell the disks without a session for ``away`` seconds or more (0: none is told), and the disk to bring."""
    now = bench.clock.now()
    state = protection(bench)
    for disk in bench.catalogue.disks.all():
        seconds = now - (disk.last_session_at or disk.added_at)
        if away and seconds >= away:
            bench.reporter.tell(DiskNotSeen(disk.name, disk.uuid, seconds // _DAY))
    if state.wanted:
        bench.reporter.tell(state.wanted)
    if state.advice:
        bench.reporter.tell(Remark(state.advice))
    bench.catalogue.sessions.remember(LAST_REMINDER, str(now))
