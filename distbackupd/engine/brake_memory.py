"""What is remembered of the brake, between scans and sessions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from distbackupd.engine.bench import Bench
from distbackupd.planning.brake import NO_FILES, Share

FACT = "brake"
"""Under this name it is kept."""


@dataclass(frozen=True, slots=True)
class BrakeMemory:
    """``causes`` keep the brake on since ``since``; empty: it is off. Moments are unix seconds, 0 for never.

    ``baseline``: the moment of the last state that passed or that somebody let go, and how much lived then (``known``):
    what is lost after it counts. ``unconfirmed``: no scan of everything has seen what changed so much. ``scrambled``: among
    the causes is that files look encrypted.
    ``released_at``: when somebody let go last. ``released_sources``: real paths of sources that may look as they do.
    """

    causes: tuple[str, ...] = ()
    since: int = 0
    unconfirmed: bool = False
    scrambled: bool = False
    baseline: int = 0
    known: Share = NO_FILES
    released_at: int = 0
    released_sources: tuple[str, ...] = ()


def recall(bench: Bench) -> BrakeMemory:
    """What is remembered."""
    kept: dict[str, Any] = json.loads(bench.catalogue.sessions.recall(FACT) or "{}")
    return BrakeMemory(
        causes=tuple(kept.get("causes", ())),
        since=kept.get("since", 0),
        unconfirmed=kept.get("unconfirmed", False),
        scrambled=kept.get("scrambled", False),
        baseline=kept.get("baseline", 0),
        known=Share(*kept.get("known", ())),
        released_at=kept.get("released_at", 0),
        released_sources=tuple(kept.get("released_sources", ())),
    )


def remember(bench: Bench, memory: BrakeMemory) -> None:
    """Keep it. Durable when it returns."""
    bench.catalogue.sessions.remember(FACT, as_text(memory))


def as_text(memory: BrakeMemory) -> str:
    """As it is kept."""
    return json.dumps(asdict(memory))
