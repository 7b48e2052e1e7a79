"""Stops: never, or when a test wants it."""

from __future__ import annotations

from collections.abc import Callable


class Never:
    """Nobody asks to stop. Also a pulse: what is told is forgotten."""

    def is_set(self) -> bool:
        return False

    def beat(self, done_bytes: int) -> None:
        assert done_bytes >= 0


class StopWhen(Never):
    """Asks to stop from the moment at which the condition is true."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition = condition

    def is_set(self) -> bool:
        return self._condition()
