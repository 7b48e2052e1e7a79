from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from distbackupd.cli.moments import parse_moment, say_moment
from distbackupd.model.errors import UsageError

NOW = 1_793_620_800  # 2026-11-02 13:00 in Berlin


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-11-01", "2026-11-01 23:59"),
        (" 2026-11-01 ", "2026-11-01 23:59"),
        ("2026-10-25", "2026-10-25 23:59"),  # a day of 25 hours
        ("2026-03-29", "2026-03-29 23:59"),  # and one of 23
        ("2026-11-01 14:30", "2026-11-01 14:30"),
        ("2026-11-01T14:30:59", "2026-11-01 14:30"),
        ("2026-11-01T14:30:00Z", "2026-11-01 15:30"),
        ("2026-11-02", "2026-11-02 13:00"),  # today, as far as it is known
        ("1969-12-31", "1969-12-31 23:59"),
    ],
)
def test_parse_moment_date_or_time_is_meant_in_the_machines_own_zone(text: str, said: str) -> None:
    assert say_moment(parse_moment(text, NOW)) == said


def test_parse_moment_day_includes_its_last_second() -> None:
    assert parse_moment("2026-11-01", NOW) + 1 == parse_moment("2026-11-02 00:00", NOW)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "2026-02-30", "14:30", "01.11.2026", "9999-12-31T", "\x1b[2J"]
)
def test_parse_moment_no_date_says_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match="is no date; write it like 2026-11-01") as raised:
        parse_moment(text, NOW)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("text", ["2026-11-03", "2026-11-02 13:01", "9999-12-30"])
def test_parse_moment_future_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is still to come"):
        parse_moment(text, NOW)
