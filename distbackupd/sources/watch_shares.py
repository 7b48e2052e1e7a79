"""How many of the kernel's watches each source may use: all of them belong to one user, and sources to many."""

from __future__ import annotations

from collections.abc import Iterable


def budget(limit: int) -> int | None:
    """So many watches of the kernel's ``limit`` are ours: a quarter is for whatever else this user runs. None: no limit."""
    return limit * 3 // 4 if limit >= 0 else None


def may_watch(used: int, others: Iterable[int], sources: int, most: int) -> bool:
    """Whether a source that watches ``used`` folders may watch one more, of ``most`` in all.

    ``others``: what other sources use. Each of the ``sources`` has an equal share that no other may touch, used or not yet;
    what is beyond the shares goes to whoever comes first.
    """
    if not used:
        return True
    share = most // max(1, sources)
    taken = [max(share, other) for other in others]
    return used < most - sum(taken) - share * max(0, sources - 1 - len(taken))
