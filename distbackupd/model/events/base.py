"""What every event is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all that use cases report."""

    MESSAGE_ID: ClassVar[str] = ""
    severity: ClassVar[int] = 6

    @property
    def sentence(self) -> str:
        """What is told to people."""
        raise NotImplementedError

    @property
    def fields(self) -> dict[str, str]:
        """Names (without the ``DISTBACKUP_`` prefix) and values for machines."""
        return {}


@dataclass(frozen=True, slots=True)
class DiskEvent(Event):
    """Base of what concerns one backup disk, by its name and its own UUID."""

    disk: str
    uuid: str

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid}
