"""The recorded moments as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from distbackupd.planning.timekeeping import SetBack


class MomentTable(Protocol):
    """When things were recorded, all of them together. Unix seconds."""

    def newest(self) -> int:
        """The newest recorded moment, but for facts and the history of sessions; 0: there is none. Quick."""

    def push_graces(self, seconds: int, now: int, facts: Mapping[str, str]) -> None:
        """The grace of all orphans begins so much later, but not after ``now``; keep the facts in the same step. Durable."""

    def set_back(self, back: SetBack, now: int, facts: Mapping[str, str]) -> None:
        """Do so to all moments but facts and the history of sessions, which disks know too; keep the facts in the same
        step. Durable when it returns.
        """
