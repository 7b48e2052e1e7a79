"""Dates and times as people write them on a command line, in the machine's own time zone."""

from __future__ import annotations

import re
import time
from datetime import date, datetime, timedelta

from distbackupd.model.errors import UsageError
from distbackupd.model.text import printable

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_moment(text: str, now: int) -> int:
    """Unix seconds from ``2026-11-01`` (the end of that day), ``2026-11-01 14:30`` or any other form of ISO 8601.

    Raises:
        UsageError: it is no date, or still to come.
    """
    text = text.strip()
    try:
        if _DAY.fullmatch(text):
            following = date.fromisoformat(text) + timedelta(days=1)
            began, moment = (_midnight(day) for day in (date.fromisoformat(text), following))
            moment -= 1
        else:
            began = moment = int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"'{printable(text)}' is no date; write it like 2026-11-01 (the end of that day) or '2026-11-01 14:30'"
        ) from error
    if began > now:
        raise UsageError(f"{printable(text)} is still to come, so nothing is known of it")
    return min(moment, now)


def say_moment(seconds: int) -> str:
    """``2026-11-01 14:30``"""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day).timestamp())
