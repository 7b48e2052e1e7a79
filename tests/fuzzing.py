"""How long fuzzers run: seconds as a part of all tests, and as long as one likes with ``--fuzz=FACTOR``."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = "DISTBACKUPD_FUZZ"
"""The variable in which the option is handed on."""


def fuzzed(cases: int) -> settings:
    """For a test with ``@given``: so many cases, or FACTOR times as many. None of them has a deadline of its own."""
    return settings(
        max_examples=cases * int(os.environ.get(FACTOR, "1")),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )
