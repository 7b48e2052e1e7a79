"""What every event is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

Figure = int | float | bool

THE_JOURNAL = "'sudo journalctl -t distbackupd' tells more"
"""Where root reads what is not for everybody."""


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all that use cases report.

    An event has two forms. The whole one, ``sentence`` and ``fields``, is root's: the journal, root's terminal, and whom
    polkit lets read it. The public one is for every user and program of the machine, so it holds names of disks, figures
    and times, and nothing else: no path, no UUID, no digest, no words that came from a file, a disk or another program.
    A class without a ``public_sentence`` is told to nobody else, which is how each new one begins.
    """

    MESSAGE_ID: ClassVar[str] = ""
    severity: ClassVar[int] = 6

    @property
    def sentence(self) -> str:
        """What is told to people who may read everything."""
        raise NotImplementedError

    @property
    def public_sentence(self) -> str:
        """What is told to everybody; empty: this event is not."""
        return ""

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Counts, sizes, seconds and yes or no, by their names: what machines may know whoever runs them."""
        return {}

    @property
    def fields(self) -> dict[str, str]:
        """Names (without the ``DISTBACKUP_`` prefix) and values for machines."""
        return self.public_fields

    @property
    def public_fields(self) -> dict[str, str]:
        """Those of ``fields`` that everybody may read."""
        return written(self.figures)


@dataclass(frozen=True, slots=True)
class DiskEvent(Event):
    """Base of what concerns one backup disk, by its name and its own UUID."""

    disk: str
    uuid: str

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid, **written(self.figures)}

    @property
    def public_fields(self) -> dict[str, str]:
        return {"DISK": self.disk, **written(self.figures)}


def written(figures: Mapping[str, Figure]) -> dict[str, str]:
    """Figures as fields have them."""
    return {name: _written(figure) for name, figure in figures.items()}


def _written(figure: Figure) -> str:
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    return f"{figure:.1f}" if isinstance(figure, float) else str(figure)
