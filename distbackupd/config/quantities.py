"""Durations, times of day and shares as people write them.

All functions raise ValueError with the end of a sentence (``is no duration; write it like ...``): the caller knows the
file and the key that it begins with.
"""

from __future__ import annotations

import re
from datetime import time

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|min|h|d|w)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TIME_OF_DAY = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")

LONGEST = 1000 * 365 * 86_400
"""Seconds of the longest duration that is believed: longer ones are slips of the pen, and overflow dates."""


def parse_duration(text: str) -> float:
    """Seconds from ``30d``, ``12h``, ``10min``, ``5s``, ``2w`` or a bare ``0``; never negative."""
    stripped = text.strip()
    if stripped == "0":
        return 0.0
    match = _DURATION.fullmatch(stripped)
    if match is None:
        raise ValueError('is no duration; write it like "30d", "12h", "10min", "5s" or "0"')
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > LONGEST:
        raise ValueError("is longer than a thousand years")
    return seconds


def parse_time_of_day(text: str) -> time:
    """A wall time without zone from ``03:00``."""
    match = _TIME_OF_DAY.fullmatch(text.strip())
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise ValueError('is no time of day; write it like "03:00"')
    return time(int(match[1]), int(match[2]))


def parse_share(text: str) -> float:
    """A number from 0 to 1 from ``5%`` or a bare ``0``."""
    stripped = text.strip()
    if stripped == "0":
        return 0.0
    match = _SHARE.fullmatch(stripped)
    if match is None or float(match[1]) > 100:
        raise ValueError('is no share; write it like "5%", from "0%" to "100%"')
    return float(match[1]) / 100
