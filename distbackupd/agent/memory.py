"""Which event was shown last, so that the next login tells what was missed and nothing twice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def state_folder(environment: Mapping[str, str]) -> Path:
    """``$XDG_STATE_HOME/distbackup``; a relative path there is to be ignored, says the specification."""
    home = environment.get("XDG_STATE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path(environment.get("HOME") or os.path.expanduser("~")) / ".local/state"
    return base / "distbackup"


class Memory:
    """The number of the last event that was shown, in a file. Nothing here raises: forgetting costs a notification."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "last-event"
        self._beside = folder / "last-event.new"
        self._forget_unfinished()
        self._known = self._read()

    @property
    def last(self) -> int | None:
        """None: nothing was ever shown to this person."""
        return self._known

    def keep(self, number: int) -> None:
        """Remember this number."""
        if number == self._known:
            return
        self._known = number
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # No flush to the disk: what a power cut takes is told once more.
            self._beside.write_text(f"{number}\n", encoding="ascii")
            self._beside.replace(self._path)
        except OSError:
            # A home that is full or read-only: until the next login it is known here.
            self._forget_unfinished()

    def _forget_unfinished(self) -> None:
        with suppress(OSError):
            self._beside.unlink()

    def _read(self) -> int | None:
        try:
            return int(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
