"""Bounds for what strangers may ask at a time: nobody else is kept waiting, and the memory that they cost is small."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from sdbus import DbusLimitsExceededError

MOST_REMEMBERED = 1000
"""So many askers are remembered; the one who asked longest ago is forgotten first."""


class Places:
    """Room for calls that wait: so many for ``each`` who asks, and for all."""

    def __init__(self, each: int, total: int) -> None:
        self._each = each
        self._total = total
        self._taken: Counter[Hashable] = Counter()

    @contextmanager
    def place(self, who: Hashable) -> Iterator[None]:
        """Waits within the context take one place. Raises DbusLimitsExceededError where none is free."""
        if self._taken[who] >= self._each or self._taken.total() >= self._total:
            raise DbusLimitsExceededError("too many calls wait for an answer already; nothing was changed: try again later")
        self._taken[who] += 1
        try:
            yield
        finally:
            self._taken[who] -= 1
            if not self._taken[who]:
                del self._taken[who]


class Pace:
    """So many calls at once of each who asks, and ``per_second`` in the long run."""

    def __init__(self, at_once: int, per_second: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._monotonic = monotonic
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def spend(self, who: Hashable) -> None:
        """One call. Raises DbusLimitsExceededError if there were too many."""
        now = self._monotonic()
        left, then = self._left.pop(who, (float(self._at_once), now))
        left = min(self._at_once, left + (now - then) * self._per_second)
        self._left[who] = (max(0.0, left - 1), now)
        if len(self._left) > MOST_REMEMBERED:
            self._left.popitem(last=False)
        if left < 1:
            raise DbusLimitsExceededError("too many calls in a short time: try again in a second")
