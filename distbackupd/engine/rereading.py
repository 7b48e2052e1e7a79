"""Read the sources again, slowly and when nothing else is to be done: do their media still hold what was written?

A file that is as it was in size, times and inode but not in content is rotten. It is read twice before it is believed.
What was not as it was, or is not confirmed, changed, and is left to :mod:`distbackupd.engine.confirming`.
What a medium cannot read counts only when another file on the same device can be read afterwards: a device that is gone
is no rot.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import SourceReading, Stop
from distbackupd.engine.rot import record_rot
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.errors import EngineBusy, SourceTrouble
from distbackupd.model.rot import KnownContent, Reading
from distbackupd.model.sources import RealPath
from distbackupd.planning.rereading import Round, bytes_due, is_next_round_due
from distbackupd.planning.settling import is_rot

SLOT_SECONDS = 15.0
"""The longest time for which files are read before the daemon looks around again; about a quarter of the time is read."""

_FACT = "rereading"
_PAGE_FILES = 200


@dataclass(slots=True)
class _Slot:
    """What one go found, to be recorded at its end."""

    state: Round
    rotten: list[tuple[KnownContent, Reading]] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _UnderWay:
    """A file that is being read. ``first``: what the reading before gave, which was not what is known."""

    file: KnownContent
    reading: SourceReading
    first: Reading | None = None


class Rereader:
    """Goes through the sources in small goes. What it is in the middle of, it keeps in mind from one go to the next."""

    def __init__(self, bench: Bench, locked: Callable[[], AbstractContextManager[object]]) -> None:
        """``locked`` keeps other engines off the catalogue while something is recorded; raises EngineBusy."""
        self._bench = bench
        self._locked = locked
        self._under_way: _UnderWay | None = None
        self._suspects: list[tuple[KnownContent, Reading]] = []

    def go_on(self, period: float, stop: Stop) -> bool:
        """Read what is due of a round that takes ``period`` seconds, at most for SLOT_SECONDS; whether more is due.

        Ends soon after ``stop`` is set. Where another engine is at work nothing is recorded, and it is read again.
        """
        now = self._bench.clock.now()
        state = self._recall()
        if state is not None and state.began > now:
            # The clock was ahead then.
            state = state._replace(began=now)
        if is_next_round_due(state, now, period):
            state = Round(now, self._bench.catalogue.rot.total())
            self._remember(_Slot(state))
        if state is None or not bytes_due(state, now, period):
            return False
        slot = _Slot(state._replace(busy=True))
        until = Until(self._bench, stop)
        tree = VirtualTree(self._bench.catalogue.sources.all(), self._bench.catalogue.sources.settings())
        for file in self._files(slot.state.cursor):
            if not bytes_due(slot.state, now, period):
                slot.state = slot.state._replace(busy=False)
                break
            if until.is_set() or not self._read(file, tree.real_path(file.path), slot, until):
                break
            slot.state = slot.state._replace(cursor=file.file, read=slot.state.read + file.size)
        else:
            slot.state = slot.state._replace(busy=False, over=True)
        self._remember(slot)
        return slot.state.busy

    def _files(self, cursor: int) -> Iterator[KnownContent]:
        while page := self._bench.catalogue.rot.to_read(cursor, _PAGE_FILES):
            yield from page
            cursor = page[-1].file

    def _read(self, file: KnownContent, real: RealPath | None, slot: _Slot, until: Stop) -> bool:
        """Read one file; False: time is up before it was read to its end, or a second time where that is needed."""
        if real is None:
            return True
        if self._under_way is None or self._under_way.file != file:
            self._under_way = _UnderWay(file, self._begin(real, file))
        under_way = self._under_way
        try:
            while (found := under_way.reading.go_on(until)) is not None:
                if found.digest in (file.digest, b"") or _agree(found, under_way.first):
                    self._judge(file, found, slot)
                    break
                under_way.first, under_way.reading = found, self._begin(real, file)
        except SourceTrouble:
            # It changed, or its source is not there now: the scan sees to that.
            self._under_way = None
            return True
        if found is not None:
            self._under_way = None
        return found is not None

    def _begin(self, real: RealPath, file: KnownContent) -> SourceReading:
        return self._bench.tree.reading(real, file.size, file.mtime_ns, file.inode)

    def _judge(self, file: KnownContent, found: Reading, slot: _Slot) -> None:
        is_believed = is_rot(file.ctime_ns, True, found)
        if not found.digest:
            if is_believed:
                self._suspects.append((file, found))
            return
        answered = [suspect for suspect in self._suspects if suspect[0].device == file.device]
        slot.rotten += answered
        self._suspects = [suspect for suspect in self._suspects if suspect not in answered]
        if found.digest != file.digest and is_believed:
            slot.rotten.append((file, found))
        elif found.digest != file.digest:
            slot.changed.append(file.file)
        elif file.is_rotten:
            slot.right.append(file.file)

    def _recall(self) -> Round | None:
        kept = self._bench.catalogue.sessions.recall(_FACT)
        return Round(**json.loads(kept)) if kept else None

    def _remember(self, slot: _Slot) -> None:
        try:
            with self._locked():
                for file, reading in slot.rotten:
                    record_rot(self._bench, file.path, file.object_id, reading)
                if slot.right:
                    self._bench.catalogue.rot.resolve(slot.right)
                if slot.changed:
                    self._bench.catalogue.unconfirmed.doubt(slot.changed)
                self._bench.catalogue.sessions.remember(_FACT, json.dumps(slot.state._asdict()))
        except EngineBusy:
            return


def _agree(found: Reading, first: Reading | None) -> bool:
    return first is not None and (found.digest, found.entry) == (first.digest, first.entry)


class Until:
    """A stop that is set when another is, or when the time is up."""

    def __init__(self, bench: Bench, stop: Stop) -> None:
        self._clock = bench.clock
        self._stop = stop
        self._deadline = self._clock.monotonic() + SLOT_SECONDS

    def is_set(self) -> bool:
        """Whether to stop."""
        return self._stop.is_set() or self._clock.monotonic() >= self._deadline
