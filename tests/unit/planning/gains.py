"""Plans taken apart into what must each be a gain."""

from __future__ import annotations

from collections.abc import Iterator

from distbackupd.model.plans import Copy, Plan, Reason


def gains(plan: Plan) -> Iterator[tuple[Copy, ...]]:
    """The copies that make one gain together: each alone, or all newcomers of one exchange."""
    exchange: list[Copy] = []
    for copy in plan.copies:
        if exchange and (copy.victims or copy.reason is not Reason.MORE_EVEN):
            yield tuple(exchange)
            exchange = []
        if copy.reason is Reason.MORE_EVEN:
            exchange.append(copy)
        else:
            yield (copy,)
    if exchange:
        yield tuple(exchange)
