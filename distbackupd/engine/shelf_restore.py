"""Restore from as many disks as it takes, in whichever order they come.

survey what is wanted -> choose disks -> read one that is here, else ask for one and wait -> ... -> report

What is at the destination is the only memory of how far it came: whatever interrupts it, the same command goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from distbackupd.engine.bench import Bench
from distbackupd.engine.door import locate, opened, volumes_of
from distbackupd.engine.ports import Attendant, EntryRefused, Placement, RestoreTarget, Stop
from distbackupd.engine.restoration import Reading, RestorePass, Scope, never_kept, refuse_if_stopped
from distbackupd.engine.restore_meaning import Meaning, RestoreOptions
from distbackupd.engine.restore_tally import NAMES_KEPT, RestoreReport, Tally
from distbackupd.engine.restore_twins import Twins
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DiskTrouble
from distbackupd.model.events import MayUnplug, Remark
from distbackupd.model.files import EntryKind, RestoreEntry
from distbackupd.planning.disk_choice import NOTHING, Share
from distbackupd.planning.restore_plan import RestorePlan, plan_restore

_TELLING_BYTES = 1_000_000_000
"""Sessions that copied less say nothing of a disk's speed."""
_SESSIONS_LOOKED_AT = 500


class ShelfRestore:
    """One restore from the shelf.

    ``without``: disks that are not to be asked for; ``may_mount``: whether disks that are only plugged in can be mounted.
    """

    def __init__(
        self,
        bench: Bench,
        target: RestoreTarget,
        options: RestoreOptions,
        stop: Stop,
        without: Collection[int] = (),
        may_mount: bool = True,
    ) -> None:
        self._bench = bench
        self._target = target
        self._options = options
        self._stop = stop
        self._may_mount = may_mount
        self._disks = [disk for disk in bench.catalogue.disks.all() if disk.id not in without]
        self._freshness = {disk.id: sum(bench.catalogue.disks.verified_at(disk.id).values()) for disk in self._disks}
        self._speeds = measured_speeds(bench, self._disks)
        self._wanted: dict[frozenset[int], Share] = {}
        self._planned: dict[frozenset[int], RestorePlan] = {}
        """Plans for what is wanted, by the disks that are here: somebody who waits asks for one every second."""
        self._judged = False
        self._bare = True
        self._done: set[int] = set()
        self._aside: set[int] = set()
        """Disks that gave trouble, until they were away."""
        self._tally = Tally(bench.reporter, retries=True)
        self._twins = Twins(bench.catalogue.history, options.at)
        self._not_kept: Mapping[str, int] = {}

    def survey(self) -> RestorePlan:
        """What is wanted and where it lies. With ``simulate`` nothing is changed; else it may begin with what needs no disk.

        Raises TargetTrouble, Interrupted.
        """
        selection = self._options.selection
        if selection.is_plain and not self._options.existing and self._target.is_empty():
            for root in selection.roots:
                for holders, (files, size) in self._bench.catalogue.history.shares(root, self._options.at).items():
                    self._want(holders, Share(files, size))
        else:
            self._look(self._tally)
            self._judged = True
            self._bare = self._options.simulate
        plan = self._plan(self._here())
        return plan._replace(lost_names=self._lost_names()) if plan.lost.files else plan

    def run(self, attendant: Attendant, patient: bool = True) -> RestoreReport:
        """Restore all of it; unless ``patient``, only what the disks bring that are here. See :func:`restore`.

        ``report.missing`` is what is wanted still. Raises TargetTrouble, Interrupted, UsageError.
        """
        attendant.show(self.survey())
        asked: tuple[int, ...] = ()
        while True:
            refuse_if_stopped(self._stop, self._tally)
            plan = self._plan(self._here())
            if plan.disks and plan.disks[0].here:
                self._read(plan.disks[0].disk, plan.disks[0].share)
            elif self._bare:
                self._pass(None, NOTHING)
            elif not plan.disks or not patient:
                break
            else:
                wanted = tuple(planned.disk.id for planned in plan.disks)
                if wanted != asked:
                    attendant.ask(plan)
                    asked = wanted
                attendant.wait()
        self._tally.never_kept = never_kept(self._bench.catalogue, self._options)
        self._tally.sum_up(self._not_kept)
        return replace(self._tally.report(self._not_kept), missing=dict(self._wanted))

    def _want(self, holders: frozenset[int], share: Share) -> None:
        self._planned.clear()
        self._wanted[holders] = self._wanted.get(holders, NOTHING).with_more(*share)

    def _plan(self, here: frozenset[int]) -> RestorePlan:
        if here not in self._planned:
            self._planned[here] = plan_restore(self._wanted, self._disks, here, self._freshness, self._speeds)
        return self._planned[here]

    def _here(self) -> frozenset[int]:
        """Disks that hold something wanted and can be read now."""
        holding = {disk for holders in self._wanted for disk in holders}
        present = {disk.id for disk in self._disks if disk.id in holding and self._is_present(disk)}
        self._aside &= present
        return frozenset(present - self._aside)

    def _is_present(self, disk: BackupDisk) -> bool:
        try:
            return locate(self._bench, disk) is not None or (self._may_mount and bool(volumes_of(self._bench, disk)))
        except DiskTrouble:
            return True  # two claim to be it; what to do is told when it is to be read

    def _read(self, disk: BackupDisk, share: Share) -> None:
        began, restored = self._bench.clock.monotonic(), self._tally.restored
        try:
            with opened(self._bench, disk, read_only=True, may_mount=self._may_mount) as held:
                self._pass(Reading(disk, held.store, held.root), share)
                self._tick_off(disk)
            if held.mount.ours:
                self._bench.reporter.tell(MayUnplug(disk.name, disk.uuid))
        except DiskTrouble as trouble:
            self._bench.reporter.tell(Remark(str(trouble)))
            if self._tally.restored == restored:
                self._aside.add(disk.id)
            self._wanted.clear()
            again = Tally(self._bench.reporter, retries=True, bad=self._tally.bad)
            again.unknown_owners = self._tally.unknown_owners
            self._look(again)
            self._judged, self._bare = True, False
            return
        seconds = self._bench.clock.monotonic() - began
        if share.size >= _TELLING_BYTES and seconds > 0:
            self._planned.clear()
            for other in self._disks:
                self._speeds.setdefault(other.id, share.size / seconds)

    def _tick_off(self, disk: BackupDisk) -> None:
        self._done.add(disk.id)
        self._planned.clear()
        self._wanted = {holders: share for holders, share in self._wanted.items() if disk.id not in holders}
        for holders, share in self._tally.missing.items():
            self._want(holders, share)
        self._tally.missing.clear()

    def _pass(self, reading: Reading | None, share: Share) -> None:
        """What lies on the disk, and the first time what lies on none."""
        scope = Scope(bare=self._bare, others=False, judged=self._judged, done=frozenset(self._done))
        self._not_kept = self._new_pass(self._tally).run(reading, scope, share)
        refuse_if_stopped(self._stop, self._tally)
        self._bare = False

    def _look(self, tally: Tally) -> None:
        """Go through all that is meant without a disk, and see what is still missing."""
        self._not_kept = self._new_pass(tally).run(None, Scope())
        if tally is not self._tally:
            # What is not possible is counted once, by whichever pass met it first.
            self._tally.taken += tally.taken
            self._tally.taken_names += tally.taken_names
        refuse_if_stopped(self._stop, self._tally)
        for holders, share in tally.missing.items():
            self._want(holders, share)
        tally.missing.clear()

    def _new_pass(self, tally: Tally) -> RestorePass:
        bench = self._bench
        return RestorePass(bench.catalogue, self._target, self._options, bench.reporter, self._stop, tally, self._twins)

    def _lost_names(self) -> tuple[bytes, ...]:
        """The first of what lies on no disk that may be asked for."""
        known = {disk.id for disk in self._disks}
        sets = self._bench.catalogue.objects.holder_sets()
        lost = [number for number, members in sets.items() if not members & known]
        names: list[bytes] = []
        for entry in Meaning(self._bench.catalogue.history, self._target, self._options).entries(lost, bare=False):
            if entry.kind is EntryKind.FILE and not self._is_restored(entry):
                names.append(entry.path)
                if len(names) == NAMES_KEPT:
                    break
        return tuple(names)

    def _is_restored(self, entry: RestoreEntry) -> bool:
        if not self._judged:
            return False
        try:
            return self._target.foresee(entry, self._options.overwrite) is not Placement.RESTORED
        except EntryRefused:
            return True


def measured_speeds(bench: Bench, disks: Collection[BackupDisk]) -> dict[int, float]:
    """Bytes a second that the disks took in their best session; a disk that never took much is not in it.

    A disk reads about as fast as it writes, and a session does other things too, so it is rather faster.
    """
    best: dict[str, float] = {}
    for session in bench.catalogue.sessions.recent(_SESSIONS_LOOKED_AT):
        seconds = (session.ended or session.started) - session.started
        if session.copied_bytes >= _TELLING_BYTES and seconds > 0:
            best[session.disk_name] = max(best.get(session.disk_name, 0.0), session.copied_bytes / seconds)
    return {disk.id: best[disk.name] for disk in disks if disk.name in best}
