"""The benchmark itself runs; what it measures is for people to read."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks import planner


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("rounds --objects 300 --rounds 1", '"copied": 2.'),
        ("bound --disks 0.9,0.5,0.3,0.3,0.2,0.2", "no plan loses less than 0.100 with the worst 2"),
        ("scale --objects 2000", "a full disk and 2% new"),
    ],
)
def test_benchmark_prints_its_figures(
    words: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["planner", *words.split()])
    planner.main()
    assert told in capsys.readouterr().out
