"""Re-read copies on a backup disk, past the page cache, and strike the bad ones from the catalogue.

Objects are read folder by folder (the first three digits of their names), those that were verified longest ago first;
when each folder was last verified whole is kept, so a later run goes on where this one stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import CopyVerdict, DiskStore, Stop
from distbackupd.engine.pulse import Meter, handfuls, work_in_threads
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import Interrupted
from distbackupd.model.events import BadCopyFound

FOLDERS = 4096
_BATCH_OBJECTS = 20_000
_BATCH_BYTES = 1 << 30
"""Bounds of what is read between two looks at the share and the clock; at a disk's speed some ten seconds."""
_TASK_OBJECTS = 32
_TASK_BYTES = 8 << 20

Held = tuple[int, bytes, int]
"""Object id, digest, size."""


@dataclass(frozen=True, slots=True)
class VerificationOptions:
    """``share``: part of the disk's bytes, 0 to 1; ``seconds``: the longest time. None: no limit.

    ``start``: first hexadecimal digits of the object to begin with, as distbackup's ``--start``; a folder that is begun
    in its middle is not verified whole. ``strike``: bad copies are struck from the catalogue and their files moved to
    ``bad-objects``, or deleted if ``delete``.
    """

    share: float = 1.0
    seconds: float | None = None
    start: str = ""
    strike: bool = True
    delete: bool = False


@dataclass(slots=True)
class Verification:
    """What was read and found. ``bad`` pairs verdicts with one virtual path each."""

    objects: int = 0
    read_bytes: int = 0
    bad: list[tuple[CopyVerdict, bytes]] = field(default_factory=list)


def verify_share(bench: Bench, disk: BackupDisk, store: DiskStore, options: VerificationOptions, stop: Stop) -> Verification:
    """Verify folders until the share or the time is used up. Raises DiskTrouble, Interrupted."""
    done = Verification()
    if options.share <= 0 or (options.seconds is not None and options.seconds <= 0):
        return done
    count, total = bench.catalogue.disks.held(disk.id)
    start = bytes.fromhex(options.start.ljust(64, "0")) if options.start else b""
    budget = total * options.share
    deadline = None if options.seconds is None else bench.clock.monotonic() + options.seconds
    meter = Meter(stop)
    bench.reporter.begin("verifying", count if options.share >= 1 else 0, round(budget))
    try:
        batch: list[int] = []
        held: list[Held] = []
        size = 0
        for folder in _order(bench, disk, start):
            if done.read_bytes >= budget or (deadline is not None and bench.clock.monotonic() >= deadline):
                break
            if (folder << 4).to_bytes(2, "big").ljust(32, b"\0") >= start:
                batch.append(folder)
            added = [item for item in bench.catalogue.objects.held_in_folder(disk.id, folder) if item[1] >= start]
            held += added
            size += sum(item[2] for item in added)
            if len(held) >= _BATCH_OBJECTS or size >= _BATCH_BYTES or done.read_bytes + size >= budget:
                _verify_folders(bench, disk, store, options, batch, held, meter, done)
                batch, held, size = [], [], 0
        _verify_folders(bench, disk, store, options, batch, held, meter, done)
    finally:
        bench.reporter.end()
    return done


def _order(bench: Bench, disk: BackupDisk, start: bytes) -> list[int]:
    """Folders to verify: those of longest ago first; with a start, from there in order."""
    if start:
        return list(range(int.from_bytes(start[:2], "big") >> 4, FOLDERS))
    verified_at = bench.catalogue.disks.verified_at(disk.id)
    return sorted(range(FOLDERS), key=lambda folder: (verified_at.get(folder, 0), folder))


def _verify_folders(
    bench: Bench,
    disk: BackupDisk,
    store: DiskStore,
    options: VerificationOptions,
    folders: Sequence[int],
    held: Sequence[Held],
    meter: Meter,
    done: Verification,
) -> None:
    by_digest = {item[1]: item for item in held}
    ordered = [by_digest[digest] for digest in store.reading_order(by_digest)]

    def check(items: Sequence[Held]) -> list[CopyVerdict]:
        verdicts = []
        for _, digest, size in items:
            with meter.lane(size):
                if meter.is_set():
                    break
                verdicts.append(store.check(digest, size, meter))
        return verdicts

    tasks = handfuls(ordered, lambda item: item[2], _TASK_OBJECTS, _TASK_BYTES)
    checked = 0
    for verdicts in work_in_threads(tasks, check, meter, bench.reporter):
        for verdict in verdicts:
            checked += 1
            if verdict.problem:
                _handle_bad(bench, disk, store, options, by_digest[verdict.digest][0], verdict, done)
        done.objects += len(verdicts)
        done.read_bytes += sum(verdict.size for verdict in verdicts)
        bench.reporter.advance(len(verdicts), meter.drain())
    if checked < len(held):
        raise Interrupted("verifying was stopped; what was verified is noted, the next run goes on there")
    if folders and options.strike:
        bench.catalogue.disks.record_verified(disk.id, folders, bench.clock.now())


def _handle_bad(
    bench: Bench,
    disk: BackupDisk,
    store: DiskStore,
    options: VerificationOptions,
    identifier: int,
    verdict: CopyVerdict,
    done: Verification,
) -> None:
    path = bench.catalogue.files.path_of_object(identifier)
    done.bad.append((verdict, path))
    if options.strike:
        # Struck first: if the program dies here, the catalogue says less than the disk holds, never more.
        bench.catalogue.objects.strike(disk.id, identifier)
        if options.delete:
            store.remove([verdict.digest])
        else:
            store.set_aside(verdict.digest)
    bench.reporter.tell(BadCopyFound(disk.name, disk.uuid, verdict.digest.hex(), path, verdict.problem))
