"""Worker threads: results, progress, stops and errors."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from distbackupd.engine.pulse import Meter, work_in_threads
from tests.fakes.reporter import FakeReporter
from tests.fakes.stopping import Never, StopWhen


@pytest.fixture
def reporter() -> FakeReporter:
    running = FakeReporter()
    running.begin("working")
    return running


def test_work_in_threads_gives_every_result_once(reporter: FakeReporter) -> None:
    meter = Meter(Never())
    assert sorted(work_in_threads(range(500), lambda number: number * 2, meter, reporter)) == list(range(0, 1000, 2))


def test_work_in_threads_takes_no_more_tasks_than_are_under_way(reporter: FakeReporter) -> None:
    taken = itertools.count()
    results = work_in_threads((next(taken) for _ in itertools.count()), lambda number: number, Meter(Never()), reporter, 2)
    for _ in range(10):
        next(results)
    assert next(taken) <= 10 + 4 * 2
    results.close()


def test_work_in_threads_exception_of_the_work_stops_the_others(reporter: FakeReporter) -> None:
    meter = Meter(Never())

    def work(number: int) -> int:
        if number == 5:
            raise ValueError("the fifth")
        return number

    with pytest.raises(ValueError, match="the fifth"):
        list(work_in_threads(itertools.count(), work, meter, reporter))
    assert meter.is_set()


def test_work_in_threads_exception_of_the_consumer_waits_for_what_is_under_way(reporter: FakeReporter) -> None:
    running: set[int] = set()

    def work(number: int) -> int:
        running.add(number)
        hashlib.sha256(bytes(3_000_000)).digest()
        running.discard(number)
        return number

    meter = Meter(Never())
    results = work_in_threads(itertools.count(), work, meter, reporter)
    next(results)
    results.close()
    assert running == set()
    assert meter.is_set()


def test_work_in_threads_stop_begins_no_new_task_but_gives_what_was_under_way(reporter: FakeReporter) -> None:
    begun: list[int] = []
    meter = Meter(StopWhen(lambda: len(begun) >= 10))

    def work(number: int) -> int:
        begun.append(number)
        return number

    results = list(work_in_threads(itertools.count(), work, meter, reporter, workers=2))
    assert sorted(results) == sorted(begun)
    assert len(begun) <= 10 + 4 * 2


def test_meter_drains_what_was_told_since() -> None:
    meter = Meter(Never())
    for size in (1, 20, 300):
        meter.beat(size)
    assert (meter.drain(), meter.drain()) == (321, 0)
