"""A session: one backup disk from recognition to release.

    the door -> set back? as it was left? -> look at what lies there -> brake? -> clear up after an interrupted session
    -> plan -> execute -> verify a share -> save the catalogue's copy -> note how the disk is left

Mounting, unmounting and letting go is around it (:func:`back_up_volume`), or somebody else's (:func:`run_session`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from distbackupd.engine.bench import Bench
from distbackupd.engine.braking import brake_before
from distbackupd.engine.catalogue_copy import refuse_if_set_back, relies_on_hearsay, save_catalogue
from distbackupd.engine.clearing import clear_up
from distbackupd.engine.cycle import as_plugged, measured_overhead, plan_session, remark_on
from distbackupd.engine.door import (
    HeldDisk,
    entered,
    locate,
    must_be_as_left,
    opened,
    refuse_clones,
    root_on,
    settled,
    volumes_of,
)
from distbackupd.engine.execution import Execution, Executor
from distbackupd.engine.looking import look_at_disk, note_folders
from distbackupd.engine.mending import mend_copies
from distbackupd.engine.ports import SessionSummary, Stop
from distbackupd.engine.release import say_farewell
from distbackupd.engine.rescuing import rescue
from distbackupd.engine.room import bytes_declined, shortage_on, with_room
from distbackupd.engine.verification import Verification, VerificationOptions, verify_share
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.disks import BackupDisk, DiskIdentity, Mount, Volume
from distbackupd.model.errors import DiskClone, DiskFull, DiskTrouble, DistbackupError, Interrupted
from distbackupd.model.events import (
    DiskRefused,
    Remark,
    SessionFailed,
    SessionFinished,
    SessionInterrupted,
    SessionStarted,
    StillMounted,
)
from distbackupd.model.plans import Policy
from distbackupd.model.text import printable
from distbackupd.planning.brake import BrakeThresholds


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session does beside copying. ``share``: what is verified at its end; ``power_off``: switch drives off;
    ``brake``: when nothing may be deleted.
    """

    policy: Policy
    share: VerificationOptions
    power_off: bool = False
    brake: BrakeThresholds = field(default_factory=BrakeThresholds)


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
                    run_session_at(bench, disk, root_on(disk, mount), mount, options, stop)
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
    volumes = [] if locate(bench, disk) else volumes_of(bench, disk)
    if volumes:
        begins(volumes[0])
        back_up_volume(bench, volumes[0], options, stop, waiting)
        return
    with opened(bench, disk) as held:
        mount = held.mount
        begins(Volume(mount.device, mount.filesystem_uuid or "", mount.filesystem_type))
        run_session(bench, held, options, stop)
    bench.reporter.tell(StillMounted(disk.name, disk.uuid, printable(mount.root)))


def run_session_at(
    bench: Bench, disk: BackupDisk, root: bytes, mount: Mount, options: SessionOptions, stop: Stop
) -> SessionFinished:
    """The same on a disk that is still to be opened, at a place of a mount."""
    with contextlib.ExitStack() as stack:
        with _refusals_told(bench, disk):
            held = stack.enter_context(entered(bench, disk, root, mount))
        return run_session(bench, held, options, stop)


@contextlib.contextmanager
def _refusals_told(bench: Bench, disk: BackupDisk) -> Iterator[None]:
    try:
        yield
    except DiskTrouble as trouble:
        bench.reporter.tell(DiskRefused(disk.name, str(trouble)))
        trouble.told = True
        raise


def run_session(bench: Bench, held: HeldDisk, options: SessionOptions, stop: Stop) -> SessionFinished:
    """One whole session on a disk. Raises DiskTrouble (after telling it), Interrupted."""
    began = bench.clock.monotonic()
    disk, store, mount = held.disk, held.store, held.mount
    with _refusals_told(bench, disk):
        is_ours = refuse_if_set_back(bench, disk, store)
        must_be_as_left(bench, held)
        store.prepare()
        identity = store.identity()
        if identity is None or identity.name != disk.name:
            with contextlib.suppress(DiskFull):  # its name is for people; its UUID is there, or it would not be here
                store.write_identity(DiskIdentity(disk.uuid, disk.name))
    bench.reporter.tell(SessionStarted(disk.name, disk.uuid, printable(held.root)))
    now = bench.clock.now()
    session = bench.catalogue.sessions.start(disk, now)
    done = Execution()
    outcome, sentence = "failed", ""
    was_clean = disk.clean
    checks = disk.last_session_at is None or now - disk.last_session_at >= SHARE_PAUSE
    try:
        # Known to be unfinished before the first change: what is not looked at now is then looked at next time.
        bench.catalogue.disks.update(replace(disk, clean=False))
        looked = look_at_disk(bench, disk, store, stop, wary=not was_clean or bool(mount.remark))
        tree = VirtualTree(bench.catalogue.sources.all(), bench.catalogue.sources.settings())
        braking = brake_before(bench, disk, store, tree, options.brake)
        disk = replace(as_plugged(settled(held), store), clean=False, last_session_at=now)
        bench.catalogue.disks.update(disk)
        brake = braking.on or relies_on_hearsay(bench, disk)
        if looked.strays or not was_clean or store.holds_unfinished():
            clear_up(bench, disk, store, stop, looked.strays, brake)
        rescue(bench, disk, store, stop)
        disk = with_room(bench, disk, store)
        bench.catalogue.disks.update(disk)
        policy = replace(options.policy, brake=brake, shortage=shortage_on(bench, store))
        plan = plan_session(bench, disk, policy)
        executor = Executor(bench, disk, store, tree, stop)
        done = executor.done
        remark_on(bench, disk, plan)
        free = store.space().free
        executor.run(plan)
        if not done.deleted_objects:
            taken = executor.used - plan.used_before
            overhead = measured_overhead(disk, done.copied_objects, taken, free - store.space().free)
            disk = replace(disk, overhead=overhead)
        checked = verify_share(bench, disk, store, options.share, stop) if checks else Verification()
        mend_copies(bench, disk, executor, checked.bad_objects)
        disk = save_catalogue(bench, disk, store, is_ours)
        unplaced = plan.unplaced_objects + done.left_objects
        disk = replace(with_room(bench, disk, store), declined=bytes_declined(bench, disk) if unplaced else 0)
        finished = SessionFinished(
            disk=disk.name,
            uuid=disk.uuid,
            copied_objects=done.copied_objects,
            copied_bytes=done.copied_bytes,
            deleted_objects=done.deleted_objects,
            deleted_bytes=done.deleted_bytes,
            verified_objects=checked.objects,
            skipped=done.skipped,
            unplaced_objects=unplaced,
            unplaced_bytes=plan.unplaced_bytes + done.left_bytes,
            seconds=bench.clock.monotonic() - began,
        )
        note_folders(bench, disk, store, looked.listed)
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
        if isinstance(trouble, DiskFull):
            with contextlib.suppress(DistbackupError):
                save_catalogue(bench, replace(disk, clean=False), store, is_ours)
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


SHARE_PAUSE = 20 * 3600
"""Seconds: a share is verified once a day, so that a disk that is plugged twice is released at once the second time."""
