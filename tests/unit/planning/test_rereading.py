from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distbackupd.planning.rereading import Round, bytes_due, is_next_round_due

DAY = 86400
PERIOD = 90 * DAY


def test_bytes_due_less_than_a_days_worth_waits() -> None:
    state = Round(began=0, total=9000)
    assert bytes_due(state, DAY - 1, PERIOD) == 0
    assert bytes_due(state, DAY, PERIOD) == 100
    assert bytes_due(state._replace(read=100), 2 * DAY - 1, PERIOD) == 0


def test_bytes_due_what_is_begun_is_read_until_nothing_is_due() -> None:
    state = Round(began=0, total=9000, read=60, busy=True)
    assert bytes_due(state, DAY, PERIOD) == 40
    assert bytes_due(state._replace(read=100), DAY, PERIOD) == 0


def test_bytes_due_time_without_reading_is_made_up_for() -> None:
    assert bytes_due(Round(began=0, total=9000, read=100), 31 * DAY, PERIOD) == 3000


def test_bytes_due_at_the_end_of_the_period_all_is_due_whatever_the_sizes_say() -> None:
    assert bytes_due(Round(began=0, total=9000, read=9500), PERIOD, PERIOD) == 1
    assert bytes_due(Round(began=0, total=9000, read=500), PERIOD, PERIOD) == 8500


def test_bytes_due_never_and_over_are_nothing() -> None:
    assert bytes_due(Round(began=0, total=9000), 1000 * DAY, 0) == 0
    assert bytes_due(Round(began=0, total=9000, over=True), 1000 * DAY, PERIOD) == 0


def test_is_next_round_due_only_when_the_last_is_over_and_its_time_is_up() -> None:
    assert is_next_round_due(None, 5, PERIOD)
    assert not is_next_round_due(None, 5, 0)
    assert not is_next_round_due(Round(0, 10), 2 * PERIOD, PERIOD)
    assert not is_next_round_due(Round(0, 10, over=True), PERIOD - 1, PERIOD)
    assert is_next_round_due(Round(0, 10, over=True), PERIOD, PERIOD)


@given(total=st.integers(1, 10**15), days=st.integers(1, 400))
def test_bytes_due_whoever_reads_what_is_due_each_day_is_done_in_time(total: int, days: int) -> None:
    period = days * DAY
    state = Round(0, total)
    for day in range(1, days + 1):
        due = bytes_due(state, day * DAY, period)
        state = state._replace(read=state.read + due)
        assert state.read <= total + 1
    assert state.read >= total
