"""What the D-Bus service needs of the daemon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from distbackupd.model.plans import BackupWish
from distbackupd.model.standing import Answer, Protection, Standing, Told


class Listener(Protocol):
    """Hears what happens. Called from the daemon's threads; must return at once and never raise."""

    def stands(self, standing: Standing) -> None:
        """The daemon does something else, or is further; at the most a few times a second."""

    def protects(self, protection: Protection) -> None:
        """Copies, disks or the disk to bring next are others now."""

    def told(self, told: Told) -> None:
        """An event was told."""

    def answered(self, answer: Answer) -> None:
        """A job has ended."""


class Desk(Protocol):
    """The daemon as others see it. Thread-safe; every call returns at once, work is done later by the daemon's loop."""

    @property
    def folder(self) -> Path:
        """Where the catalogue lies: a ``dsb`` that works with another one must not ask here. Not for everybody."""

    def standing(self) -> Standing:
        """What it is doing."""

    def protection(self) -> Protection:
        """What is protected how well, as of the last change."""

    def told_since(self, number: int) -> Sequence[Told]:
        """Events with a higher number, oldest first, as far back as they are kept (some hundreds)."""

    def ask_backup(self, user: int, disk: str, wish: BackupWish) -> int:
        """A session with this disk (its name or UUID); the job's number. A wrong name is told by the answer.

        ``user``: who asks. Raises TooMuchAsked, as the next two.
        """

    def ask_eject(self, user: int, disk: str) -> int:
        """End the session of this disk if it has one, unmount, lock and power off; the job's number."""

    def ask_scan(self, user: int) -> int:
        """Scan all sources; the job's number."""

    def outcome(self, user: int, job: int) -> Answer | None:
        """How this job ended, in whole; None if it has not, or is nothing that this user may know."""

    def cancel(self, job: int = 0) -> bool:
        """Stop this job as soon as nothing is left half-done, or take it back; 0: whatever is at work. False: nothing is."""

    def pause(self) -> None:
        """Rest until :meth:`resume`: the work in hand stands still, nothing new is begun."""

    def resume(self) -> None:
        """Go on."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Let the listener hear everything from now on; the result ends that."""
