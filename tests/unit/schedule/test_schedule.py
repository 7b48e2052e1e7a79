from __future__ import annotations

import queue
import time as clock
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.interval import IntervalTrigger

import distbackupd.schedule.schedule as module
from distbackupd.model.inbox import JobDue
from distbackupd.schedule.schedule import NightlyTrigger, Schedule


@pytest.fixture
def posted() -> queue.SimpleQueue[JobDue]:
    return queue.SimpleQueue()


@pytest.fixture
def schedule(posted: queue.SimpleQueue[JobDue]) -> Iterator[Schedule]:
    schedule = Schedule(posted.put)
    yield schedule
    schedule.stop()


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    clock.tzset()
    yield ZoneInfo("Europe/Berlin")
    monkeypatch.undo()
    clock.tzset()


def test_trigger_follows_the_machines_zone(berlin: ZoneInfo) -> None:
    fire = NightlyTrigger(time(3)).get_next_fire_time(None, datetime(2026, 7, 1, tzinfo=UTC))
    assert fire == datetime(2026, 7, 1, 1, 0, tzinfo=UTC)


def test_trigger_unknown_zone_falls_back_to_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Atlantis/Poseidonis")
    fire = NightlyTrigger(time(3)).get_next_fire_time(None, datetime(2026, 7, 1, tzinfo=UTC))
    assert fire == datetime(2026, 7, 1, 3, 0, tzinfo=UTC)


def test_trigger_clock_set_back_does_not_scan_twice(berlin: ZoneInfo) -> None:
    fired = datetime(2026, 7, 1, 1, 0, tzinfo=UTC)
    again = NightlyTrigger(time(3)).get_next_fire_time(fired, fired - timedelta(minutes=5))
    assert again == fired + timedelta(days=1)


def test_start_both_jobs_are_due(schedule: Schedule) -> None:
    schedule.start(time(3))
    due = schedule.next_times()
    now = datetime.now(UTC)
    assert set(due) == {"scan", "tend"}
    assert now < due["scan"] <= now + timedelta(hours=26)
    assert due["tend"] <= now + timedelta(seconds=61)


def test_start_interval_passed_posts_tend(
    schedule: Schedule, posted: queue.SimpleQueue[JobDue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TEND_SECONDS", 1)
    schedule.start(time(3))
    assert posted.get(timeout=10) == JobDue("tend")


def test_job_long_overdue_is_posted_once(schedule: Schedule, posted: queue.SimpleQueue[JobDue]) -> None:
    """As after a night's sleep of the machine: no grace time may drop it."""
    trigger, due = IntervalTrigger(days=1, timezone=UTC), datetime.now(UTC) - timedelta(hours=7)
    schedule._scheduler.add_job(posted.put, trigger, args=[JobDue("late")], next_run_time=due)
    schedule.start(time(3))
    assert posted.get(timeout=10) == JobDue("late")


def test_reschedule_moves_the_scan_only(schedule: Schedule, berlin: ZoneInfo) -> None:
    schedule.start(time(3))
    tend = schedule.next_times()["tend"]
    schedule.reschedule(time(17, 45))
    due = schedule.next_times()
    assert due["scan"].astimezone(berlin).time() == time(17, 45)
    assert due["tend"] == tend


def test_stop_twice_is_no_error(schedule: Schedule) -> None:
    schedule.start(time(3))
    schedule.stop()
    schedule.stop()


def test_set_right_after_the_clock_went_back_jobs_come_as_before(
    schedule: Schedule, posted: queue.SimpleQueue[JobDue], monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule.start(time(3))
    as_before = schedule.next_times()
    schedule.set_right()
    assert schedule.next_times() == as_before

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) - timedelta(days=365)

    monkeypatch.setattr(module, "datetime", Ahead)
    schedule.set_right()
    due = schedule.next_times()
    assert due["tend"] <= datetime.now(UTC) + timedelta(seconds=61)
    assert due["scan"] <= datetime.now(UTC) + timedelta(hours=26)


def test_clock_that_jumps_to_and_fro_fires_no_storm_of_scans(posted: queue.SimpleQueue[JobDue]) -> None:
    running = 0.0
    schedule = Schedule(posted.put, lambda: running)
    for _ in range(100):
        schedule._post_scan()
        running += 120
    assert posted.qsize() == module.MOST_SCANS
    running += 86_400
    schedule._post_scan()
    assert posted.qsize() == module.MOST_SCANS + 1
