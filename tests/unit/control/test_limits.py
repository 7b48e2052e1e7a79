"""What strangers may ask at a time."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from sdbus import DbusLimitsExceededError

from distbackupd.control.limits import MOST_REMEMBERED, Pace, Places


def test_place_is_refused_to_who_has_too_many_and_given_to_others() -> None:
    places = Places(each=2, total=3)
    with ExitStack() as held:
        held.enter_context(places.place("a"))
        inner = ExitStack()
        inner.enter_context(places.place("a"))
        with pytest.raises(DbusLimitsExceededError, match="nothing was changed"), places.place("a"):
            pass
        held.enter_context(places.place("b"))
        with pytest.raises(DbusLimitsExceededError), places.place("c"):
            pass
        inner.close()
        held.enter_context(places.place("c"))
    assert not places._taken


def test_place_is_given_back_after_an_error() -> None:
    places = Places(1, 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), places.place("a"):
            raise ZeroDivisionError


def test_spend_lets_a_few_through_at_once_and_then_so_many_a_second() -> None:
    now = 100.0
    pace = Pace(at_once=3, per_second=2, monotonic=lambda: now)
    for _ in range(3):
        pace.spend(1000)
    with pytest.raises(DbusLimitsExceededError, match="try again in a second"):
        pace.spend(1000)
    pace.spend(1001)
    now += 0.6
    pace.spend(1000)
    with pytest.raises(DbusLimitsExceededError):
        pace.spend(1000)


def test_spend_remembers_no_more_than_so_many() -> None:
    pace = Pace(1, 1)
    for user in range(3 * MOST_REMEMBERED):
        pace.spend(user)
    assert len(pace._left) == MOST_REMEMBERED
