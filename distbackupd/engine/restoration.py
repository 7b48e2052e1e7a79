"""Bring files back from a backup disk.

The engine's thread goes through the catalogue in order, makes folders and everything without content itself, and hands
regular files in batches to worker threads, which read, hash and write. Nothing is written to the catalogue.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from distbackupd.engine.ports import (
    BadContent,
    Catalogue,
    DiskStore,
    EntryRefused,
    Placement,
    Reporter,
    RestoreTarget,
    Stop,
)
from distbackupd.engine.pulse import WORKERS, Meter, work_in_threads
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import Interrupted
from distbackupd.model.events import BadCopyFound, Remark
from distbackupd.model.files import EntryFlag, EntryKind, RestoreEntry
from distbackupd.model.text import join_words, printable, say_count
from distbackupd.planning.selection import PassedFolders, matcher, prefix

NAMES_KEPT = 20
"""So many names of missing, failed and obstructed files are told and kept; the others are counted."""
_BATCH_FILES = 32
_BATCH_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """What to restore and how.

    ``pattern``: only what it means (see :mod:`distbackupd.planning.selection`), with the folders above. ``link``: files
    become names of the disk's own object files instead of copies: nothing is read, checked or kept of their metadata,
    whoever writes to one damages the backup, and the destination must be on the disk. ``existing``: what is present
    below one of these folders is ignored. ``overwrite``: replace files that differ. ``simulate``: change nothing.
    """

    pattern: bytes | None = None
    link: bool = False
    existing: tuple[bytes, ...] = ()
    overwrite: bool = False
    simulate: bool = False


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What became of every entry that was meant.

    ``restored`` counts entries of every kind, ``restored_bytes`` content that was written. ``needed_disks``: how many
    of the missing files each other disk holds, by disk id; ``unheld``: how many are on no disk at all. ``failed`` (path
    and reason), ``missing_names`` and ``in_the_way_names`` are the first ones only. ``bad_digests``: objects whose copy
    on this disk is bad. ``not_kept``: what the destination could not take, by kind.
    """

    restored: int
    restored_bytes: int
    left_alone: int
    failed_files: int
    failed: tuple[tuple[bytes, str], ...]
    missing_files: int
    missing_bytes: int
    missing_names: tuple[bytes, ...]
    needed_disks: dict[int, int]
    unheld: int
    in_the_way: int
    in_the_way_names: tuple[bytes, ...]
    bad_digests: tuple[bytes, ...]
    not_kept: Mapping[str, int]

    @property
    def complete(self) -> bool:
        """Whether everything that was meant is at the destination now."""
        return not (self.failed_files or self.missing_files or self.in_the_way)


def restore(
    catalogue: Catalogue,
    disk: BackupDisk | None,
    store: DiskStore | None,
    target: RestoreTarget,
    options: RestoreOptions,
    reporter: Reporter,
    stop: Stop,
    workers: int = WORKERS,
) -> RestoreReport:
    """Restore what is meant and lies on the disk, and everything that has no content.

    Can be repeated, with the same disk or the next: what is right at the destination already is left alone. Whatever
    ends it, restored files are whole, and folders have their metadata. ``disk`` and ``store`` None: no disk is there.

    Raises:
        TargetTrouble: the destination is full or gone.
        DiskTrouble: the disk is gone.
        UsageError: ``link``, and the destination is on another file system.
        Interrupted: ``stop`` was set.
    """
    return _Restoration(catalogue, disk, store, target, options, reporter, stop).run(workers)


@dataclass(slots=True)
class _Result:
    entry: RestoreEntry
    placement: Placement | None
    problem: str = ""
    bad: bool = False


@dataclass(slots=True)
class _Tally:
    restored: int = 0
    restored_bytes: int = 0
    left_alone: int = 0
    failed_files: int = 0
    failed: list[tuple[bytes, str]] = field(default_factory=list)
    missing_files: int = 0
    missing_bytes: int = 0
    missing_names: list[bytes] = field(default_factory=list)
    needed_disks: Counter[int] = field(default_factory=Counter)
    unheld: int = 0
    in_the_way: int = 0
    in_the_way_names: list[bytes] = field(default_factory=list)
    bad_digests: set[bytes] = field(default_factory=set)


class _Restoration:
    """One restore under way."""

    def __init__(
        self,
        catalogue: Catalogue,
        disk: BackupDisk | None,
        store: DiskStore | None,
        target: RestoreTarget,
        options: RestoreOptions,
        reporter: Reporter,
        stop: Stop,
    ) -> None:
        self._catalogue = catalogue
        self._disk = disk
        self._store = store
        self._target = target
        self._options = options
        self._reporter = reporter
        self._stop = stop
        self._meter = Meter(stop)
        self._passed = PassedFolders()
        self._tally = _Tally()
        self._first_names: dict[tuple[int, int], tuple[bytes, EntryKind, bytes | None]] = {}
        """What inodes with several names were restored as: path, kind, digest."""

    def run(self, workers: int) -> RestoreReport:
        entries = self._catalogue.files.count()[0] if self._options.pattern is None else 0
        self._reporter.begin("restoring", entries)
        not_kept: Mapping[str, int] = {}
        try:
            for results in work_in_threads(self._batches(), self._restore_batch, self._meter, self._reporter, workers):
                for result in results:
                    self._account(result)
                if results:
                    self._reporter.advance(len(results), 0, results[-1].entry.path)
        except Interrupted:
            pass  # told below, with what is done
        finally:
            if not self._options.simulate:
                not_kept = self._target.finish()
            self._reporter.end()
        tally = self._tally
        self._tell(not_kept)
        if self._stop.is_set():
            raise Interrupted(
                f"interrupted after {say_count(tally.restored, 'entry', 'entries')}; what is restored is whole and stays, "
                "the same command goes on there"
            )
        return RestoreReport(
            restored=tally.restored,
            restored_bytes=tally.restored_bytes,
            left_alone=tally.left_alone,
            failed_files=tally.failed_files,
            failed=tuple(tally.failed),
            missing_files=tally.missing_files,
            missing_bytes=tally.missing_bytes,
            missing_names=tuple(tally.missing_names),
            needed_disks=dict(tally.needed_disks),
            unheld=tally.unheld,
            in_the_way=tally.in_the_way,
            in_the_way_names=tuple(tally.in_the_way_names),
            bad_digests=tuple(sorted(tally.bad_digests)),
            not_kept=not_kept,
        )

    def _batches(self) -> Iterator[list[RestoreEntry]]:
        """Regular files for the workers; everything else is done here, in between."""
        batch: list[RestoreEntry] = []
        size = 0
        for entry in self._meant():
            if self._meter.is_set():
                return
            if not self._is_for_workers(entry):
                self._reporter.advance(1, 0, entry.path)
                continue
            batch.append(entry)
            size += entry.size
            if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _meant(self) -> Iterator[RestoreEntry]:
        """Entries to restore, and before them those of the folders above them."""
        pattern = self._options.pattern
        matches = None if pattern is None else matcher(pattern)
        narrowed = b"/" if pattern is None else prefix(pattern)
        self._pass_folders_above(narrowed)
        for entry in self._catalogue.files.restore_entries(narrowed):
            if (matches is None or matches(entry.path)) and not self._is_present_elsewhere(entry):
                yield from self._passed.take_above(entry.path)
                yield entry
            elif entry.kind is EntryKind.FOLDER:
                self._passed.add(entry)

    def _pass_folders_above(self, path: bytes) -> None:
        while path != b"/":
            path = path.rpartition(b"/")[0] or b"/"
            first = next(self._catalogue.files.restore_entries(path), None)
            if first is not None and first.path == path and first.kind is EntryKind.FOLDER:
                self._passed.add(first)

    def _is_present_elsewhere(self, entry: RestoreEntry) -> bool:
        return any(self._target.exists_below(folder, entry.path) for folder in self._options.existing)

    def _is_for_workers(self, entry: RestoreEntry) -> bool:
        """Do what is quick, or must be in order; what remains is a file whose content lies on the disk."""
        if self._options.simulate:
            self._foresee(entry)
            return False
        if entry.kind is EntryKind.FOLDER:
            self._account(self._attempt(entry, self._target.make_folder))
            return False
        several_names = bool(entry.flags and entry.flags & EntryFlag.LINKED and entry.inode) and not self._options.link
        if several_names and self._link_to_first(entry):
            return False
        if entry.digest is not None and not self._is_here(entry):
            if self._foresee(entry) is Placement.LEFT_ALONE and several_names:
                self._remember_first(entry)
            return False
        if several_names:
            # Written by this thread, so that the next name finds it complete.
            result = self._attempt(entry, self._place)
            if result.placement in (Placement.RESTORED, Placement.LEFT_ALONE):
                self._remember_first(entry)
            self._account(result)
            return False
        if entry.digest is None:
            self._account(self._attempt(entry, self._place))
            return False
        return True

    def _is_here(self, entry: RestoreEntry) -> bool:
        return self._disk is not None and self._disk.id in entry.holders

    def _link_to_first(self, entry: RestoreEntry) -> bool:
        """Whether the entry is dealt with: it became another name of what was restored before, or failed to."""
        known = self._first_names.get((entry.device, entry.inode))
        # A number of an inode can be used again between two scans: only the same content is the same file.
        if known is None or known[1:] != (entry.kind, entry.digest):
            return False
        link = functools.partial(self._target.link, first=known[0], overwrite=self._options.overwrite)
        result = self._attempt(entry, link)
        if result.placement is Placement.NOT_KEPT:
            return False
        self._account(result, written=False)
        return True

    def _remember_first(self, entry: RestoreEntry) -> None:
        self._first_names[entry.device, entry.inode] = (entry.path, entry.kind, entry.digest)

    def _restore_batch(self, batch: list[RestoreEntry]) -> list[_Result]:
        """In a worker thread."""
        results = []
        for entry in batch:
            if self._meter.is_set():
                break
            try:
                results.append(self._attempt(entry, self._place))
            except Interrupted:
                break
        return results

    def _place(self, entry: RestoreEntry) -> Placement:
        if entry.digest is None:
            return self._target.place(entry, None, self._meter, self._options.overwrite)
        assert self._store is not None
        open_content = functools.partial(self._store.open_object, entry.digest)
        if self._options.link:
            return self._target.link_content(entry, open_content, self._options.overwrite)
        return self._target.place(entry, open_content, self._meter, self._options.overwrite)

    def _attempt(self, entry: RestoreEntry, do: Callable[[RestoreEntry], Placement]) -> _Result:
        try:
            return _Result(entry, do(entry))
        except EntryRefused as error:
            return _Result(entry, None, str(error))
        except BadContent as error:
            return _Result(entry, None, str(error), bad=True)

    def _foresee(self, entry: RestoreEntry) -> Placement | None:
        """Count what would become of the entry, or what becomes of one whose content is not on this disk."""
        result = self._attempt(entry, lambda entry: self._target.foresee(entry, self._options.overwrite))
        if result.placement is Placement.RESTORED and entry.digest is not None and not self._is_here(entry):
            self._count_missing(entry)
        else:
            self._account(result)
        return result.placement

    def _count_missing(self, entry: RestoreEntry) -> None:
        tally = self._tally
        tally.missing_files += 1
        tally.missing_bytes += entry.size
        tally.needed_disks.update(entry.holders)
        tally.unheld += not entry.holders
        if len(tally.missing_names) < NAMES_KEPT:
            tally.missing_names.append(entry.path)

    def _account(self, result: _Result, written: bool = True) -> None:
        tally, entry = self._tally, result.entry
        if result.placement is Placement.RESTORED:
            tally.restored += 1
            if written and entry.kind is EntryKind.FILE and not self._options.link:
                tally.restored_bytes += entry.size
        elif result.placement is Placement.LEFT_ALONE:
            tally.left_alone += 1
        elif result.placement is Placement.IN_THE_WAY:
            tally.in_the_way += 1
            if len(tally.in_the_way_names) < NAMES_KEPT:
                tally.in_the_way_names.append(entry.path)
                self._reporter.tell(Remark(f"{printable(entry.path)}: not restored, something else is in its place"))
        elif result.placement is None:
            self._account_failure(result)

    def _account_failure(self, result: _Result) -> None:
        tally, entry = self._tally, result.entry
        tally.failed_files += 1
        if result.bad and self._disk is not None and entry.digest is not None:
            if entry.digest not in tally.bad_digests:
                disk = self._disk
                self._reporter.tell(BadCopyFound(disk.name, disk.uuid, entry.digest.hex(), entry.path, result.problem))
            tally.bad_digests.add(entry.digest)
        elif len(tally.failed) < NAMES_KEPT:
            self._reporter.tell(Remark(f"{printable(entry.path)}: not restored, {result.problem}"))
        if len(tally.failed) < NAMES_KEPT:
            tally.failed.append((entry.path, result.problem))

    def _tell(self, not_kept: Mapping[str, int]) -> None:
        if self._tally.in_the_way:
            count = say_count(self._tally.in_the_way, "entry", "entries")
            self._reporter.tell(Remark(f"{count} left out because something else is in place; --overwrite replaces files"))
        if not_kept:
            kinds = [f"{kind} ({count:,} times)" for kind, count in sorted(not_kept.items())]
            self._reporter.tell(Remark(f"the destination could not keep everything: {join_words(kinds)}"))
