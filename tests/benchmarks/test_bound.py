"""The bound that the benchmark prints, beside cases that can be thought through."""

from __future__ import annotations

import pytest

from tests.benchmarks.bound import least_worst_loss, minimum


@pytest.mark.parametrize(
    ("shares", "dead", "least"),
    [
        ([0.4] * 6, 1, 0),
        ([0.4] * 6, 2, 0.04),  # 60% on 15 pairs
        ([0.4] * 6, 3, 0.14),  # three of these pairs, and 40% on 20 triples
        ([0.9, 0.5, 0.3, 0.3, 0.2, 0.2], 2, 0.1),
        ([0.5, 0.5, 0.5], 1, 1 / 6),  # half has one copy, spread over three disks
        ([0.3, 1, 0.9], 2, 0.7),
        ([1, 1], 1, 0),
        ([1, 1, 3], 2, 0),
        ([0.3, 0.2], 1, 0.8),  # half fits nowhere, and the larger disk dies
        ([0.5, 0.5], 2, 1),
        ([0.1] * 60, 2, 0),
        ([0.04] * 60, 2, 0.6 / 1770),
    ],
)
def test_least_worst_loss(shares: list[float], dead: int, least: float) -> None:
    assert least_worst_loss(shares, dead) == pytest.approx(least, abs=1e-9)


def test_minimum_without_a_solution_is_refused() -> None:
    with pytest.raises(ValueError, match="no amounts fit"):
        minimum([1.0], [[1.0], [1.0]], [1.0, 2.0])
