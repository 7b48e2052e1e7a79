"""When touched folders have come to rest."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_WAIT = 600.0
"""Seconds after which a folder is posted although it has not come to rest: a log file never does."""

MOST_PENDING = 20_000
"""More folders than these become a scan of everything: that costs less than so many visits, and keeps memory small."""

EVERYTHING = b""
"""Stands for all sources where a folder's path is expected."""


@dataclass(slots=True)
class _Unrest:
    first: float
    last: float
    earliest: float = 0.0


class Debouncer:
    """Which touched folders have rested long enough. Pure: time comes in as an argument and never runs backwards.

    A folder is due ``settle`` seconds after it was last touched, and ``longest`` seconds after it was first touched at
    the latest. Folders do not hold each other up. When more than ``most`` are pending, :data:`EVERYTHING` stands for
    all of them, and for what is touched further, until it is due. Nothing is due before the ``earliest`` moment that was
    said for it.
    """

    def __init__(self, settle: float, longest: float = LONGEST_WAIT, most: int = MOST_PENDING) -> None:
        self.settle = settle
        self._longest = longest
        self._most = most
        self._pending: dict[bytes, _Unrest] = {}

    def add(self, path: bytes, now: float, earliest: float = 0.0) -> None:
        """The folder (or :data:`EVERYTHING`) was touched."""
        if EVERYTHING in self._pending:
            path = EVERYTHING
        unrest = self._pending.setdefault(path, _Unrest(now, now))
        unrest.last, unrest.earliest = now, max(earliest, unrest.earliest)
        if len(self._pending) > (0 if path == EVERYTHING else self._most):
            first = min(unrest.first for unrest in self._pending.values())
            self._pending = {EVERYTHING: _Unrest(first, now, max(earliest, self._pending[path].earliest))}

    def due(self, now: float) -> list[bytes]:
        """Folders that have rested, in the order in which they were touched; they are no longer pending."""
        rested = [path for path, unrest in self._pending.items() if self._due_at(unrest) <= now]
        for path in rested:
            del self._pending[path]
        return rested

    def next_due(self) -> float | None:
        """The time at which :meth:`due` first gives something if nothing more is touched; None: nothing is pending."""
        return min(map(self._due_at, self._pending.values()), default=None)

    def pending(self) -> bool:
        """Whether anything is; cheap."""
        return bool(self._pending)

    def _due_at(self, unrest: _Unrest) -> float:
        return max(unrest.earliest, min(unrest.last + self.settle, unrest.first + self._longest))
