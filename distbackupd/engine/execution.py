"""Carry out a plan on a mounted disk, durably, and record each batch when it is safe.

Copies are made in batches: each is hashed while it is copied to a temporary name; then, flush, rename, flush, record.
What makes way leaves only when its successor lies complete on the disk. Where the disk has no room for both at once,
the source is read once before, and only if it is as expected the room is made. The catalogue strikes a copy before its
file is removed and records one after its file is safe: it never says more than the disk holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore, OpenedFile, StagedCopy, Stop
from distbackupd.engine.pulse import Meter, handfuls, work_in_threads
from distbackupd.engine.room import Room, commit_what_fits, room_on
from distbackupd.engine.rot import record_rot
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import ContentDiffers, DiskFull, Interrupted, SourceChanged, SourceTrouble
from distbackupd.model.events import FileSkipped, Remark
from distbackupd.model.files import SourceFile, TakenContent, TakenFile, WaitingFile
from distbackupd.model.plans import Copy, Eviction, Plan
from distbackupd.model.rot import Reading
from distbackupd.model.sources import RealPath
from distbackupd.model.text import say_count
from distbackupd.planning.settling import is_rot

BATCH_OBJECTS = 10_000
BATCH_BYTES = 2 << 30
_TASK_OBJECTS = 32
_TASK_BYTES = 8 << 20


@dataclass(slots=True)
class Execution:
    """What was done, counted while it is done. ``unplaced``: objects whose places on the disk are damaged."""

    copied_objects: int = 0
    copied_bytes: int = 0
    deleted_objects: int = 0
    deleted_bytes: int = 0
    skipped: int = 0
    unplaced: set[int] = field(default_factory=set)
    left_objects: int = 0
    """Planned, and left for another disk: there was less room than expected."""
    left_bytes: int = 0


class _Task(NamedTuple):
    copy: Copy
    digest: bytes
    sources: tuple[SourceFile, ...]


class _Outcome(NamedTuple):
    """``staged`` is None where no source was good; ``problems`` names each that was tried, but for the ``rotten`` ones.

    ``changed`` ones hold something else than known without having rotted.
    """

    task: _Task
    staged: StagedCopy | None
    problems: list[tuple[bytes, SourceTrouble]]
    rotten: list[tuple[SourceFile, Reading]]
    changed: list[SourceFile]
    taken: TakenFile | None = None
    """Another state of a file that never rests than was planned, which ``staged`` holds."""


class Executor:
    """Carries out one plan on one disk. ``done`` is true at any moment, also after an exception."""

    def __init__(self, bench: Bench, disk: BackupDisk, store: DiskStore, tree: VirtualTree, stop: Stop) -> None:
        self._bench = bench
        self._objects = bench.catalogue.objects
        self._disk = disk
        self._store = store
        self._tree = tree
        self._stop = stop
        self._meter = Meter(stop)
        self.used = 0
        """Footprint of all that lies on the disk now."""
        self._full = False
        """The disk said so, though there should have been room: somebody else writes there too."""
        self._removing = False
        self.done = Execution()

    def run(self, plan: Plan) -> None:
        """Evict, then copy as far as there is room. Raises DiskTrouble or Interrupted; what was recorded stays true.

        A disk that is full all of a sudden is no trouble: what lies complete on it is kept, the rest is left.
        """
        self.used = plan.used_before
        self._full = False
        self._meter = Meter(self._stop)
        reporter = self._bench.reporter
        if plan.evictions:
            reporter.begin("deleting", len(plan.evictions))
            try:
                for start in range(0, len(plan.evictions), BATCH_OBJECTS):
                    self._check_stop()
                    batch = plan.evictions[start : start + BATCH_OBJECTS]
                    self._evict(batch)
                    reporter.advance(len(batch), 0)
            finally:
                reporter.end()
            self._confirm_removals()
        if plan.copies:
            reporter.begin("copying", len(plan.copies), plan.copy_bytes)
            try:
                self._copy_all(plan.copies)
            finally:
                reporter.end()
            self._confirm_removals()

    def _copy_all(self, copies: Sequence[Copy]) -> None:
        position = 0
        while position < len(copies) and not self._full:
            self._check_stop()
            # What was removed is room again when that is flushed.
            self._confirm_removals()
            room = room_on(self._bench, self._store)
            end = self._end_of_batch(copies, position, room)
            if end > position:
                self._copy_batch(copies[position:end])
            elif self._fits_after(copies[position], room):
                self._copy_into_no_room(copies[position])
            else:
                self._leave(copies[position])
            position = max(end, position + 1)
            while position < len(copies) and not (copies[position].victims or self._fits(copies[position], room)):
                self._leave(copies[position])
                position += 1
        for copy in copies[position:]:
            self._leave(copy)
        if self._full:
            self._tell_full()
        # In the last batch too, copies that were under way have been given up.
        self._check_stop()

    def _end_of_batch(self, copies: Sequence[Copy], start: int, room: Room) -> int:
        """Behind the next copies that fit beside what is there; ``start``: the first one does not.

        Several take no more than half of the room: what they really take, with all tables of the file system, is seen
        before the next batch is chosen.
        """
        if not self._fits(copies[start], room):
            return start
        objects = BATCH_OBJECTS if room.objects is None else max(1, room.objects // 2)
        most = min(len(copies), start + min(BATCH_OBJECTS, objects))
        end, size, need = start + 1, copies[start].size, self._disk.footprint(copies[start].size)
        while end < most and size < BATCH_BYTES:
            need += self._disk.footprint(copies[end].size)
            if need > room.free // 2:
                break
            size += copies[end].size
            end += 1
        return end

    def _fits(self, copy: Copy, room: Room) -> bool:
        return room.objects != 0 and self._disk.footprint(copy.size) <= room.free

    def _fits_after(self, copy: Copy, room: Room) -> bool:
        """Whether it fits when its victims have left."""
        freed = sum(self._disk.footprint(victim.size) for victim in copy.victims)
        return bool(copy.victims) and self._disk.footprint(copy.size) <= room.free + freed

    def _leave(self, copy: Copy) -> None:
        self.done.left_objects += 1
        self.done.left_bytes += copy.size

    def _tell_full(self) -> None:
        left = say_count(self.done.left_objects, "object")
        told = f"{self._disk.name}: is full before its figures said so; what was copied is kept, {left} are left for later"
        self._bench.reporter.tell(Remark(f"{told}: see what else writes to it, or what else lies there"))

    def _copy_batch(self, batch: Sequence[Copy]) -> None:
        outcomes = {}
        staged: list[StagedCopy] = []
        try:
            tasks = self._in_source_order(self._tasks(batch))
            for results in work_in_threads(_in_handfuls(tasks), self._stage_all, self._meter, self._bench.reporter):
                for outcome in results:
                    outcomes[outcome.task.copy.object_id] = outcome
                    if outcome.staged is not None:
                        staged.append(outcome.staged)
                last = results[-1].task.sources if results else ()
                self._bench.reporter.advance(len(results), self._meter.drain(), last[0].path if last else b"")
        except BaseException:
            self._store.discard(staged)
            raise
        # In the plan's order, so that after each step the disk holds no more than it may.
        self._finish([outcomes[copy.object_id] for copy in batch if copy.object_id in outcomes])
        if self._full:
            for copy in batch:
                if copy.object_id not in outcomes:
                    self._leave(copy)

    def _copy_into_no_room(self, copy: Copy) -> None:
        """The disk cannot hold both: read the source first, then make room, then copy."""
        task = self._tasks([copy])[0]
        problems: list[tuple[bytes, SourceTrouble]] = []
        rotten: list[tuple[SourceFile, Reading]] = []
        changed: list[SourceFile] = []
        for source in task.sources:
            # Something may have been done to it since: what it holds is looked at here.
            waiting = WaitingFile(0, source.path, source.size, source.mtime_ns, 0, 0, source.inode)
            try:
                if source.restless:
                    opened = self._bench.tree.open_as_it_is(self._real(source), source.owner)
                    self._bench.tree.close_file(opened.descriptor)
                elif self._bench.tree.hash_file(self._real(source), waiting, self._meter).digest != task.digest:
                    self._look_twice(source, task, rotten, changed)
                    continue
            except SourceTrouble as trouble:
                problems.append((source.path, trouble))
                continue
            self._meter.drain()
            self._evict(copy.victims)
            try:
                outcome = self._stage(task._replace(copy=copy._replace(victims=())))
            except DiskFull:
                self._full = True
                self._leave(copy)
                return
            break
        else:
            outcome = _Outcome(task, None, problems, rotten, changed)
        self._bench.reporter.advance(1, self._meter.drain(), task.sources[0].path if task.sources else b"")
        self._finish([outcome])

    def _tasks(self, batch: Sequence[Copy]) -> list[_Task]:
        identifiers = [copy.object_id for copy in batch]
        digests = self._objects.digests(identifiers)
        sources: dict[int, list[SourceFile]] = {}
        for source in self._bench.catalogue.files.sources_of(identifiers):
            sources.setdefault(source.object_id, []).append(source)
        return [
            _Task(copy, digests[copy.object_id][0], tuple(sources.get(copy.object_id, ())))
            for copy in batch
            if copy.object_id in digests
        ]

    def _in_source_order(self, tasks: list[_Task]) -> list[_Task]:
        """Neighbours in a folder were mostly written one after another: a spinning source disk reads them faster so."""
        return sorted(tasks, key=lambda task: task.sources[0].path if task.sources else b"")

    def _stage_all(self, tasks: Sequence[_Task]) -> list[_Outcome]:
        outcomes = []
        with self._bench.tree.folders_kept_open():
            for task in tasks:
                if self._meter.is_set():
                    break
                try:
                    outcomes.append(self._stage(task))
                except Interrupted:
                    break
                except DiskFull:
                    # The other workers stop too; what they have staged is complete, and stays.
                    self._full = True
                    self._meter.abort()
                    break
        return outcomes

    def _stage(self, task: _Task) -> _Outcome:
        problems: list[tuple[bytes, SourceTrouble]] = []
        rotten: list[tuple[SourceFile, Reading]] = []
        changed: list[SourceFile] = []
        size = task.copy.size
        for source in sorted(task.sources, key=lambda source: source.restless):
            try:
                if source.restless:
                    return self._take(task, source)
                descriptor = self._bench.tree.open_file(self._real(source), size, source.mtime_ns, source.inode)
                try:
                    with self._meter.lane(size):
                        staged = self._store.stage(descriptor, task.digest, size, self._meter)
                    try:
                        self._bench.tree.confirm_unchanged(descriptor, size, source.mtime_ns)
                    except SourceTrouble:
                        self._store.discard([staged])
                        raise
                finally:
                    self._bench.tree.close_file(descriptor)
            except ContentDiffers:
                try:
                    self._look_twice(source, task, rotten, changed)
                except SourceTrouble as trouble:
                    problems.append((source.path, trouble))
                continue
            except SourceTrouble as trouble:
                problems.append((source.path, trouble))
                continue
            return _Outcome(task, staged, problems, rotten, changed)
        return _Outcome(task, None, problems, rotten, changed)

    def _take(self, task: _Task, source: SourceFile) -> _Outcome:
        """A file that never rests is copied as it is now. Raises SourceTrouble."""
        opened = self._bench.tree.open_as_it_is(self._real(source), source.owner)
        try:
            size = min(task.copy.size, opened.size)
            with self._meter.lane(size):
                staged = self._store.stage_as_it_is(opened.descriptor, size, self._meter)
            at_rest = staged.size == opened.size and self._is_unchanged(opened)
        finally:
            self._bench.tree.close_file(opened.descriptor)
        if staged.digest == task.digest:
            return _Outcome(task, staged, [], [], [])
        content = TakenContent(staged.digest, staged.size, opened.mtime_ns, at_rest)
        return _Outcome(task, staged, [], [], [], TakenFile(source.path, task.copy.object_id, content))

    def _is_unchanged(self, opened: OpenedFile) -> bool:
        try:
            self._bench.tree.confirm_unchanged(opened.descriptor, opened.size, opened.mtime_ns)
        except SourceTrouble:
            return False
        return True

    def _look_twice(
        self, source: SourceFile, task: _Task, rotten: list[tuple[SourceFile, Reading]], changed: list[SourceFile]
    ) -> None:
        """Judge a source whose content was not as it is known. Raises SourceTrouble if it is right now, or changes."""
        real = self._real(source)
        reading = self._bench.tree.reading(real, source.size, source.mtime_ns, source.inode).go_on(self._meter)
        if reading is None:
            raise Interrupted("stopped while a file was read; it will be read again")
        if reading.digest == task.digest:
            raise SourceTrouble("it was read wrong at first and right the second time")
        if is_rot(source.ctime_ns, source.confirmed, reading):
            rotten.append((source, reading))
        elif reading.digest:
            changed.append(source)
            raise SourceTrouble("its content changed although its size and time are the same")
        else:
            raise SourceTrouble("its medium cannot read it")

    def _finish(self, outcomes: Sequence[_Outcome]) -> None:
        """Make room, make durable, record. What does not fit after all, for something else was skipped, is given up."""
        accepted: list[_Outcome] = []
        given_up: list[StagedCopy] = []
        victims: list[Eviction] = []
        changed: list[tuple[bytes, SourceTrouble]] = []
        used_before = self.used
        for outcome in outcomes:
            for source, reading in outcome.rotten:
                record_rot(self._bench, source.path, source.object_id, reading)
            if outcome.changed:
                self._bench.catalogue.unconfirmed.doubt([source.row for source in outcome.changed])
            if outcome.staged is None:
                changed += outcome.problems
                self._tell_skipped(outcome)
                continue
            copy = outcome.task.copy
            freed = sum(self._disk.footprint(victim.size) for victim in copy.victims)
            used = self.used - freed + self._disk.footprint(copy.size)
            if used > self._disk.room:
                given_up.append(outcome.staged)
                self._leave(copy)
                continue
            self.used = used
            victims.extend(copy.victims)
            accepted.append(outcome)
        self._store.discard(given_up)
        others = [(path, str(trouble)) for path, trouble in changed if isinstance(trouble, SourceChanged)]
        if others:
            self._bench.catalogue.problems.record_uncopied(others, self._bench.clock.now())
        if not accepted:
            return
        if victims:
            # The newcomers' bytes must be safe before anything leaves for them.
            try:
                self._store.flush()
            except DiskFull:
                self.used = used_before
                self._store.discard([item.staged for item in accepted if item.staged])
                self._full = True
                for item in accepted:
                    self._leave(item.task.copy)
                return
            self._evict(victims, accounted=True)
        # By digest, for files that never rest may have turned out to hold the same.
        staged = {item.staged.digest: item.staged for item in accepted if item.staged}
        unplaced, full = commit_what_fits(self._store, list(staged.values()))
        placed = [outcome for outcome in accepted if outcome.staged and outcome.staged.digest not in unplaced]
        self._objects.record_copies(self._disk.id, [self._held_by(outcome) for outcome in placed])
        as_planned = [outcome.task.copy.object_id for outcome in placed if outcome.taken is None]
        self._bench.catalogue.problems.forget_copied(as_planned)
        self._confirm_removals(flushed=not full)
        self.done.copied_objects += len(placed)
        self.done.copied_bytes += sum(outcome.staged.size for outcome in placed if outcome.staged)
        if unplaced:
            self._give_up([item.task.copy for item in accepted if item.staged and item.staged.digest in unplaced], full)

    def _held_by(self, outcome: _Outcome) -> int:
        """The object that lies on the disk now."""
        if outcome.taken is None:
            return outcome.task.copy.object_id
        return self._bench.catalogue.restless.record_taken(outcome.taken, self._bench.clock.now())

    def _give_up(self, copies: Sequence[Copy], full: bool) -> None:
        """Their places on the disk are damaged, or it is ``full``; other disks get them."""
        self.used -= sum(self._disk.footprint(copy.size) for copy in copies)
        if full:
            self._full = True
            for copy in copies:
                self._leave(copy)
            return
        if not self.done.unplaced:
            text = (
                f"{self._disk.name}: a part of its file system is damaged, so that some objects cannot be kept there; all "
                "others are, and other disks get these: unmount it and let fsck check it"
            )
            self._bench.reporter.tell(Remark(text))
        self.done.unplaced.update(copy.object_id for copy in copies)

    def _evict(self, evictions: Sequence[Eviction], accounted: bool = False) -> None:
        identifiers = [eviction.object_id for eviction in evictions]
        digests = self._objects.digests(identifiers)
        self._objects.record_removals(self._disk.id, identifiers)
        self._removing = True
        self._store.remove(digest for digest, _ in digests.values())
        if not accounted:
            self.used -= sum(self._disk.footprint(eviction.size) for eviction in evictions)
        self.done.deleted_objects += len(evictions)
        self.done.deleted_bytes += sum(eviction.size for eviction in evictions)

    def _confirm_removals(self, flushed: bool = False) -> None:
        """After a power cut files that were removed may be back, and only what is pending is removed again."""
        if self._removing:
            if not flushed:
                self._store.flush()
            self._objects.removals_done(self._disk.id)
            self._removing = False

    def _tell_skipped(self, outcome: _Outcome) -> None:
        if not outcome.problems and not outcome.rotten:
            # Its last file went since the last whole scan, which alone makes orphans: there is nothing to back up. Or
            # all its files are known to be rotten.
            return
        self.done.skipped += 1
        for path, trouble in outcome.problems:
            self._bench.reporter.tell(FileSkipped(path, str(trouble)))

    def _real(self, source: SourceFile) -> RealPath:
        real = self._tree.real_path(source.path)
        if real is None:
            raise SourceTrouble("its source is not mapped any more")
        return real

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Interrupted("stopped between two batches; what was copied is recorded, the next session goes on there")


def _in_handfuls(tasks: Sequence[_Task]) -> Iterator[list[_Task]]:
    return handfuls(tasks, lambda task: task.copy.size, _TASK_OBJECTS, _TASK_BYTES)
