"""The slopes and curves that decide which copies move are exactly those of the unevenness that they are to lessen."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from distbackupd.planning.exposure import PLACES, TRIPLES, Exposure

OTHERS = [2, 4, 8, 16]
"""Four other disks; the one whose session it is has bit 1."""
HOLDERS = st.integers(1, 15).map(lambda mask: mask << 1)
ANY = settings(derandomize=True, database=None, deadline=None)


def made(content: list[tuple[int, int]], places: tuple[int, ...] = ()) -> Exposure:
    exposure = Exposure(OTHERS, places)
    for holders, size in content:
        exposure.move(holders, size)
    return exposure


def unevenness(content: list[tuple[int, int]], places: tuple[int, ...]) -> Fraction:
    """By definition: all bytes whose holders all die, squared, for each risk."""

    def loss(risk: int) -> int:
        return sum(size for holders, size in content if holders and not holders & ~risk)

    total = Fraction(0)
    for size, weight in ((1, 1), (2, 1), (3, Fraction(TRIPLES).limit_denominator(1000))):
        total += sum(weight * loss(sum(risk)) ** 2 for risk in combinations(OTHERS, size))
    return total + sum(Fraction(PLACES) * loss(place) ** 2 for place in places)


contents = st.lists(st.tuples(HOLDERS, st.integers(0, 10**6)), max_size=8)
some_places = st.sampled_from([(), (6,), (6, 24), (14,)])


@ANY
@given(contents, some_places)
def test_unevenness_is_the_sum_of_squared_losses(content: list[tuple[int, int]], places: tuple[int, ...]) -> None:
    assert made(content, places).unevenness() == pytest.approx(float(unevenness(content, places)), rel=1e-9)


@ANY
@given(contents, some_places, HOLDERS.filter(lambda mask: mask.bit_count() < 4), st.integers(1, 10**6))
def test_slope_and_curve_foretell_the_change(
    content: list[tuple[int, int]], places: tuple[int, ...], holders: int, size: int
) -> None:
    exposure = made(content, places)
    foretold = 2 * size * exposure.of(holders) + size**2 * exposure.curvature(holders)
    change = unevenness([*content, (holders, size)], places) - unevenness(content, places)
    assert foretold == pytest.approx(float(change), rel=1e-9)


@ANY
@given(contents, some_places, HOLDERS, HOLDERS)
def test_curve_of_two_holder_sets_together_is_how_one_exposes_the_other(
    content: list[tuple[int, int]], places: tuple[int, ...], one: int, other: int
) -> None:
    if max(one.bit_count(), other.bit_count()) > 3:
        return
    exposure = made(content, places)
    before = exposure.of(one)
    exposure.move(other, 1000)
    assert exposure.of(one) - before == pytest.approx(1000 * exposure.curvature(one | other), abs=1e-3)


def test_what_has_no_holder_or_many_is_exposed_by_its_amount_alone() -> None:
    exposure = made([(0, 5), (30, 7)])
    assert (exposure.of(0), exposure.of(30)) == (0, 7)
