"""After a session that did not come to its end: what lies half-done on the disk is finished or removed."""

from __future__ import annotations

from collections.abc import Sequence

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore, StagedCopy, Stop
from distbackupd.engine.pulse import Meter
from distbackupd.engine.room import commit_what_fits
from distbackupd.model.disks import BackupDisk
from distbackupd.model.events import Remark
from distbackupd.model.text import say_count


def clear_up(bench: Bench, disk: BackupDisk, store: DiskStore, stop: Stop, braked: bool = False) -> None:
    """Take over complete copies, remove the rest; finish removals, unless ``braked``: then nothing leaves the disk."""
    objects = bench.catalogue.objects
    pending = [] if braked else objects.pending_removals(disk.id)
    if pending:
        known = objects.identifiers(pending)
        holders = objects.holders(list(known.values()))
        store.remove(digest for digest in pending if digest not in known or disk.id not in holders[known[digest]])
        store.flush()
        objects.removals_done(disk.id)
    kept = _what_fits(bench, disk, store, store.leftovers(objects.known_sizes, Meter(stop)))
    if kept:
        unplaced, _ = commit_what_fits(store, kept)
        kept = [copy for copy in kept if copy.digest not in unplaced]
        objects.record_copies(disk.id, list(objects.identifiers([copy.digest for copy in kept]).values()))
        bench.reporter.tell(Remark(f"{disk.name}: took over {say_count(len(kept), 'copy', 'copies')} of the last session"))


def _what_fits(bench: Bench, disk: BackupDisk, store: DiskStore, copies: Sequence[StagedCopy]) -> list[StagedCopy]:
    """As many of the copies as the disk's size allows; the others, whose victims have not left, are removed."""
    _, used = bench.catalogue.disks.used(disk.id)
    kept, given_up = [], []
    for copy in copies:
        need = disk.footprint(copy.size)
        if used + need > disk.capacity:
            given_up.append(copy)
        else:
            used += need
            kept.append(copy)
    store.discard(given_up)
    return kept
