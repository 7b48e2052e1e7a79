"""Read again what is believed: files to which something was done without their size and time telling, renamed and linked
ones, those that somebody else's catalogue told of, and those that were read too soon after a write.

A scan does so within a budget, so that a changed mode of ten terabytes holds up no session. The rest is for the time in
which nothing else is to be done: there it is read past the page cache and in pieces, and work that comes ends it soon.
What holds something else than believed has changed: that is a new version, and never rot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import SourceReading, Stop
from distbackupd.engine.pulse import Meter, handfuls, work_in_threads
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.errors import EngineBusy, Interrupted, SourceChanged, SourceTrouble
from distbackupd.model.events import ContentsChanged, FileSkipped
from distbackupd.model.files import UnconfirmedFile
from distbackupd.model.rot import Confirmation, Reading
from distbackupd.planning.settling import BUDGET, chosen_to_confirm

_PAGE_FILES = 1000
_TASK_FILES = 64
_TASK_BYTES = 16 << 20
_RECORD_FILES = 2000
_SETTLING_NS = 120 * 10**9
"""After so long what was read too soon can be settled by another reading."""
_ANY = (1 << 63) - 1
_NEVER_NS = -(1 << 63)

Outcome = Reading | SourceTrouble


@dataclass(slots=True)
class Confirmed:
    """How many files were read again, how many of them changed, and how many others cannot be read."""

    files: int = 0
    changed: int = 0
    skipped: int = 0
    example: bytes = b""
    """Virtual path of one that changed."""


def confirm(bench: Bench, tree: VirtualTree, known_before: int, stop: Stop, everything: bool = False) -> Confirmed:
    """Read what is believed, as much as a scan may, or ``everything``. Raises Interrupted; what was read is recorded.

    What was read too soon is read again if it was so before this scan, in which ``known_before`` was the newest row.
    """
    done = Confirmed()
    count, size = bench.catalogue.unconfirmed.total()
    if not count:
        return done
    chosen: Iterable[UnconfirmedFile] = _waiting(bench, _ANY, known_before, _NEVER_NS)
    if everything:
        chosen = chosen_to_confirm(chosen, None)
    else:
        chosen = few = list(chosen_to_confirm(chosen, BUDGET))
        count, size = len(few), sum(file.size for file in few)
        if not few:
            return done
    meter = Meter(stop)
    bench.reporter.begin("reading again", count, size)
    read: list[Confirmation] = []
    try:
        for results in work_in_threads(
            handfuls(chosen, lambda file: file.size, _TASK_FILES, _TASK_BYTES),
            lambda files: _read_all(bench, tree, files, meter),
            meter,
            bench.reporter,
        ):
            for file, outcome in results:
                _take(bench, file, outcome, read, done)
            last = results[-1][0].path if results else b""
            bench.reporter.advance(len(results), sum(file.size for file, _ in results), last)
            if len(read) >= _RECORD_FILES:
                _record(bench, read, done)
    finally:
        bench.reporter.end()
        _record(bench, read, done)
        _tell_changed(bench, done)
    if stop.is_set():
        raise Interrupted("stopped while files were read again; what was read is recorded, the next scan goes on there")
    return done


def _tell_changed(bench: Bench, done: Confirmed) -> None:
    if done.changed:
        bench.reporter.tell(ContentsChanged(done.example, done.changed))


def _waiting(bench: Bench, before: int, again: int, again_ns: int) -> Iterator[UnconfirmedFile]:
    while page := bench.catalogue.unconfirmed.to_read(before, again, again_ns, _PAGE_FILES):
        yield from page
        before = page[-1].row


def _read_all(
    bench: Bench, tree: VirtualTree, files: list[UnconfirmedFile], meter: Meter
) -> list[tuple[UnconfirmedFile, Outcome]]:
    with bench.tree.folders_kept_open():
        return list(_outcomes(bench, tree, files, meter))


def _outcomes(
    bench: Bench, tree: VirtualTree, files: list[UnconfirmedFile], meter: Meter
) -> Iterator[tuple[UnconfirmedFile, Outcome]]:
    for file in files:
        if meter.is_set():
            break
        try:
            with meter.lane(file.size):
                found = _begin(bench, tree, file, past_cache=False).go_on(meter)
        except SourceTrouble as trouble:
            # Whether it was deleted or its source is not mounted the walk has told.
            yield file, SourceChanged(str(trouble)) if _is_gone(bench, tree, file) else trouble
            continue
        if found is None:
            break
        yield file, found


def _is_gone(bench: Bench, tree: VirtualTree, file: UnconfirmedFile) -> bool:
    real = tree.real_path(file.path)
    try:
        return real is None or bench.tree.identify(real) is None
    except SourceTrouble:
        return False


def _begin(bench: Bench, tree: VirtualTree, file: UnconfirmedFile, past_cache: bool) -> SourceReading:
    real = tree.real_path(file.path)
    if real is None:
        raise SourceChanged("its source is not mapped any more")
    # Whatever has its name now, with its size and time: that is what is to be known.
    return bench.tree.reading(real, file.size, file.mtime_ns, 0, past_cache)


def _take(bench: Bench, file: UnconfirmedFile, outcome: Outcome, read: list[Confirmation], done: Confirmed) -> None:
    if isinstance(outcome, SourceChanged):
        return  # the next scan sees to that
    if isinstance(outcome, SourceTrouble):
        trouble = str(outcome)
    elif not outcome.digest:
        trouble = "its medium cannot read it"
    else:
        done.files += 1
        read.append(Confirmation(file, outcome))
        return
    done.skipped += 1
    bench.reporter.tell(FileSkipped(file.path, trouble))


def _record(bench: Bench, read: list[Confirmation], done: Confirmed) -> None:
    if read:
        changed = bench.catalogue.unconfirmed.record(read, bench.clock.now())
        done.changed += len(changed)
        done.example = done.example or b"".join(changed[:1])
        read.clear()


@dataclass(slots=True)
class _UnderWay:
    file: UnconfirmedFile
    reading: SourceReading


class Confirmer:
    """Goes through what waits in small goes. What it is in the middle of, it keeps in mind from one go to the next."""

    def __init__(
        self, bench: Bench, locked: Callable[[], AbstractContextManager[object]], now_ns: Callable[[], int]
    ) -> None:
        """``locked`` keeps other engines off the catalogue while something is recorded; raises EngineBusy."""
        self._bench = bench
        self._locked = locked
        self._now_ns = now_ns
        self._below = _ANY
        self._under_way: _UnderWay | None = None

    def go_on(self, stop: Stop) -> bool:
        """Read until ``stop`` is set, or until all was tried once; whether anything was read.

        Where another engine is at work nothing is recorded, and it is read again.
        """
        if not self._bench.catalogue.unconfirmed.total()[0]:
            self._below, self._under_way = _ANY, None
            return False
        tree = VirtualTree(self._bench.catalogue.sources.all(), self._bench.catalogue.sources.settings())
        read: list[Confirmation] = []
        waiting = _waiting(self._bench, self._below, 0, self._now_ns() - _SETTLING_NS)
        for file in chosen_to_confirm(waiting, None):
            if stop.is_set() or not self._read(file, tree, read, stop):
                break
            self._below = file.row
        else:
            self._below = _ANY
        worked = bool(read) or self._under_way is not None
        self._remember(read)
        return worked

    def _read(self, file: UnconfirmedFile, tree: VirtualTree, read: list[Confirmation], stop: Stop) -> bool:
        """Read one file; False: time is up before it was read to its end."""
        try:
            if self._under_way is None or self._under_way.file != file:
                self._under_way = _UnderWay(file, _begin(self._bench, tree, file, past_cache=True))
            found = self._under_way.reading.go_on(stop)
        except SourceTrouble:
            # It changed, or its source is not there now: the scan sees to that, and tells.
            self._under_way = None
            return True
        if found is None:
            return False
        self._under_way = None
        if found.digest:
            read.append(Confirmation(file, found))
        return True

    def _remember(self, read: list[Confirmation]) -> None:
        if not read:
            return
        done = Confirmed()
        try:
            with self._locked():
                _record(self._bench, read, done)
                if done.changed:
                    self._bench.catalogue.files.finish_scan(self._bench.clock.now(), whole=False)
        except EngineBusy:
            self._below = _ANY
            return
        _tell_changed(self._bench, done)
