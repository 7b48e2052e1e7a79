"""When a time of day comes next, across changes of daylight saving time."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo


def next_scan(now: datetime, wall_time: time, zone: tzinfo) -> datetime:
    """The first moment after ``now`` (aware) at which clocks in ``zone`` show ``wall_time``, in UTC.

    Each local date has exactly one: a time that the clocks skip comes as much later as they skip, one that they show
    twice counts the first time.
    """
    day = now.astimezone(zone).date() - timedelta(days=1)
    while True:
        # fold=0 reads a skipped time with the offset from before the change, and a doubled one as its first showing.
        moment = datetime.combine(day, wall_time.replace(fold=0), tzinfo=zone).astimezone(UTC)
        if moment > now:
            return moment
        day += timedelta(days=1)
