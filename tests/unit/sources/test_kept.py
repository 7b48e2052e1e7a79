from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distbackupd.sources.kept import kept_number, kept_time

FITS = range(-(2**63), 2**63)


@given(st.integers(-(2**80), 2**80), st.integers(-(2**80), 2**80))
def test_kept_time_is_the_nearest_that_fits_and_in_order(one: int, other: int) -> None:
    assert kept_time(one) in FITS
    assert kept_time(one) == one or one not in FITS
    assert (one <= other) <= (kept_time(one) <= kept_time(other))
    assert kept_time(kept_time(one)) == kept_time(one)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_kept_number_is_another_one_for_each(one: int, other: int) -> None:
    assert kept_number(one) in FITS
    assert (one == other) == (kept_number(one) == kept_number(other))
    assert kept_number(kept_number(one)) == kept_number(one)
