from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.schedule.walltime import next_scan

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "Africa/Cairo"]


def local(zone: ZoneInfo, *moment: int, fold: int = 0) -> datetime:
    return datetime(*moment, tzinfo=zone, fold=fold).astimezone(UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ((2026, 7, 1, 2, 59), (2026, 7, 1, 3, 0)),
        ((2026, 7, 1, 3, 0), (2026, 7, 2, 3, 0)),
        ((2026, 7, 1, 23, 0), (2026, 7, 2, 3, 0)),
    ],
)
def test_next_scan_ordinary_day_is_the_next_showing(now: tuple[int, ...], due: tuple[int, ...]) -> None:
    assert next_scan(local(BERLIN, *now), time(3), BERLIN) == local(BERLIN, *due)


def test_next_scan_time_skipped_in_spring_comes_later_the_same_day() -> None:
    due = next_scan(local(BERLIN, 2026, 3, 29, 1, 0), time(2, 30), BERLIN)
    assert due.astimezone(BERLIN).replace(tzinfo=None) == datetime(2026, 3, 29, 3, 30)


def test_next_scan_time_doubled_in_autumn_comes_once() -> None:
    first = next_scan(local(BERLIN, 2026, 10, 25, 1, 0), time(2, 30), BERLIN)
    assert first == local(BERLIN, 2026, 10, 25, 2, 30, fold=0)
    assert next_scan(first, time(2, 30), BERLIN) == local(BERLIN, 2026, 10, 26, 2, 30)


def test_next_scan_between_the_two_showings_is_tomorrow() -> None:
    now = local(BERLIN, 2026, 10, 25, 2, 10, fold=1)
    assert next_scan(now, time(2, 30), BERLIN) == local(BERLIN, 2026, 10, 26, 2, 30)


def test_next_scan_whole_year_has_one_scan_each_day() -> None:
    for name in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe"):
        zone, moment, days = ZoneInfo(name), local(ZoneInfo(name), 2026, 1, 1), []
        while (moment := next_scan(moment, time(2, 15), zone)) < local(zone, 2027, 1, 1):
            days.append(moment.astimezone(zone).date())
        assert len(days) == len(set(days)) == 365


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),
    st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    st.sampled_from(ZONES),
)
def test_next_scan_any_moment_is_behind_now_and_within_two_days(now: datetime, wall_time: time, name: str) -> None:
    due = next_scan(now, wall_time, ZoneInfo(name))
    assert now < due <= now + timedelta(hours=50)
    assert next_scan(now + (due - now) / 2, wall_time, ZoneInfo(name)) == due
