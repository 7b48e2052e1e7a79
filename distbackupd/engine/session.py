"""A session: one backup disk from recognition to release.

    recognise -> clear up after an interrupted session -> plan -> execute -> verify a share -> save the catalogue's copy

Mounting, unmounting and letting go is around it (:func:`back_up_volume`), or somebody else's (:func:`run_session`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from distbackupd.engine.bench import Bench
from distbackupd.engine.execution import Execution, Executor
from distbackupd.engine.ports import DiskStore, SessionSummary, StagedCopy, Stop
from distbackupd.engine.pulse import Meter
from distbackupd.engine.recognition import locate, recognise, refuse_clones, root_on, volumes_of
from distbackupd.engine.release import say_farewell
from distbackupd.engine.verification import Verification, VerificationOptions, verify_share
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.disks import BackupDisk, Mount, Volume, footprint
from distbackupd.model.errors import DiskClone, DiskTrouble, DistbackupError, Interrupted
from distbackupd.model.events import (
    DiskRefused,
    Remark,
    SessionFailed,
    SessionFinished,
    SessionInterrupted,
    SessionStarted,
    StillMounted,
)
from distbackupd.model.plans import DiskFacts, Plan, Policy
from distbackupd.model.text import printable, say_count, say_size
from distbackupd.planning.cycle import plan_cycle


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session does beside copying. ``share``: what is verified at its end; ``power_off``: switch drives off."""

    policy: Policy
    share: VerificationOptions
    power_off: bool = False


def back_up_volume(
    bench: Bench, volume: Volume, options: SessionOptions, stop: Stop, waiting: Sequence[Volume] = ()
) -> bool:
    """Mount a plugged-in volume, run a session for each enrolled disk on it, and let it go; whether there was one.

    An unknown volume is not touched, not even mounted. ``waiting``: volumes that will have sessions after this one.

    Raises DiskTrouble, the first if there are several, after telling it and unmounting the volume; Interrupted when
    stopped, the volume is unmounted then too.
    """
    disks = [disk for disk in bench.catalogue.disks.all() if disk.lies_on(volume)]
    if not disks:
        return False
    names = ", ".join(disk.name for disk in disks)
    finished, troubles = [], []
    try:
        refuse_clones(bench, volume.filesystem_uuid)
        with bench.mounter.mounted(volume, disks[0].name) as mount:
            if mount.remark:
                bench.reporter.tell(Remark(f"{names}: {mount.remark}"))
            for disk in disks:
                try:
                    run_session(bench, disk, root_on(disk, mount), mount, options, stop)
                    finished.append(disk)
                except DiskTrouble as trouble:
                    troubles.append(trouble)
    except DiskClone as clone:
        bench.reporter.tell(DiskRefused(names, str(clone)))
        clone.told = True
        raise
    except DiskTrouble as trouble:
        bench.reporter.tell(SessionFailed(names, disks[0].uuid, str(trouble)))
        trouble.told = True
        raise
    say_farewell(bench, volume, mount, finished, options.power_off, waiting)
    if troubles:
        raise troubles[0]
    return True


def back_up_disk(
    bench: Bench,
    disk: BackupDisk,
    options: SessionOptions,
    stop: Stop,
    begins: Callable[[Volume], None],
    waiting: Sequence[Volume] = (),
) -> None:
    """A session with an enrolled disk that somebody named, mounted or only plugged in; ``begins`` hears where it is.

    Raises DiskTrouble, Interrupted, as :func:`back_up_volume` does; DiskTrouble that is not told if it is not here.
    """
    place = locate(bench, disk)
    if place is None:
        volumes = volumes_of(bench, disk)
        if not volumes:
            raise DiskTrouble(
                f"'{disk.name}' is not here: plug it in, or mount it where it was ({printable(disk.last_path)})"
            )
        begins(volumes[0])
        back_up_volume(bench, volumes[0], options, stop, waiting)
        return
    root, mount = place
    refuse_clones(bench, disk.filesystem_uuid)
    begins(Volume(mount.device, mount.filesystem_uuid or "", mount.filesystem_type))
    run_session(bench, disk, root, mount, options, stop)
    bench.reporter.tell(StillMounted(disk.name, disk.uuid, printable(mount.root)))


def run_session(
    bench: Bench, disk: BackupDisk, root: bytes, mount: Mount, options: SessionOptions, stop: Stop
) -> SessionFinished:
    """One whole session on a mounted disk. Raises DiskTrouble (after telling it), Interrupted."""
    began = bench.clock.monotonic()
    store = bench.open_store(root, mount)
    try:
        recognise(store, disk, root)
        store.prepare()
    except DiskTrouble as trouble:
        bench.reporter.tell(DiskRefused(disk.name, str(trouble)))
        trouble.told = True
        raise
    bench.reporter.tell(SessionStarted(disk.name, disk.uuid, printable(root)))
    now = bench.clock.now()
    session = bench.catalogue.sessions.start(disk, now)
    done = Execution()
    outcome, sentence = "failed", ""
    was_clean = disk.clean
    checks = disk.last_session_at is None or now - disk.last_session_at >= SHARE_PAUSE
    try:
        disk = replace(disk, clean=False, last_session_at=now, last_path=root)
        bench.catalogue.disks.update(disk)
        if not was_clean:
            clear_up(bench, disk, store, stop)
        capacity = usable_capacity(bench, disk, store)
        plan = plan_session(bench, disk, store, capacity, options.policy)
        tree = VirtualTree(bench.catalogue.sources.all(), bench.catalogue.sources.settings())
        executor = Executor(bench, disk, store, tree, capacity, stop, checks_existing=not was_clean)
        done = executor.done
        if plan.unplaced_objects and capacity < disk.capacity:
            lacking = say_size(disk.capacity - capacity)
            bench.reporter.tell(
                Remark(
                    f"{disk.name}: its file system has {lacking} less room for copies than its size says: remove what else "
                    f"lies on it, or lower its size with 'dsb disk set {disk.name} --size'"
                )
            )
        if plan.too_large:
            objects = say_count(plan.too_large, "object")
            bench.reporter.tell(Remark(f"{disk.name}: its file system holds no file of 4 GiB, {objects} cannot go there"))
        executor.run(plan)
        checked = verify_share(bench, disk, store, options.share, stop) if checks else Verification()
        disk = save_catalogue(bench, disk, store)
        finished = SessionFinished(
            disk=disk.name,
            uuid=disk.uuid,
            copied_objects=done.copied_objects,
            copied_bytes=done.copied_bytes,
            deleted_objects=done.deleted_objects,
            deleted_bytes=done.deleted_bytes,
            verified_objects=checked.objects,
            skipped=done.skipped,
            unplaced_objects=plan.unplaced_objects,
            unplaced_bytes=plan.unplaced_bytes,
            seconds=bench.clock.monotonic() - began,
        )
        bench.catalogue.disks.update(replace(disk, clean=True))
        outcome, sentence = "finished", finished.sentence
        bench.reporter.tell(finished)
    except Interrupted as stopped:
        interrupted = SessionInterrupted(disk.name, disk.uuid, done.copied_objects)
        outcome, sentence = "interrupted", interrupted.sentence
        bench.reporter.tell(interrupted)
        stopped.told = True
        raise
    except DistbackupError as trouble:
        failed = SessionFailed(disk.name, disk.uuid, str(trouble))
        sentence = failed.sentence
        bench.reporter.tell(failed)
        trouble.told = True
        raise
    finally:
        summary = SessionSummary(
            disk.name,
            now,
            bench.clock.now(),
            outcome,
            done.copied_objects,
            done.copied_bytes,
            done.deleted_objects,
            done.deleted_bytes,
            sentence,
        )
        bench.catalogue.sessions.finish(session, summary)
    return finished


def usable_capacity(bench: Bench, disk: BackupDisk, store: DiskStore) -> int:
    """Bytes of footprint that objects may fill: the disk's size, or less where others took room on it."""
    _, used = bench.catalogue.disks.used(disk.id)
    return min(disk.capacity, used + max(0, store.space().free - CATALOGUE_ROOM))


SHARE_PAUSE = 20 * 3600
"""Seconds: a share is verified once a day, so that a disk that is plugged twice is released at once the second time."""

CATALOGUE_ROOM = 64 << 20
"""Bytes kept free for the catalogue's copy, and for the file system's own tables."""


def plan_session(bench: Bench, disk: BackupDisk, store: DiskStore | None, capacity: int, policy: Policy) -> Plan:
    """What a cycle would do now. ``store`` None: the disk is not here; its file system is taken for an ordinary one."""
    space = store.space() if store is not None else None
    facts = DiskFacts(
        id=disk.id,
        capacity=capacity,
        block_size=space.block_size if space else 4096,
        largest_file=space.largest_file if space else 0,
    )
    objects = bench.catalogue.objects
    # The generation as seed: nothing changed, the same plan; a repeated session does not repeat an unlucky choice.
    rng = Random(bench.catalogue.generation())
    return plan_cycle(objects.facts(), objects.holder_sets(), facts, policy, bench.clock.now(), rng)


def clear_up(bench: Bench, disk: BackupDisk, store: DiskStore, stop: Stop) -> None:
    """After an interrupted session: take over complete copies, remove the rest, finish removals."""
    objects = bench.catalogue.objects
    pending = objects.pending_removals(disk.id)
    if pending:
        known = objects.identifiers(pending)
        holders = objects.holders(list(known.values()))
        store.remove(digest for digest in pending if digest not in known or disk.id not in holders[known[digest]])
        store.flush()
        objects.removals_done(disk.id)
    kept = _what_fits(bench, disk, store, store.leftovers(objects.known_sizes, Meter(stop)))
    if kept:
        store.commit(kept)
        objects.record_copies(disk.id, list(objects.identifiers([copy.digest for copy in kept]).values()))
        bench.reporter.tell(Remark(f"{disk.name}: took over {say_count(len(kept), 'copy', 'copies')} of the last session"))


def _what_fits(bench: Bench, disk: BackupDisk, store: DiskStore, copies: Sequence[StagedCopy]) -> list[StagedCopy]:
    """As many of the copies as the disk's size allows; the others, whose victims have not left, are removed."""
    _, used = bench.catalogue.disks.used(disk.id)
    block_size = store.space().block_size
    kept, given_up = [], []
    for copy in copies:
        used += footprint(copy.size, block_size)
        if used > disk.capacity:
            used -= footprint(copy.size, block_size)
            given_up.append(copy)
        else:
            kept.append(copy)
    store.discard(given_up)
    return kept


def save_catalogue(bench: Bench, disk: BackupDisk, store: DiskStore) -> BackupDisk:
    """Put the catalogue's copy on the disk unless the same is there already; the disk as it is known then."""
    generation = bench.catalogue.generation()
    if disk.catalogue_generation == generation:
        store.flush()
        return disk
    bench.reporter.begin("saving the catalogue")
    try:
        store.save_catalogue(bench.catalogue.write_copy)
        store.flush()
    finally:
        bench.reporter.end()
    disk = replace(disk, catalogue_generation=generation)
    bench.catalogue.disks.update(disk)
    return disk
