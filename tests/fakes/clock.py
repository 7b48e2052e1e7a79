"""A clock that a test moves."""

from __future__ import annotations


class FakeClock:
    """Time stands still until :meth:`pass_time`."""

    def __init__(self, now: int = 1_700_000_000) -> None:
        self._now = float(now)
        self._monotonic = 0.0

    def now(self) -> int:
        return int(self._now)

    def monotonic(self) -> float:
        return self._monotonic

    def pass_time(self, seconds: float) -> None:
        """So much later it is."""
        self._now += seconds
        self._monotonic += seconds
