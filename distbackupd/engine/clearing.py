"""What lies on a disk although nobody recorded it: found, finished or removed before anything is planned.

After a session that was killed, met an error or lost its power there are copies under their temporary names, files of
objects that were never recorded, removed files that are back. Of such a session nothing is believed: what it wrote may look
good in memory and be nowhere else. So each file is settled, read from the disk itself and hashed; what is whole is a copy
and recorded as one, in batches, and then the plan decides about it as about every other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore, StagedCopy, Stop
from distbackupd.engine.pulse import Meter, handfuls, work_in_threads
from distbackupd.engine.room import commit_what_fits
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import Interrupted
from distbackupd.model.events import Remark
from distbackupd.model.text import say_count
from distbackupd.planning.strays import Stray, still_to_leave, with_places

_BATCH_OBJECTS = 10_000
_BATCH_BYTES = 2 << 30
_TASK_OBJECTS = 32
_TASK_BYTES = 8 << 20


def clear_up(
    bench: Bench, disk: BackupDisk, store: DiskStore, stop: Stop, strays: Collection[int], braked: bool = False
) -> None:
    """Take over what is whole, remove the rest; finish removals, unless ``braked``: then nothing recorded leaves the disk.

    ``strays``: the layout's folders (0 to 4095) in which files lie that are not recorded. All of them are accounted for when
    it returns, and nothing is still to be removed. Raises DiskTrouble, Interrupted; what was recorded stays true.
    """
    objects = bench.catalogue.objects
    pending = objects.pending_removals(disk.id)
    if pending and not braked:
        _finish_removals(bench, disk, store, pending)
    taken = _finish_copies(bench, disk, store, stop)
    taken += take_over(bench, disk, store, stop, strays, may_remove=not braked)
    if pending:
        objects.removals_done(disk.id)
    if taken:
        copies = say_count(taken, "copy", "copies")
        bench.reporter.tell(Remark(f"{disk.name}: took over {copies} of the last session"))


def take_over(
    bench: Bench,
    disk: BackupDisk,
    store: DiskStore,
    stop: Stop,
    folders: Collection[int],
    may_remove: bool = False,
    apart_from: Collection[bytes] = (),
) -> int:
    """Record what lies whole in these folders and is not recorded; how many copies that are.

    What is damaged goes to ``bad-objects``. ``may_remove``: what the disk's size has no place for, and other disks hold, is
    removed. Objects ``apart_from`` which are left as they are. Raises DiskTrouble, Interrupted.
    """
    if not folders:
        return 0
    spared = frozenset(apart_from)
    meter = Meter(stop)
    taken = bad = removed = 0
    _, used = bench.catalogue.disks.used(disk.id)
    bench.reporter.begin("reading what was not recorded")
    try:
        for batch in _batches(bench, disk, store, folders, spared, stop):
            good, damaged = _read_from_disk(bench, store, batch, meter)
            for digest in damaged:
                store.set_aside(digest)
            staying = _as_strays(bench, disk, good)
            leaving: list[Stray] = []
            if may_remove:
                staying, leaving = with_places(staying, disk.capacity - used)
            used += sum(stray.footprint for stray in staying)
            if leaving:
                store.remove([stray.digest for stray in leaving])
                store.flush()
            bench.catalogue.objects.take_over(disk.id, [(stray.digest, stray.size) for stray in staying], bench.clock.now())
            taken, bad, removed = taken + len(staying), bad + len(damaged), removed + len(leaving)
    finally:
        bench.reporter.end()
    if bad:
        files = say_count(bad, "file that was never recorded is", "files that were never recorded are")
        bench.reporter.tell(Remark(f"{disk.name}: {files} damaged and moved to bad-objects; all recorded copies are kept"))
    if removed:
        copies = say_count(removed, "copy", "copies")
        bench.reporter.tell(Remark(f"{disk.name}: removed {copies} that its size has no place for; other disks hold them"))
    return taken


def _finish_removals(bench: Bench, disk: BackupDisk, store: DiskStore, pending: Sequence[bytes]) -> None:
    objects = bench.catalogue.objects
    known = objects.identifiers(pending)
    holders = objects.holders(list(known.values()))
    by_digest = {digest: holders[identifier] for digest, identifier in known.items()}
    store.remove(still_to_leave(pending, objects.known_sizes(pending).keys(), by_digest, disk.id))
    store.flush()


def _finish_copies(bench: Bench, disk: BackupDisk, store: DiskStore, stop: Stop) -> int:
    """Give copies their final names that lie complete under temporary ones, and record them; how many."""
    objects = bench.catalogue.objects
    found = store.leftovers(objects.known_sizes, Meter(stop))
    if not found:
        return 0
    fitting = _what_fits(bench, disk, store, found)
    unplaced, _ = commit_what_fits(store, fitting)
    kept = [(copy.digest, copy.size) for copy in fitting if copy.digest not in unplaced]
    objects.take_over(disk.id, kept, bench.clock.now())
    return len(kept)


def _what_fits(bench: Bench, disk: BackupDisk, store: DiskStore, copies: Sequence[StagedCopy]) -> list[StagedCopy]:
    """As many of the copies as the disk's size allows; the others, whose victims have not left, are removed."""
    known = bench.catalogue.objects.identifiers([copy.digest for copy in copies])
    holders = bench.catalogue.objects.holders(list(known.values()))
    _, used = bench.catalogue.disks.used(disk.id)
    kept, given_up = [], []
    for copy in copies:
        need = 0 if disk.id in holders[known[copy.digest]] else disk.footprint(copy.size)
        if used + need > disk.capacity:
            given_up.append(copy)
        else:
            used += need
            kept.append(copy)
    store.discard(given_up)
    return kept


def _batches(
    bench: Bench, disk: BackupDisk, store: DiskStore, folders: Iterable[int], spared: Collection[bytes], stop: Stop
) -> Iterator[dict[bytes, int]]:
    """Sizes of strays by digest, never empty."""
    batch: dict[bytes, int] = {}
    size = 0
    for folder in sorted(folders):
        if stop.is_set():
            raise Interrupted("stopped while the disk was looked at; what was recorded of it is true")
        held = [digest for _, digest, _ in bench.catalogue.objects.held_in_folder(disk.id, folder)]
        for digest in store.differences_in(folder, held).strays:
            found = None if digest in spared else store.size_of(digest)
            if found is not None:
                batch[digest] = found
                size += found
            if len(batch) >= _BATCH_OBJECTS or size >= _BATCH_BYTES:
                yield batch
                batch, size = {}, 0
    if batch:
        yield batch


def _read_from_disk(
    bench: Bench, store: DiskStore, batch: dict[bytes, int], meter: Meter
) -> tuple[list[tuple[bytes, int]], list[bytes]]:
    """Digest and size of those that are whole, and the others; what is bad is read twice before it is believed."""

    def check(items: Sequence[tuple[bytes, int]]) -> list[tuple[bytes, bool]]:
        found = []
        for digest, size in items:
            with meter.lane(size):
                if meter.is_set():
                    break
                found.append((digest, not all(store.check(digest, size, meter).problem for _ in range(2))))
        return found

    store.settle(list(batch))
    good, bad = [], []
    ordered = [(digest, batch[digest]) for digest in store.reading_order(batch)]
    tasks = handfuls(ordered, lambda item: item[1], _TASK_OBJECTS, _TASK_BYTES)
    for results in work_in_threads(tasks, check, meter, bench.reporter):
        good += [(digest, batch[digest]) for digest, whole in results if whole]
        bad += [digest for digest, whole in results if not whole]
        bench.reporter.advance(len(results), meter.drain())
    if len(good) + len(bad) < len(batch):
        raise Interrupted("stopped while the disk was looked at; what was recorded of it is true")
    return good, bad


def _as_strays(bench: Bench, disk: BackupDisk, found: Sequence[tuple[bytes, int]]) -> list[Stray]:
    objects = bench.catalogue.objects
    known = objects.identifiers([digest for digest, _ in found])
    holders = objects.holders(list(known.values()))
    return [
        Stray(digest, size, disk.footprint(size), len(holders[known[digest]]) if digest in known else 0)
        for digest, size in found
    ]
