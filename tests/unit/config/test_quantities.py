from __future__ import annotations

from contextlib import suppress
from datetime import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.config.quantities import parse_duration, parse_share, parse_time_of_day


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("5s", 5), ("10min", 600), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600), (" 1.5 h ", 5400)],
)
def test_parse_duration_usual_spellings_gives_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-5s", "5", "5 apples", "30D", "1e9d", "٣d", "99999999999d", "5m", "d"])
def test_parse_duration_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|thousand"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["25:00", "03:60", "3", "3:0", "03:00:00", "-3:00", "noon", ""])
def test_parse_time_of_day_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='write it like "03:00"'):
        parse_time_of_day(text)


def test_parse_time_of_day_one_digit_hour_is_taken() -> None:
    assert parse_time_of_day("3:05") == time(3, 5)


@pytest.mark.parametrize(("text", "share"), [("0", 0), ("5%", 0.05), ("100 %", 1), ("0.5%", 0.005)])
def test_parse_share_usual_spellings_gives_fraction(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["5", "101%", "-1%", "%", "all"])
def test_parse_share_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no share"):
        parse_share(text)


@given(st.text())
def test_parsers_any_text_value_or_value_error(text: str) -> None:
    for parse in (parse_duration, parse_time_of_day, parse_share):
        with suppress(ValueError):
            parse(text)
