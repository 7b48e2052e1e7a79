"""How use cases are stopped, tell what happens and know the time."""

from __future__ import annotations

from typing import Protocol

from distbackupd.model.events import Event
from distbackupd.planning.timekeeping import MachineTime


class Stop(Protocol):
    """Somebody may ask to stop at any moment; long work looks here at file and chunk boundaries."""

    def is_set(self) -> bool:
        """Whether to stop as soon as nothing is left half-done."""


class Pulse(Stop, Protocol):
    """What long work in a worker thread looks at and tells: whether to stop, and how far it is. Thread-safe."""

    def beat(self, done_bytes: int) -> None:
        """So many bytes more are read or written."""


class Reporter(Protocol):
    """Where use cases tell what happens. Calls come from the engine's thread only."""

    def tell(self, event: Event) -> None:
        """Something happened that a person or the journal should know."""

    def begin(self, activity: str, items: int = 0, total_bytes: int = 0) -> None:
        """A longer activity (``hashing``, ``copying``) starts; totals are 0 where nobody knows them."""

    def advance(self, items: int, done_bytes: int, current: bytes = b"") -> None:
        """So much more of the activity is done; ``current`` is what is at work. Cheap: called often."""

    def end(self) -> None:
        """The activity is over."""


class Clock(Protocol):
    """Time, so that tests own it: what the engine records is never before what it recorded earlier."""

    def now(self) -> int:
        """Unix time in whole seconds, as what is recorded has it."""

    def monotonic(self) -> float:
        """Seconds that never jump."""

    def machine_time(self) -> MachineTime:
        """What the machine's own clocks say."""

    def go_on_from(self, moment: int, running: float) -> None:
        """It was this moment when the machine had been running for so many seconds: time goes on from there."""


class MachineClock(Protocol):
    """The machine's own clocks, which may be wrong and jump."""

    def now(self) -> int:
        """Unix time in whole seconds."""

    def monotonic(self) -> float:
        """Seconds that never jump."""

    def running(self) -> float:
        """Seconds since the machine was started, with those in which it slept."""

    def boot(self) -> str:
        """A name of this start of the machine."""
