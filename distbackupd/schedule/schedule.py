"""The clock of the daemon: posts when a regular job's time has come, and does nothing else."""

from __future__ import annotations

import time as clock
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, tzinfo

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger
from tzlocal import reload_localzone

from distbackupd.model.inbox import JobDue
from distbackupd.schedule.walltime import next_scan

SCAN = "scan"
TEND = "tend"
TEND_SECONDS = 60
"""How often ``tend`` is posted. It also wakes the scheduler: its timer stands still while the machine sleeps, so that
without a short job a scan missed in the night would come hours after the morning."""
MOST_SCANS = 3
"""So many scans are posted within a day of true time: with a clock that jumps ahead and back many nights may begin."""
_DAY = 86_400


class NightlyTrigger(BaseTrigger):  # type: ignore[misc]  # apscheduler has no types
    """Fires when the clocks of this machine show ``wall_time``; a new time zone of the machine counts from the next day."""

    def __init__(self, wall_time: time) -> None:
        self._wall_time = wall_time

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The next moment, in UTC; behind the previous one, so that no night has two scans."""
        return next_scan(max(now, previous_fire_time or now), self._wall_time, _machines_zone())


def _machines_zone() -> tzinfo:
    try:
        return reload_localzone()
    except (LookupError, ValueError, OSError):
        # A zone that is set but not installed: a scan at an odd hour is better than none.
        return UTC


class Schedule:
    """Posts ``JobDue("scan")`` each night and ``JobDue("tend")`` each minute, from a thread of its own.

    A job that was due while the machine slept is posted once, as soon as it wakes. ``monotonic``: seconds that never jump.
    """

    def __init__(self, post: Callable[[JobDue], None], monotonic: Callable[[], float] = clock.monotonic) -> None:
        self._post = post
        self._monotonic = monotonic
        self._scans: deque[float] = deque(maxlen=MOST_SCANS)
        # In UTC and with triggers that return UTC: apscheduler's own arithmetic loses or doubles jobs around DST. No
        # grace: its default of one second drops every job that a stall delays.
        self._scheduler = BackgroundScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )

    def start(self, scan_at: time) -> None:
        """Start the clock."""
        self._scheduler.add_job(self._post_scan, NightlyTrigger(scan_at), id=SCAN)
        self._scheduler.add_job(
            self._post, IntervalTrigger(seconds=TEND_SECONDS, timezone=UTC), args=[JobDue(TEND)], id=TEND
        )
        self._scheduler.start()

    def reschedule(self, scan_at: time) -> None:
        """The nightly scan has another time from now on."""
        self._scans.clear()
        self._scheduler.reschedule_job(SCAN, trigger=NightlyTrigger(scan_at))

    def set_right(self) -> None:
        """To be called now and then: after the machine's clock went back, no job waits for what it showed before."""
        due = self._scheduler.get_job(TEND).next_run_time
        if due > datetime.now(UTC) + timedelta(seconds=2 * TEND_SECONDS):
            self._scheduler.reschedule_job(TEND, trigger=IntervalTrigger(seconds=TEND_SECONDS, timezone=UTC))
            scan = self._scheduler.get_job(SCAN)
            self._scheduler.reschedule_job(SCAN, trigger=scan.trigger)

    def _post_scan(self) -> None:
        now = self._monotonic()
        if len(self._scans) < MOST_SCANS or now - self._scans[0] >= _DAY:
            self._scans.append(now)
            self._post(JobDue(SCAN))

    def next_times(self) -> dict[str, datetime]:
        """When each job is due next."""
        return {job.id: job.next_run_time for job in self._scheduler.get_jobs()}

    def stop(self) -> None:
        """Stop the clock; nothing is posted after this. Stopping a stopped clock is no error."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)
