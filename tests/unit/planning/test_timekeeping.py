"""What time it is for what is recorded, whatever clocks show."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from distbackupd.planning.timekeeping import HOUR, WEEK, Judgement, MachineTime, Timeline, judge

ANY = settings(derandomize=True, database=None, deadline=None)
T = 1_700_000_000
DAY = 86_400
YEAR = 365 * DAY


def look(before: Timeline, now: int, running: float, boot: str = "a", newest: int = 0) -> Judgement:
    return judge(before, newest, MachineTime(now, boot, running))


def test_judge_first_moment_is_what_the_clock_shows() -> None:
    assert judge(None, 0, MachineTime(T, "a", 5.0)) == Judgement(Timeline(T, "a", 5.0))


def test_judge_time_that_the_machine_measured_is_time() -> None:
    found = look(Timeline(T, "a", 10_000.0), T + 40 * DAY + 60, 10_000.0 + 40 * DAY)
    assert (found.timeline.moment, found.jumped, found.pushed, found.behind) == (T + 40 * DAY + 60, 0, 0, 0)


def test_judge_jump_ahead_is_pushed_away_but_believed() -> None:
    found = look(Timeline(T, "a", 10_000.0), T + 31 * DAY + 60, 10_060.0)
    assert (found.timeline.moment, found.pushed, found.restarted) == (T + 31 * DAY + 60, 31 * DAY, False)


def test_judge_clock_that_is_behind_goes_on_and_is_told_once() -> None:
    found = look(Timeline(T, "a", 10_000.0), 86_400, 10_060.0)
    assert (found.timeline.moment, found.behind, found.pushed) == (T + 60, T + 60 - 86_400, 0)
    again = look(found.timeline, 86_460, 10_120.0)
    assert (again.timeline.moment, again.behind) == (T + 120, 0)
    right = look(again.timeline, T + 180, 10_180.0)
    assert (right.timeline.moment, right.timeline.told, right.set_back) == (T + 180, 0, None)


def test_judge_excursion_ahead_is_set_back() -> None:
    ahead = look(Timeline(T, "a", 10_000.0), T + YEAR, 10_000.0).timeline
    back = look(ahead, T + DAY, 10_000.0 + DAY, newest=T + YEAR + 300)
    assert back.set_back is not None
    assert (back.set_back.since, back.set_back.seconds, back.set_back.pushed) == (T, YEAR, YEAR)
    assert (back.timeline.moment, back.timeline.doubts, back.behind) == (T + DAY, (), 0)


def test_judge_clock_in_1970_after_an_excursion_sets_nothing_back() -> None:
    ahead = look(Timeline(T, "a", 10_000.0), T + YEAR, 10_000.0).timeline
    found = look(ahead, 86_400, 10_060.0)
    assert found.set_back is None
    assert found.timeline.moment == T + YEAR + 60
    assert look(found.timeline, T + 120, 10_120.0).set_back is not None


def test_judge_only_the_last_jump_is_set_back() -> None:
    first = look(Timeline(T, "a", 10_000.0), T + 23 * DAY, 10_000.0).timeline
    rested = look(first, T + 33 * DAY, 10_000.0 + 10 * DAY).timeline
    second = look(rested, T + 33 * DAY + YEAR, 10_000.0 + 10 * DAY).timeline
    back = look(second, T + 33 * DAY + 60, 10_060.0 + 10 * DAY)
    assert back.set_back is not None
    assert back.set_back.since == T + 33 * DAY
    assert len(back.timeline.doubts) == 1


def test_judge_of_the_time_before_a_restart_a_week_counts() -> None:
    found = look(Timeline(T, "a", 10_000.0), T + 30 * DAY, 5.0, boot="b")
    assert (found.timeline.moment, found.pushed, found.restarted) == (T + 30 * DAY, 30 * DAY - WEEK, True)
    night = look(Timeline(T, "a", 10_000.0), T + 16 * HOUR, 5.0, boot="b")
    assert (night.timeline.moment, night.pushed) == (T + 16 * HOUR, 0)


def test_judge_machine_without_a_battery_is_set_by_the_network_soon() -> None:
    begun = look(Timeline(T, "a", 10_000.0), T - 60, 5.0, boot="b")
    assert (begun.behind, begun.pushed, begun.timeline.moment) == (0, 0, T)
    found = look(begun.timeline, T + 16 * HOUR, 35.0, boot="b")
    assert (found.pushed, found.timeline.moment) == (0, T + 16 * HOUR)


def test_judge_jump_long_after_a_restart_has_no_credit() -> None:
    begun = look(Timeline(T, "a", 10_000.0), T + HOUR, 5.0, boot="b").timeline
    later = look(begun, T + 3 * HOUR, 5.0 + 2 * HOUR, boot="b").timeline
    assert look(later, T + 3 * HOUR + DAY, 5.0 + 2 * HOUR, boot="b").pushed == DAY


def test_judge_running_time_that_goes_back_is_a_restart() -> None:
    assert look(Timeline(T, "a", 10_000.0), T + 60, 9_000.0).restarted


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3 * DAY),
        st.sampled_from([0, 0, 0, 40, -40, DAY, -DAY, YEAR, -YEAR, -T]),
        st.booleans(),
        st.integers(0, 5 * HOUR),
    ),
    max_size=12,
)
"""So much time passes, the clock is then off by so much, the machine was restarted (and off), so much longer is recorded."""


@ANY
@given(STEPS)
def test_judge_never_goes_back_and_grace_runs_by_time_alone(steps: list[tuple[int, int, bool, int]]) -> None:
    timeline, truth, boot, running, newest = judge(None, 0, MachineTime(T, "0", 10_000.0)).timeline, T, 0, 10_000.0, 0
    for passed, off, restarted, recorded in steps:
        truth, boot = truth + passed, boot + restarted
        running = 10.0 if restarted else running + passed
        before = timeline
        found = judge(before, newest, MachineTime(truth + off, str(boot), running))
        timeline = found.timeline
        if found.set_back is None:
            assert timeline.moment >= before.moment
            assert timeline.moment >= newest
            # What a session recorded beyond the last look is time that went by: part of what the machine measured while it
            # ran, and before the week that counts at a restart.
            recorded_since = max(0, newest - before.moment)
            went_by = recorded_since + WEEK if restarted else max(passed, recorded_since) + before.credit
            counted = timeline.moment - before.moment - found.pushed
            assert counted <= went_by + HOUR + 1
        else:
            assert timeline.moment > found.set_back.since
            assert newest - found.set_back.seconds <= max(timeline.moment, found.set_back.since)
            assert 0 <= found.set_back.pushed <= found.set_back.seconds
            newest = max(found.set_back.since, newest - found.set_back.seconds)
        newest = max(newest, timeline.moment + (0 if restarted else min(recorded, passed)))


@ANY
@given(st.integers(HOUR + 1, YEAR), st.integers(0, 20 * DAY))
def test_judge_any_excursion_ends_where_no_excursion_would(ahead: int, lasted: int) -> None:
    start = Timeline(T, "a", 10_000.0)
    out = look(start, T + 60 + ahead, 10_060.0)
    back = look(out.timeline, T + 120 + lasted, 10_120.0 + lasted)
    plain = look(start, T + 120 + lasted, 10_120.0 + lasted)
    assert back.timeline.moment == plain.timeline.moment
    assert back.set_back is not None
    assert back.set_back.pushed == out.pushed
