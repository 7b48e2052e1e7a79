"""A clock that a test moves."""

from __future__ import annotations


class FakeClock:
    """The clocks of a machine. Time stands still until :meth:`pass_time`; what is wrong with the clock a test says."""

    def __init__(self, now: int = 1_700_000_000) -> None:
        self._now = float(now)
        self._monotonic = 0.0
        self._running = 1_000_000.0
        self._boots = 1

    def now(self) -> int:
        return int(self._now)

    def monotonic(self) -> float:
        return self._monotonic

    def pass_time(self, seconds: float) -> None:
        """So much later it is."""
        self._now += seconds
        self._monotonic += seconds
        self._running += seconds

    def running(self) -> float:
        return self._running

    def boot(self) -> str:
        return f"boot {self._boots}"

    def jump(self, seconds: float) -> None:
        """The clock is set to another time, and none passes."""
        self._now += seconds

    def restart(self, off: float) -> None:
        """The machine is off for so long; then the clock is as right as it was."""
        self.pass_time(off)
        self._running = 10.0
        self._boots += 1
