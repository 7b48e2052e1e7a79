"""Scan: walk the sources, record what they hold, hash what is new or changed.

One folder at a time is compared with the catalogue, so memory does not grow with the tree. What cannot be trusted or
read stays as it was known. Interrupted at any moment, the next scan goes on: what is recorded is not read again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from distbackupd.engine import brake_memory
from distbackupd.engine.attendance import distrust_folder, distrust_members, distrust_source
from distbackupd.engine.bench import Bench
from distbackupd.engine.braking import brake_after
from distbackupd.engine.brevity import Brief
from distbackupd.engine.confirming import confirm
from distbackupd.engine.hashing import FEW_HOLES, MOST_HOLES, hash_waiting
from distbackupd.engine.leaving_out import tell_left_out
from distbackupd.engine.owners import record_owner_names
from distbackupd.engine.ports import FolderPart, Stop
from distbackupd.engine.recording import KnownDigest, ScannedFolder, record_comparison
from distbackupd.engine.scan_failures import failures_remembered
from distbackupd.engine.timekeeping import LAST_SCAN, begin_after
from distbackupd.engine.virtual_tree import FolderContext, VirtualTree, join, parent
from distbackupd.model.errors import Interrupted, SourceTrouble
from distbackupd.model.events import FileSkipped, Remark, ScanFinished, ScanStarted, SourceLocked
from distbackupd.model.files import Entry, EntryFlag, EntryKind, KnownEntry, ProblemKind, WaitingFile
from distbackupd.model.problems import FailedReading, FoundProblem
from distbackupd.model.sources import RealPath
from distbackupd.model.text import printable
from distbackupd.planning.brake import BrakeThresholds
from distbackupd.planning.comparison import FolderComparison, compare_folder

SCANNED = "scanned"
"""Fact: the fingerprint of the sources and settings that it saw."""

CHANGED = "it changed while it was read"

MARKED = "it holds a .distbackup.skip"
_NOT_READ = (ProblemKind.UNREAD, ProblemKind.SIDE_FILE, None)

_COMMIT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """``folders``: real folders to look at again (None: everything). ``deep``: with all that is below them.

    ``ignore_lock``: walk locked folders too, and believe an empty source. ``simulate``: report, record nothing.
    ``brake``: when nothing may be deleted any more. ``known_digest``: what somebody else knows of contents; that is
    believed until it is confirmed. ``confirm_all``: read again whatever is believed, however much that is.
    """

    folders: Sequence[bytes] | None = None
    deep: bool = False
    ignore_lock: bool = False
    simulate: bool = False
    brake: BrakeThresholds = field(default_factory=BrakeThresholds)
    known_digest: KnownDigest = lambda _path, _entry: None
    confirm_all: bool = False


@dataclass(slots=True)
class _Tally:
    """What one scan counted."""

    entries: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    skipped: int = 0
    locked: int = 0
    hashed: int = 0
    hashed_bytes: int = 0
    confirmed: int = 0
    changing: list[WaitingFile] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Visit:
    """A folder still to be walked. ``deep``: with known folders below it; new ones are always walked."""

    virtual: bytes
    real: RealPath
    context: FolderContext
    deep: bool
    above: tuple[tuple[int, int], ...] = ()
    seen: tuple[int, int] | None = None
    """Device and inode that the listing of the folder above told."""


class _Below(NamedTuple):
    """A folder that is to be visited, as short as it can be said: there may be a million of them."""

    name: bytes
    device: int
    inode: int
    priority: int


def scan(bench: Bench, options: ScanOptions, stop: Stop) -> ScanFinished:
    """Bring the catalogue up to date with the sources.

    Source trouble is reported, listed and skipped. Raises Interrupted when stopped; what was recorded until then stays.
    Any other error is told and remembered until a whole scan comes to its end.
    """
    with nullcontext() if options.simulate else failures_remembered(bench, whole=options.folders is None):
        brief = Brief(bench.reporter)
        try:
            with bench.tree.folders_kept_open():
                return _scan(replace(bench, reporter=brief), options, stop)
        finally:
            brief.sum_up()


def _scan(bench: Bench, options: ScanOptions, stop: Stop) -> ScanFinished:
    began = bench.clock.monotonic()
    begin_after(bench, brake_memory.recall(bench).baseline)
    tree = VirtualTree(bench.catalogue.sources.all(), bench.catalogue.sources.settings())
    tally = _Tally()
    whole = options.folders is None
    if whole:
        bench.reporter.tell(ScanStarted(len(tree.sources)))
    files = bench.catalogue.files
    files.start_scan()
    known_before = bench.catalogue.unconfirmed.newest()
    try:
        scanner = _Scanner(bench, tree, options, stop, tally)
        if whole:
            scanner.forget_former_sources()
        scanner.walk(scanner.roots() if whole else scanner.touched(options.folders or ()))
        if whole:
            mapped = [source.virtual_path for source in tree.sources]
            tally.gone += files.forget_below(b"/", mapped, scanner.now)
            bench.catalogue.problems.forget_below(b"/", mapped)
            bench.catalogue.problems.forget_gone()
    except BaseException:
        files.rollback() if options.simulate else files.commit()
        raise
    if options.simulate:
        _, tally.hashed_bytes = files.waiting_total()
        files.rollback()
    else:
        record_owner_names(bench, scanner.now)
        files.commit()
        tell_left_out(bench, scanner.left_out)
        _hash(bench, tree, tally, stop, MOST_HOLES if whole else FEW_HOLES)
        if tally.changing:
            _look_again(bench, tree, options, tally, stop)
        _confirm(bench, tree, options, known_before, tally, stop)
        files.finish_scan(bench.clock.now(), whole)
        if whole:
            bench.catalogue.sessions.remember(LAST_SCAN, str(bench.clock.now()))
            bench.catalogue.sessions.remember(SCANNED, tree.fingerprint())
        brake_after(bench, whole, options.brake)
    unconfirmed, unconfirmed_bytes = bench.catalogue.unconfirmed.total()
    finished = ScanFinished(
        entries=tally.entries,
        new=tally.new,
        changed=tally.changed,
        gone=tally.gone,
        hashed=tally.hashed,
        hashed_bytes=tally.hashed_bytes,
        skipped=tally.skipped,
        locked=tally.locked,
        seconds=bench.clock.monotonic() - began,
        confirmed=tally.confirmed,
        unconfirmed=unconfirmed,
        unconfirmed_bytes=unconfirmed_bytes,
    )
    if whole or tally.new or tally.changed or tally.gone or tally.skipped:
        bench.reporter.tell(finished)
    return finished


def _hash(bench: Bench, tree: VirtualTree, tally: _Tally, stop: Stop, most_holes: int) -> None:
    outcome = hash_waiting(bench, tree, stop, most_holes)
    tally.hashed += outcome.files
    tally.hashed_bytes += outcome.read_bytes
    tally.skipped += outcome.skipped
    tally.changing = outcome.changing


def _look_again(bench: Bench, tree: VirtualTree, options: ScanOptions, tally: _Tally, stop: Stop) -> None:
    """Files that changed between the walk and the hashing get one more try; then they are left for the next scan."""
    folders = {parent(waiting.path) for waiting in tally.changing}
    again = _Tally()
    files = bench.catalogue.files
    files.start_scan()
    only = {waiting.path for waiting in tally.changing}
    scanner = _Scanner(bench, tree, ScanOptions(ignore_lock=options.ignore_lock), stop, again, only)
    scanner.walk([visit for folder in sorted(folders) if (visit := scanner.nearest(folder)) is not None])
    files.commit()
    _hash(bench, tree, again, stop, FEW_HOLES)
    tally.hashed += again.hashed
    tally.hashed_bytes += again.hashed_bytes
    tally.skipped += again.skipped + len(again.changing)
    tally.locked += again.locked
    for waiting in again.changing:
        bench.reporter.tell(FileSkipped(waiting.path, CHANGED))
    if again.changing:
        failures = [FailedReading(waiting.ticket, CHANGED, changing=True) for waiting in again.changing]
        bench.catalogue.problems.record_failures(failures, bench.clock.now())


def _confirm(bench: Bench, tree: VirtualTree, options: ScanOptions, known_before: int, tally: _Tally, stop: Stop) -> None:
    confirmed = confirm(bench, tree, known_before, stop, options.confirm_all)
    tally.changed += confirmed.changed
    tally.confirmed += confirmed.files
    tally.skipped += confirmed.skipped


class _Scanner:
    def __init__(
        self,
        bench: Bench,
        tree: VirtualTree,
        options: ScanOptions,
        stop: Stop,
        tally: _Tally,
        only: Collection[bytes] | None = None,
    ) -> None:
        """``only``: no other files are to be read, and what is the matter in their folders is told already."""
        self._bench = bench
        self._only = only
        self._files = bench.catalogue.files
        self._tree = tree
        self._options = options
        self._stop = stop
        self._tally = tally
        self._known_folders: dict[bytes, dict[bytes, KnownEntry]] = {}
        self.left_out: list[bytes] = []
        """Virtual folders in which a backup disk's layout, or the catalogue, was met."""
        self._is_first = not bench.catalogue.unconfirmed.newest()
        self.now = bench.clock.now()

    def forget_former_sources(self) -> None:
        """What was mapped and is not any more is forgotten; if a folder of another source shows there, it is new."""
        for path in self._files.scanned_sources():
            if not self._tree.is_source(path):
                self._forget(path)

    def roots(self) -> list[_Visit]:
        """Every source that can be trusted today."""
        visits = []
        for source in self._tree.sources:
            try:
                self._check_source(source.virtual_path, source.real_path)
            except SourceTrouble as trouble:
                self._lock(source.virtual_path, f"{printable(source.real_path)}: {trouble}")
                continue
            context = self._tree.enter(source.virtual_path, None)
            visits.append(_Visit(source.virtual_path, RealPath(source.real_path), context, True))
        return visits

    def _check_source(self, virtual: bytes, real: bytes) -> None:
        """Raises SourceTrouble if the source cannot be trusted now."""
        reason = distrust_source(self._bench, virtual, real)
        if reason and not self._options.ignore_lock:
            raise SourceTrouble(reason)

    def touched(self, folders: Sequence[bytes]) -> list[_Visit]:
        """Only these real folders, or what is :meth:`nearest` to them."""
        visits: dict[bytes, _Visit] = {}
        for folder in folders:
            for virtual in self._tree.virtual_paths(folder):
                visit = self.nearest(virtual)
                if visit is not None:
                    visits[visit.virtual] = visit
        return [visits[path] for path in sorted(visits)]

    def nearest(self, virtual: bytes) -> _Visit | None:
        """The folder, or the deepest one above it that is there and known; None if its source is not there.

        What stands above a folder that is not known yet decides whether it is backed up at all.
        """
        path = virtual
        while (real := self._tree.real_path(path)) is not None:
            try:
                own = self._bench.tree.describe_folder(real)
            except SourceTrouble:
                context = None
            else:
                context = self._known_context(path)
                if context is not None and not self._is_attended(path, real, own):
                    return None
            if context is not None:
                return _Visit(path, real, context, self._options.deep and path == virtual)
            if self._tree.is_source(path):
                return None
            path = parent(path)
        return None

    def _is_attended(self, path: bytes, real: RealPath, own: Entry) -> bool:
        """Whether a folder that is to be looked at alone is what was known there; told if it is not."""
        if self._options.ignore_lock or self._tree.is_source(path):
            return True
        known = self._known_folders[parent(path)][path.rpartition(b"/")[2]]
        reason = distrust_folder(self._bench, path, real, known, own)
        if reason:
            self._lock(path, reason)
        return not reason

    def _known_context(self, path: bytes) -> FolderContext | None:
        """What holds in a source or a folder that is known; None for all others."""
        if self._tree.is_source(path):
            return self._tree.enter(path, None)
        above = parent(path)
        folders = self._known_folders.get(above)
        if folders is None:
            folders = {entry.name: entry for entry in self._files.folder(above) if entry.kind == EntryKind.FOLDER}
            self._known_folders[above] = folders
        known = folders.get(path.rpartition(b"/")[2])
        if known is None:
            return None
        return self._tree.enter(path, self._tree.context(above)._replace(priority=known.priority))

    def walk(self, visits: Sequence[_Visit]) -> None:
        """Walk depth first; commits now and then. Raises Interrupted."""
        # Below each other wait those visits that are still to be made in one folder, and not more than their names.
        stack: list[Iterator[_Visit]] = [iter(visits)]
        # A folder that is to be looked at may also turn up as a new one below another: once is enough.
        given, walked = {visit.virtual for visit in visits}, set[bytes]()
        reporter = self._bench.reporter
        reporter.begin("scanning")
        committed = self._bench.clock.monotonic()
        try:
            while stack:
                visit = next(stack[-1], None)
                if visit is None:
                    stack.pop()
                    continue
                if self._stop.is_set():
                    raise Interrupted("the scan was stopped; what it recorded stays, the next one goes on there")
                if visit.virtual in walked:
                    continue
                if visit.virtual in given:
                    walked.add(visit.virtual)
                below, entries = self._visit(visit)
                if below:
                    stack.append(self._visits(visit, below))
                reporter.advance(entries, 0, visit.virtual)
                if not self._options.simulate and self._bench.clock.monotonic() - committed > _COMMIT_SECONDS:
                    self._files.commit()
                    committed = self._bench.clock.monotonic()
        finally:
            reporter.end()

    def _visit(self, visit: _Visit) -> tuple[list[_Below], int]:
        """The folders below that are to be visited, and how many entries it has."""
        context = visit.context
        if context.locked and not self._options.ignore_lock:
            return [], 0
        if context.hidden or context.priority == 0:
            self._forget(visit.virtual)
            return [], 0
        parts = self._parts(visit)
        below: list[_Below] = []
        found: list[FoundProblem] = []
        waiting: set[bytes] = set()
        entries, after = 0, None
        while True:
            try:
                part = next(parts)
                if after is None and self._tree.is_source(visit.virtual) and not part.skipped:
                    # It may have been unmounted since the scan began.
                    self._check_source(visit.virtual, visit.real.path)
                    part.entries.insert(0, self._bench.tree.describe_folder(visit.real, part.problems))
            except SourceTrouble as trouble:
                self._lock(visit.virtual, str(trouble))
                return [], 0
            if part.skipped:
                self._leave_marked(visit.virtual)
                return [], 0
            below += self._look_at(visit, part, after, waiting)
            found += [problem for problem in part.problems if problem.kind is not None]
            entries += len(part.entries)
            after = part.until
            if after is None:
                break
        if self._only is None:
            self._bench.catalogue.problems.look(visit.virtual, found, waiting, self.now)
        for sentence in self._bench.tree.remarks():
            self._bench.reporter.tell(Remark(sentence))
        self._tally.entries += entries
        return below, entries

    def _parts(self, visit: _Visit) -> Iterator[FolderPart]:
        yield from self._bench.tree.list_folder(visit.real, self._wanted(visit), visit.context.follow, visit.seen)

    def _look_at(self, visit: _Visit, part: FolderPart, after: bytes | None, waiting: set[bytes]) -> list[_Below]:
        """Compare and record what has its name behind ``after``; the folders among it. What waits is added there."""
        unreadable = {problem.name for problem in part.problems if problem.kind in _NOT_READ}
        for problem in part.problems if self._only is None else ():
            if problem.name in unreadable:
                self._tally.skipped += 1
                self._bench.reporter.tell(FileSkipped(join(visit.virtual, problem.name), problem.reason))
        entries = [self._with_limits(entry, visit.context) for entry in part.entries]
        known = self._files.folder(visit.virtual, after, part.until)
        if left_out := {problem.name for problem in part.problems if problem.kind is ProblemKind.LEFT_OUT}:
            known = self._leave_out(visit.virtual, left_out, known)
        unmounted = set() if self._options.ignore_lock else self._not_attended(visit, known, entries)
        entries = [entry for entry in entries if entry.name not in unmounted]
        seen = [(entry, self._files.attributes_id(entry)) for entry in entries]
        unseen = unreadable | unmounted
        if not self._options.ignore_lock:
            unseen |= self._tree.locks_in(visit.virtual)
        comparison = compare_folder(known, seen, unseen, self._files.owner)
        waiting |= self._record(visit, comparison)
        fresh = {entry.name for entry in comparison.new}
        fresh.update(entry.name for known, entry, _ in comparison.changed if known.kind != EntryKind.FOLDER)
        return [
            _Below(entry.name, entry.device, entry.inode, entry.priority)
            for entry in entries
            if entry.kind == EntryKind.FOLDER and entry.name and (visit.deep or entry.name in fresh)
        ]

    def _leave_marked(self, virtual: bytes) -> None:
        """A folder whose marker says that it is to be left out."""
        problems = self._bench.catalogue.problems
        keep = self._tree.sources_below(virtual)
        self._tally.gone += self._files.forget_below(virtual, keep, self.now)
        problems.look(virtual, [FoundProblem(b"", MARKED, ProblemKind.LEFT_OUT)], (), self.now)
        problems.forget_below(virtual, [*keep, virtual])

    def _leave_out(self, virtual: bytes, names: set[bytes], known: Sequence[KnownEntry]) -> list[KnownEntry]:
        """These are this program's own; what is known but for them."""
        self.left_out.append(virtual)
        own = {entry.name for entry in known} & names
        if own:
            self._files.disown(virtual, own, self._tree.sources_below(virtual))
        return [entry for entry in known if entry.name not in own]

    def _not_attended(self, visit: _Visit, known: Sequence[KnownEntry], entries: Sequence[Entry]) -> set[bytes]:
        """Names that must be left as they were known, which is told: what was mounted there is not now, say."""
        wanted, names = self._wanted(visit), set()
        found = distrust_members(self._bench, visit.virtual, visit.real, known, entries, visit.context.follow)
        for name, reason in found:
            if wanted(name) is not None:
                self._lock(join(visit.virtual, name), reason)
                names.add(name)
        return names

    def _wanted(self, visit: _Visit) -> Callable[[bytes], int | None]:
        context, virtual = visit.context, visit.virtual
        mapped = {path for path in self._tree.sources_below(virtual) if parent(path) == virtual}
        if not mapped and context.rules.empty:
            return lambda _name: context.priority

        def wanted(name: bytes) -> int | None:
            if mapped and join(virtual, name) in mapped:
                return None
            priority = context.rules.priority(name)
            return context.priority if priority is None else priority or None

        return wanted

    def _visits(self, visit: _Visit, below: Sequence[_Below]) -> Iterator[_Visit]:
        for name, device, inode, priority in below:
            identity = (device, inode)
            virtual = join(visit.virtual, name)
            if inode and identity in visit.above:
                self._lock(virtual, "it is a link to a folder above itself", listed=False)
                continue
            # Only followed links can lead upwards, so only below them the way back has to be known.
            above = (*visit.above, identity) if visit.above or visit.context.follow else ()
            context = self._tree.enter(virtual, visit.context._replace(priority=priority))
            real = visit.real.child(name, visit.context.follow)
            yield _Visit(virtual, real, context, True, above, identity)

    def _with_limits(self, entry: Entry, context: FolderContext) -> Entry:
        """A side file's limit wins over the folder's; -1 is its "no limit"."""
        maxcopies = max(entry.maxcopies, 0) if entry.maxcopies else context.maxcopies
        if maxcopies == entry.maxcopies and not context.copies:
            return entry
        return entry._replace(maxcopies=maxcopies, copies=context.copies)

    def _record(self, visit: _Visit, comparison: FolderComparison) -> set[bytes]:
        """The names of what waits to be read now, or could not be read before and is left alone this time."""
        virtual = visit.virtual
        for known in comparison.gone:
            if known.kind == EntryKind.FOLDER and known.name:
                self._forget(join(virtual, known.name))
        for known, entry, _ in comparison.changed:
            if known.kind == EntryKind.FOLDER != entry.kind:
                self._forget(join(virtual, known.name))
        for _, replaced in comparison.read:
            if replaced is not None and replaced.kind == EntryKind.FOLDER:
                self._forget(join(virtual, replaced.name))
        restless = self._restless(virtual, comparison)
        folder = ScannedFolder(
            virtual=virtual,
            real=visit.real,
            context=visit.context,
            known_digest=self._options.known_digest,
            restless=restless,
            may_read=lambda name: self._may_read(virtual, name, restless),
            now=self.now,
            is_first=self._is_first,
        )
        recorded = record_comparison(self._bench, self._tree, folder, comparison)
        self._tally.new += recorded.new
        self._tally.changed += recorded.changed
        self._tally.gone += recorded.gone
        return {entry.name for entry, _ in comparison.read} if comparison.read else set()

    def _restless(self, virtual: bytes, comparison: FolderComparison) -> set[bytes]:
        """Files that change whenever they are read."""
        if not comparison.read:
            return set()
        taken = {known.name for _, known in comparison.read if known is not None and known.flags & EntryFlag.RESTLESS}
        return taken | self._bench.catalogue.problems.restless(virtual)

    def _may_read(self, virtual: bytes, name: bytes, restless: Collection[bytes]) -> bool:
        """A file that never rests is read once in each scan of everything, and not whenever somebody writes to it."""
        if self._only is not None:
            return join(virtual, name) in self._only
        return self._options.folders is None or name not in restless

    def _forget(self, virtual: bytes) -> None:
        keep = self._tree.sources_below(virtual)
        self._tally.gone += self._files.forget_below(virtual, keep, self.now)
        self._bench.catalogue.problems.forget_below(virtual, keep)

    def _lock(self, virtual: bytes, reason: str, listed: bool = True) -> None:
        """``listed``: nobody has seen what is in there; else it is seen elsewhere."""
        self._tally.locked += 1
        if listed:
            self._bench.catalogue.problems.close_off(virtual, reason, self.now)
        self._bench.reporter.tell(SourceLocked(virtual, reason))
