"""Bring files back from a backup disk.

The engine's thread goes through the catalogue in order, makes folders and everything without content itself, and hands
regular files in batches to worker threads, which read, hash and write. Nothing is written to the catalogue.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from distbackupd.engine.door import recognise
from distbackupd.engine.owners import OwnerMapping
from distbackupd.engine.ports import (
    BadContent,
    Catalogue,
    DiskStore,
    EntryRefused,
    NameTaken,
    Placement,
    Reporter,
    RestoreTarget,
    Stop,
)
from distbackupd.engine.pulse import WORKERS, Meter, handfuls, work_in_threads
from distbackupd.engine.restore_meaning import Meaning, RestoreOptions
from distbackupd.engine.restore_tally import RestoreReport, Tally
from distbackupd.engine.restore_twins import Twins, beside
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import Interrupted
from distbackupd.model.files import EntryFlag, EntryKind, ProblemKind, RestoreEntry
from distbackupd.model.text import say_count
from distbackupd.planning.disk_choice import NOTHING, Share

_BATCH_FILES = 32
_BATCH_BYTES = 8 << 20


def restore(
    catalogue: Catalogue,
    disk: BackupDisk | None,
    store: DiskStore | None,
    target: RestoreTarget,
    options: RestoreOptions,
    reporter: Reporter,
    stop: Stop,
    workers: int = WORKERS,
    root: bytes | None = None,
) -> RestoreReport:
    """Restore what is meant and lies on the disk, and everything that has no content.

    Can be repeated, with the same disk or the next: what is right at the destination already is left alone. Whatever
    ends it, restored files are whole, and folders have their metadata. ``disk`` and ``store`` None: no disk is there.
    ``root``: where the disk's layout lies, to tell bad copies from a disk that was pulled out.

    Raises:
        TargetTrouble: the destination is full or gone.
        DiskTrouble: the disk is gone.
        UsageError: ``link``, and the destination is on another file system.
        Interrupted: ``stop`` was set.
    """
    tally = Tally(reporter)
    reading = Reading(disk, store, root) if disk is not None and store is not None else None
    everything = options.selection.is_plain and options.selection.roots == [b"/"]
    expected = Share(catalogue.files.count()[0], 0) if everything else NOTHING
    restoration = RestorePass(catalogue, target, options, reporter, stop, tally)
    not_kept = restoration.run(reading, Scope(), expected, workers)
    tally.never_kept = never_kept(catalogue, options)
    tally.sum_up(not_kept)
    refuse_if_stopped(stop, tally)
    return tally.report(not_kept)


def never_kept(catalogue: Catalogue, options: RestoreOptions) -> list[bytes]:
    """Paths of what is meant and was never backed up, because no backup keeps such things. Known of the present only."""
    if options.at is not None:
        return []
    found = []
    for root in options.selection.roots:
        matches = options.selection.matcher_below(root)
        found += [
            problem.path
            for problem in catalogue.problems.listing(root)
            if problem.kind is ProblemKind.NOT_KEPT and (matches is None or matches(problem.path))
        ]
    return found


def refuse_if_stopped(stop: Stop, tally: Tally) -> None:
    """Raise Interrupted if somebody asked to stop."""
    if stop.is_set():
        raise Interrupted(
            f"interrupted after {say_count(tally.restored, 'entry', 'entries')}; what is restored is whole and stays, "
            "the same command goes on there"
        )


class Reading(NamedTuple):
    """The disk that is read. ``root``: where its layout lies; before a copy is called bad, the disk must still be there."""

    disk: BackupDisk
    store: DiskStore
    root: bytes | None = None


class Scope(NamedTuple):
    """What a pass is for.

    ``bare``: also for what has no content. ``others``: also to look which files are missing whose content is elsewhere,
    and to mend the metadata of those that are right. ``judged``: what stood at the destination before is counted
    already. ``done``: what these disks hold has been restored, but for what is bad there.
    """

    bare: bool = True
    others: bool = True
    judged: bool = False
    done: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Result:
    entry: RestoreEntry
    placement: Placement | None
    problem: str = ""
    bad: bool = False
    taken: bool = False
    """The destination found it under another name, ``stored``."""
    stored: bytes | None = None


class RestorePass:
    """Goes once through all that is meant, each time it is :meth:`run`; what becomes of it is added to ``tally``."""

    def __init__(
        self,
        catalogue: Catalogue,
        target: RestoreTarget,
        options: RestoreOptions,
        reporter: Reporter,
        stop: Stop,
        tally: Tally,
        twins: Twins | None = None,
    ) -> None:
        """``twins``: what is known of them from the passes before."""
        self._catalogue = catalogue
        self._target = target
        self._options = options
        self._reporter = reporter
        self._meter = Meter(stop)
        self._tally = tally
        self._meaning = Meaning(catalogue.history, target, options)
        self._twins = twins or Twins(catalogue.history, options.at)
        self._owners = OwnerMapping(catalogue.accounts.names(options.at), options.accounts, tally.unknown_owners)
        self._reading: Reading | None = None
        self._scope = Scope()
        self._joins_present = False
        self._missing_links: set[tuple[int, int, bytes]] = set()
        self._first_names: dict[tuple[int, int], tuple[bytes, EntryKind, bytes | None]] = {}
        """What inodes with several names were restored as: path, kind, digest."""

    def run(
        self, reading: Reading | None, scope: Scope, expected: Share = NOTHING, workers: int = WORKERS
    ) -> Mapping[str, int]:
        """Restore what the scope means; what the destination could not keep so far, by kind.

        ``expected`` is for showing progress. A stop ends it early; whoever calls it looks for that.
        """
        self._reading, self._scope = reading, scope
        self._joins_present = not self._options.link and not self._target.is_empty()
        self._first_names.clear()
        self._missing_links.clear()
        self._reporter.begin("restoring", expected.files, expected.size)
        not_kept: Mapping[str, int] = {}
        try:
            # Closed before anything is finished: then no worker is at work any more, whatever ended this.
            with contextlib.closing(
                work_in_threads(self._batches(), self._restore_batch, self._meter, self._reporter, workers, self._settle)
            ) as finished:
                for results in finished:
                    for result in results:
                        self._account(result)
                    if results:
                        self._reporter.advance(len(results), 0, results[-1].entry.path)
        except Interrupted:
            pass  # told by whoever looks at the stop, with what is done
        finally:
            if not self._options.simulate:
                not_kept = self._target.finish()
            self._reporter.end()
        return not_kept

    def _settle(self) -> None:
        if not self._options.simulate:
            self._target.settle()

    def _batches(self) -> Iterator[list[RestoreEntry]]:
        """Regular files for the workers; everything else is done here, in between."""
        return handfuls(self._for_workers(), lambda entry: entry.size, _BATCH_FILES, _BATCH_BYTES)

    def _for_workers(self) -> Iterator[RestoreEntry]:
        for recorded in self._meaning.entries(self._holder_sets(), self._scope.bare):
            if self._meter.is_set():
                return
            entry = self._owners.given(recorded)
            closed = self._twins.closed_above(entry.path)
            if closed is not None:
                self._refuse_name(entry, closed[1], closed[0])
                continue
            if entry.digest is not None and not self._scope.others and self._is_done(entry, entry.digest):
                continue
            if self._is_for_workers(entry):
                yield entry
            else:
                self._reporter.advance(1, 0, entry.path)

    def _holder_sets(self) -> list[int] | None:
        """Numbers of the holder sets whose objects are read in this pass; None: all."""
        if self._scope.others:
            return None
        if self._reading is None:
            return []
        disk = self._reading.disk.id
        # What was bad elsewhere is looked for in Python.
        done = frozenset() if self._tally.bad else self._scope.done
        sets = self._catalogue.objects.holder_sets()
        return [number for number, members in sets.items() if disk in members and not members & done]

    def _is_done(self, entry: RestoreEntry, digest: bytes) -> bool:
        """Whether an earlier disk brought its content, or this disk's copy is known to be bad."""
        bad = self._tally.bad.get(digest, set())
        if self._reading is not None and self._reading.disk.id in bad:
            return True
        return bool(entry.holders & self._scope.done - bad)

    def _is_for_workers(self, entry: RestoreEntry) -> bool:
        """Do what is quick, or must be in order; what remains is a file whose content lies on the disk."""
        if self._options.simulate:
            self._foresee(entry)
            return False
        if entry.kind is EntryKind.FOLDER:
            result = self._attempt_here(entry, self._target.make_folder)
            if result.placement is Placement.NAME_TAKEN or self._scope.bare:
                self._account(result)
            return False
        several_names = bool(entry.flags and entry.flags & EntryFlag.LINKED and entry.inode) and not self._options.link
        if several_names and (self._link_to_first(entry) or self._link_to_present(entry)):
            return False
        if entry.digest is not None and not self._is_here(entry):
            if self._foresee(entry) is Placement.LEFT_ALONE and several_names:
                self._remember_first(entry)
            return False
        if several_names:
            # Written by this thread, so that the next name finds it complete.
            result = self._attempt_here(entry, self._place)
            if result.placement in (Placement.RESTORED, Placement.LEFT_ALONE):
                self._remember_first(entry)
            self._account(result)
            return False
        if entry.digest is None:
            self._account(self._attempt_here(entry, self._place))
            return False
        return True

    def _is_here(self, entry: RestoreEntry) -> bool:
        return self._reading is not None and self._reading.disk.id in entry.holders

    def _link_to_first(self, entry: RestoreEntry) -> bool:
        """Whether the entry is dealt with: it became another name of what was restored before, or failed to."""
        known = self._first_names.get((entry.device, entry.inode))
        # A number of an inode can be used again between two scans: only the same content is the same file.
        if known is None or known[1:] != (entry.kind, entry.digest):
            return False
        link = functools.partial(self._target.link, first=known[0], overwrite=self._options.overwrite)
        result = self._attempt_here(entry, link)
        if result.placement is Placement.NOT_KEPT:
            return False
        self._account(result, written=False)
        return True

    def _link_to_present(self, entry: RestoreEntry) -> bool:
        """The same with a name that an earlier restore brought, and that this one may not even mean."""
        if not self._joins_present or entry.digest is None or self._foreseen(entry) is not Placement.RESTORED:
            return False
        for path in self._catalogue.history.names_of(entry, self._options.at):
            if path != entry.path and self._foreseen(entry._replace(path=path)) is Placement.LEFT_ALONE:
                self._first_names[entry.device, entry.inode] = (path, entry.kind, entry.digest)
                return self._link_to_first(entry)
        return False

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
        overwrite = self._options.overwrite
        if entry.digest is None:
            return self._target.place(entry, None, self._meter, overwrite)
        assert self._reading is not None
        open_content = functools.partial(self._reading.store.open_object, entry.digest)
        if self._options.link:
            return self._target.link_content(entry, open_content, overwrite)
        return self._target.place(entry, open_content, self._meter, overwrite, mend=not self._scope.judged)

    def _attempt(self, entry: RestoreEntry, do: Callable[[RestoreEntry], Placement]) -> _Result:
        try:
            return _Result(entry, do(entry))
        except NameTaken as error:
            return _Result(entry, None, str(error), taken=True, stored=error.stored)
        except EntryRefused as error:
            return _Result(entry, None, str(error))
        except BadContent as error:
            return _Result(entry, None, str(error), bad=True)

    def _attempt_here(self, entry: RestoreEntry, do: Callable[[RestoreEntry], Placement]) -> _Result:
        """In the engine's thread, where the catalogue tells whose a name is."""
        return self._named(self._attempt(entry, do), do)

    def _named(self, result: _Result, do: Callable[[RestoreEntry], Placement]) -> _Result:
        """What becomes of an entry that the destination found under another name."""
        entry = result.entry
        if not result.taken:
            return result
        owner = self._twins.owner_of(entry, result.stored)
        if owner != entry.path or result.stored is None:
            return _Result(entry, Placement.NAME_TAKEN, stored=owner)
        return self._attempt(entry._replace(path=beside(entry.path, result.stored)), do)

    def _refuse_name(self, entry: RestoreEntry, owner: bytes | None, above: bytes | None = None) -> None:
        if entry.kind is EntryKind.FOLDER:
            self._twins.close_folder(entry.path, owner)
        if self._twins.is_news(entry.path):
            self._tally.find_taken(entry, owner, above)

    def _foreseen(self, entry: RestoreEntry) -> Placement | None:
        return self._attempt_here(entry, self._foresee_one).placement

    def _foresee_one(self, entry: RestoreEntry) -> Placement:
        return self._target.foresee(entry, self._options.overwrite, self._meter)

    def _foresee(self, entry: RestoreEntry) -> Placement | None:
        """Count what would become of the entry, or what becomes of one whose content is not on this disk."""
        result = self._attempt_here(entry, self._foresee_one)
        if result.placement is Placement.LEFT_ALONE and not self._options.simulate:
            result = self._attempt_here(entry, self._mend)
        if result.placement is Placement.RESTORED and entry.digest is not None and not self._is_here(entry):
            self._miss(entry, entry.digest)
            return result.placement
        self._account(result)
        return result.placement

    def _mend(self, entry: RestoreEntry) -> Placement:
        """Have what is right given its metadata, from what stands there; RESTORED: only its content could set it right."""
        try:
            return self._target.place(entry, _read_nothing, self._meter, False)
        except _NotAtHand:
            return Placement.RESTORED

    def _miss(self, entry: RestoreEntry, digest: bytes) -> None:
        if entry.flags & EntryFlag.LINKED and entry.inode:
            # All its names come with the first one.
            name = (entry.device, entry.inode, digest)
            if name in self._missing_links:
                return
            self._missing_links.add(name)
        self._tally.miss(entry, entry.holders - self._tally.bad.get(digest, set()))

    def _account(self, result: _Result, written: bool = True) -> None:
        result = self._named(result, self._place)
        tally, entry, placement = self._tally, result.entry, result.placement
        if placement is Placement.NAME_TAKEN:
            self._refuse_name(entry, result.stored)
            return
        if result.bad and self._reading is not None and entry.digest is not None:
            if self._reading.root is not None:
                recognise(self._reading.store, self._reading.disk, self._reading.root)
                self._reading.store.must_answer()
            tally.find_bad(entry, entry.digest, self._reading.disk, result.problem)
        elif placement is None:
            tally.fail(entry, result.problem)
        elif not self._scope.judged or entry.digest is None or placement is Placement.RESTORED:
            tally.place(entry, placement, written and not self._options.link)


class _NotAtHand(EntryRefused):
    """What stands there is not what it seemed to be, and its content lies on another disk."""


def _read_nothing() -> int:
    raise _NotAtHand("what stands in its place only looks like it; it is restored when its disk is here")
