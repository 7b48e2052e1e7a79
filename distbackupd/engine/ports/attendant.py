"""Whoever brings the disks to a restore."""

from __future__ import annotations

from typing import Protocol

from distbackupd.planning.restore_plan import RestorePlan


class Attendant(Protocol):
    """A person at a terminal. Calls come from the engine's thread only."""

    def show(self, plan: RestorePlan) -> None:
        """This is going to be restored from these disks."""

    def ask(self, plan: RestorePlan) -> None:
        """The first disk of the plan is wanted now, and not here. Told once for each plan that differs."""

    def wait(self) -> None:
        """Return when something may have been plugged in or mounted, and after a few seconds in any case."""
