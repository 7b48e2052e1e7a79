"""What holds for all that goes on: the brake, a pause; and remarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from distbackupd.model.events.base import THE_JOURNAL, DiskEvent, Event

BRAKE_IS_ON = "the brake is on: the sources look wrong, so nothing is deleted on any disk; 'sudo dsb brake' tells why"
"""What everybody is told of it."""


@dataclass(frozen=True, slots=True)
class Braked(DiskEvent):
    """The sources look so wrong that nothing is deleted on any disk. ``reason`` tells why and what to do.

    ``disk`` is empty where a scan found it; a session tells it again, of its disk.
    """

    MESSAGE_ID: ClassVar[str] = "b1d0f7a43c5e4a0d8a6c94e2f3b7c8d5"
    severity: ClassVar[int] = 4
    reason: str

    @property
    def sentence(self) -> str:
        return f"{self.disk}: {self.reason}" if self.disk else self.reason

    @property
    def public_sentence(self) -> str:
        return f"{self.disk}: {BRAKE_IS_ON}" if self.disk else BRAKE_IS_ON


@dataclass(frozen=True, slots=True)
class BrakeReleased(Event):
    """Somebody let go of the brake."""

    MESSAGE_ID: ClassVar[str] = "4f6a2c9e8b1d4735a0e3d7c5f9b2e841"
    severity: ClassVar[int] = 5

    @property
    def sentence(self) -> str:
        return "the brake is off: what changed until now is deleted on disks as usual"

    @property
    def public_sentence(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class BrakeLifted(Event):
    """A scan of everything found what some folders had lost."""

    MESSAGE_ID: ClassVar[str] = "6b0d4b7b1a1f4f0f9c3de2a58c7764e1"
    severity: ClassVar[int] = 5

    @property
    def sentence(self) -> str:
        return "the brake is off: a scan of everything found that the files only moved"

    @property
    def public_sentence(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class ClockWrong(Event):
    """The machine's clock jumped, or is behind. ``reason`` tells what is done about it and what to do."""

    MESSAGE_ID: ClassVar[str] = "c0a8f1e27d3b4d6fb5a9e4c21f08d37a"
    severity: ClassVar[int] = 4
    reason: str

    @property
    def sentence(self) -> str:
        return self.reason

    @property
    def public_sentence(self) -> str:
        return f"the machine's clock is wrong, or it jumped; {THE_JOURNAL}"


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """Somebody asked for rest: nothing is read, copied or scanned until :class:`Resumed`."""

    MESSAGE_ID: ClassVar[str] = "5d8f3e1b7c9a4d02b6a1e4f7c8d9b0a2"
    severity: ClassVar[int] = 5

    @property
    def sentence(self) -> str:
        return "paused; 'dsb resume' goes on"

    @property
    def public_sentence(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The pause is over."""

    MESSAGE_ID: ClassVar[str] = "e7c4b1a09f6d4385a2d3c5b8f1e0d796"
    severity: ClassVar[int] = 5

    @property
    def sentence(self) -> str:
        return "going on after the pause"

    @property
    def public_sentence(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class Remark(Event):
    """Something worth knowing that needs no action now."""

    MESSAGE_ID: ClassVar[str] = "0b14ecd1abf142f5867a5e43bf81eb82"
    severity: ClassVar[int] = 5
    text: str

    @property
    def sentence(self) -> str:
        return self.text
