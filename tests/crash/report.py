"""The table that a run prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.crash.cuts import LOST, UNUSABLE
from tests.crash.worker import Tally

_HEAD = ("file system", "fault", "cuts", "devices", "states", "broken by the file system", "losses")


class Report:
    """Adds up what came of all steps. ``cuts``, ``losses``: so far."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Counter[str]] = {}
        self._scenes: set[tuple[str, str]] = set()
        self.cuts = self.losses = 0
        self.processor_seconds = 0.0

    def add(self, tally: Tally) -> None:
        """What came of one step."""
        self._scenes.add((tally.filesystem, tally.scene))
        self.processor_seconds += tally.processor_seconds
        for (kind, result), count in tally.results.items():
            row = self._rows.setdefault((tally.filesystem, kind), Counter())
            row["cuts"] += count
            row["broken by the file system"] += count * (result == UNUSABLE)
            row["losses"] += count * (result == LOST)
            self.cuts += count
            self.losses += count * (result == LOST)
        for kind in tally.images:
            row = self._rows.setdefault((tally.filesystem, kind), Counter())
            row["devices"] += tally.images[kind]
            row["states"] += tally.worlds[kind]

    def table(self, order: Sequence[str]) -> str:
        """``devices``: how many differed in any byte; ``states``: how many differed to whoever reads them after mounting;
        each of those was gone on with.
        """
        rows: list[tuple[str, ...]] = [_HEAD]
        ranked = sorted(self._rows.items(), key=lambda item: (order.index(item[0][0]), -item[1]["cuts"]))
        rows += [(*key, *(f"{row[name]:,}" for name in _HEAD[2:])) for key, row in ranked]
        total = sum(self._rows.values(), Counter())
        rows.append(("all", "", *(f"{total[name]:,}" for name in _HEAD[2:])))
        return f"{_laid_out(rows)}\n{len(self._scenes):,} operations were cut, each in its own history"


def _laid_out(rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(widths[i]) if i < 2 else cell.rjust(widths[i]) for i, cell in enumerate(row)).rstrip()
        for row in rows
    )
