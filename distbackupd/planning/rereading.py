"""When source files are read again: each of them once in a period, a day's worth at a time."""

from __future__ import annotations

from typing import NamedTuple

_DAY = 86400


class Round(NamedTuple):
    """One reading of all sources. ``began``: unix seconds; ``cursor``: the file that was read last; ``read`` of ``total``
    bytes are done. ``busy``: a day's worth is being read. ``over``: all were read.
    """

    began: int
    total: int
    cursor: int = 0
    read: int = 0
    busy: bool = False
    over: bool = False


def bytes_due(state: Round, now: int, period: float) -> int:
    """How much is to be read now so that the round takes ``period`` seconds; 0: nothing.

    Once begun it is read until nothing is due, and then a day goes by: a source disk that fell asleep may sleep on. Time
    in which nothing could be read is made up for.
    """
    if state.over or period <= 0:
        return 0
    elapsed = now - state.began
    if elapsed >= period:
        # Sizes grew or shrank since the round began: what is left is due in any case.
        return max(1, state.total - state.read)
    due = int(state.total * elapsed / period) - state.read
    least = 0 if state.busy else state.total * min(_DAY, period) / period
    return due if due > 0 and due >= least else 0


def is_next_round_due(state: Round | None, now: int, period: float) -> bool:
    """Whether the files are to be gone through from the first one again."""
    return period > 0 and (state is None or (state.over and now - state.began >= period))
