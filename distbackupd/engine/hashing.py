"""Hash what a scan found new or changed, in worker threads, and record it in durable batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import Stop
from distbackupd.engine.pulse import Meter, handfuls, work_in_threads
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.errors import Interrupted, SourceChanged, SourceTrouble
from distbackupd.model.events import FileSkipped
from distbackupd.model.files import HashedContent, HashedFile, TakenContent, WaitingFile
from distbackupd.model.problems import FailedReading

_TASK_FILES = 64
_TASK_BYTES = 16 << 20
_PAGE_FILES = 8000
_RECORD_SECONDS = 5.0
_PAGE_BYTES = 4 << 30
_WORTH_A_LOOK = 1 << 20
MOST_HOLES = 2 << 40
"""Bytes of holes that are hashed in a scan of everything, for each owner: about 20 minutes."""
FEW_HOLES = 64 << 30
"""The same in a scan of what was touched, which a session waits for: less than a minute."""
TOO_HOLLOW = "it consists of more holes than are read of one user's files in a scan"


@dataclass(slots=True)
class HashingOutcome:
    """``skipped`` files could not be read and are reported; ``changing`` ones want another look."""

    files: int = 0
    read_bytes: int = 0
    skipped: int = 0
    changing: list[WaitingFile] = field(default_factory=list)


def hash_waiting(bench: Bench, tree: VirtualTree, stop: Stop, most_holes: int = MOST_HOLES) -> HashingOutcome:
    """Hash every waiting file, but not more than ``most_holes`` bytes of holes for each owner.

    A file of terabytes costs nobody anything if it is one hole, and would keep a disk waiting for hours; so what goes
    beyond is told, and tried again in the next scan. Raises Interrupted when stopped; what was hashed is recorded.
    """
    files = bench.catalogue.files
    count, total = files.waiting_total()
    outcome = HashingOutcome()
    if not count:
        return outcome
    meter = Meter(stop)
    spared: list[WaitingFile] = []
    waiting = _without_holes(bench, tree, files.waiting(), most_holes, spared)
    bench.reporter.begin("hashing", count, total)
    try:
        while not stop.is_set() and (page := _next_page(waiting)):
            recorder = _Recorder(bench)
            try:
                for results in work_in_threads(
                    handfuls(page, lambda file: file.size, _TASK_FILES, _TASK_BYTES),
                    lambda chunk: _hash_chunk(bench, tree, chunk, meter),
                    meter,
                    bench.reporter,
                    meanwhile=recorder.record_if_due,
                ):
                    recorder.hashed.extend(_accept(bench, results, outcome, recorder.failed))
                    bench.reporter.advance(len(results), meter.drain(), results[-1][0].path if results else b"")
            finally:
                recorder.record()
    finally:
        bench.reporter.end()
        _leave(bench, spared, outcome)
    if stop.is_set():
        raise Interrupted("hashing was stopped; what was hashed is recorded, the next scan goes on there")
    return outcome


def _without_holes(
    bench: Bench, tree: VirtualTree, files: Iterator[WaitingFile], most: int, spared: list[WaitingFile]
) -> Iterator[WaitingFile]:
    """Those files whose owner's holes are not too much; the others are ``spared``."""
    holes: Counter[int | None] = Counter()
    for file in files:
        if file.size >= _WORTH_A_LOOK and (real := tree.real_path(file.path)) is not None:
            found = bench.tree.holes(real)
            if found and holes[file.owner] + found > most:
                spared.append(file)
                continue
            holes[file.owner] += found
        yield file


def _leave(bench: Bench, spared: Sequence[WaitingFile], outcome: HashingOutcome) -> None:
    for file in spared:
        bench.reporter.tell(FileSkipped(file.path, TOO_HOLLOW))
    outcome.skipped += len(spared)
    if spared:
        failures = [FailedReading(file.ticket, TOO_HOLLOW, changing=False) for file in spared]
        bench.catalogue.problems.record_failures(failures, bench.clock.now())


class _Recorder:
    """Records what came of reading at the end of a page, and before if that takes long: a file may be read for hours."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._recorded = bench.clock.monotonic()
        self.hashed: list[HashedFile] = []
        self.failed: list[FailedReading] = []

    def record_if_due(self) -> None:
        if self._bench.clock.monotonic() - self._recorded >= _RECORD_SECONDS:
            self.record()

    def record(self) -> None:
        now = self._bench.clock.now()
        problems = self._bench.catalogue.problems
        if self.hashed:
            flags = self._bench.tree.take_inode_flags()
            if flags:
                self._bench.catalogue.files.note_inode_flags(flags)
            self._bench.catalogue.files.record_hashes(self.hashed, now)
            problems.forget_read()
            self.hashed.clear()
        if self.failed:
            problems.record_failures(self.failed, now)
            self.failed.clear()
        self._recorded = self._bench.clock.monotonic()


def _accept(
    bench: Bench,
    results: Sequence[tuple[WaitingFile, HashedContent | TakenContent | SourceTrouble]],
    outcome: HashingOutcome,
    failed: list[FailedReading],
) -> Iterator[HashedFile]:
    """Count and report; the files whose hash is known now. What ``failed`` is added there."""
    for waiting, result in results:
        if isinstance(result, TakenContent):
            outcome.files += 1
            outcome.read_bytes += result.size
            bench.catalogue.restless.amend_waiting(waiting.ticket, result)
            # What is not at rest is read in each scan anyway.
            yield HashedFile(waiting.ticket, result.digest, settled=not result.at_rest)
        elif isinstance(result, HashedContent):
            outcome.files += 1
            outcome.read_bytes += waiting.size
            yield HashedFile(waiting.ticket, *result)
        elif isinstance(result, SourceChanged) and not waiting.restless:
            outcome.changing.append(waiting)
        else:
            outcome.skipped += 1
            failed.append(FailedReading(waiting.ticket, str(result), changing=False))
            bench.reporter.tell(FileSkipped(waiting.path, str(result)))


def _next_page(waiting: Iterator[WaitingFile]) -> list[WaitingFile]:
    """So many files as are hashed and recorded in one go.

    Reading and writing rows while workers run would cost more than letting the workers wait: SQLite gives up the
    interpreter's lock at each row and has to fight for it again.
    """
    page: list[WaitingFile] = []
    size = 0
    while len(page) < _PAGE_FILES and size < _PAGE_BYTES and (file := next(waiting, None)) is not None:
        page.append(file)
        size += file.size
    return page


def _hash_chunk(
    bench: Bench, tree: VirtualTree, chunk: list[WaitingFile], meter: Meter
) -> list[tuple[WaitingFile, HashedContent | TakenContent | SourceTrouble]]:
    with bench.tree.folders_kept_open():
        return list(_hashed(bench, tree, chunk, meter))


def _hashed(
    bench: Bench, tree: VirtualTree, chunk: list[WaitingFile], meter: Meter
) -> Iterator[tuple[WaitingFile, HashedContent | TakenContent | SourceTrouble]]:
    for waiting in chunk:
        if meter.is_set():
            break
        real = tree.real_path(waiting.path)
        assert real is not None
        found: HashedContent | TakenContent | SourceTrouble
        try:
            with meter.lane(waiting.size):
                if waiting.restless:
                    found = bench.tree.take_file(real, waiting, meter)
                else:
                    found = bench.tree.hash_file(real, waiting, meter)
        except SourceTrouble as trouble:
            found = trouble
        except Interrupted:
            break
        except Exception as error:  # noqa: BLE001 - whatever one file is, the others are read
            found = SourceTrouble(f"it cannot be read: {type(error).__name__}, {error}")
        yield waiting, found
