"""Re-read copies on a backup disk, past the page cache, and strike the bad ones from the catalogue.

Objects are read folder by folder (the first three digits of their names), those that were verified longest ago first;
when each folder was last verified whole is kept, so a later run goes on where this one stopped. What is found bad is
read a second time before it is believed: cables, ports and memory fail too, and then a copy is good after all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import CopyVerdict, DiskStore, Stop
from distbackupd.engine.pulse import Meter, handfuls, work_in_threads
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import Interrupted
from distbackupd.model.events import BadCopyFound, Remark
from distbackupd.model.text import join_words, say_count

FOLDERS = 4096
_BATCH_OBJECTS = 20_000
_BATCH_BYTES = 1 << 30
"""Bounds of what is read between two looks at the share and the clock; at a disk's speed some ten seconds."""
_RESUMED_SECONDS = 30 * 86400
"""A run that was interrupted longer ago is begun anew: what it verified is not fresh any more."""
_TASK_OBJECTS = 32
_TASK_BYTES = 8 << 20

Held = tuple[int, bytes, int]
"""Object id, digest, size."""


@dataclass(frozen=True, slots=True)
class VerificationOptions:
    """``share``: part of the disk's bytes, 0 to 1; ``seconds``: the longest time. None: no limit.

    ``start``: first hexadecimal digits of the object to begin with, as distbackup's ``--start``; a folder that is begun
    in its middle is not verified whole. ``since``: folders that were verified whole at this moment (unix seconds) or
    later are left out. ``strike``: bad copies are struck from the catalogue and their files moved to
    ``bad-objects``, or deleted if ``delete``.
    """

    share: float = 1.0
    seconds: float | None = None
    start: str = ""
    since: int | None = None
    strike: bool = True
    delete: bool = False


@dataclass(slots=True)
class Verification:
    """What was read and found. ``bad`` pairs verdicts with one virtual path each; ``bad_objects``: their ids.

    ``doubtful`` copies were read wrong at first, and right the second time.
    """

    objects: int = 0
    read_bytes: int = 0
    bad: list[tuple[CopyVerdict, bytes]] = field(default_factory=list)
    bad_objects: list[int] = field(default_factory=list)
    doubtful: int = 0


def verify_share(
    bench: Bench,
    disk: BackupDisk,
    store: DiskStore,
    options: VerificationOptions,
    stop: Stop,
    done: Verification | None = None,
) -> Verification:
    """Verify folders until the share or the time is used up, which at most one batch or one large object exceeds.

    ``done`` is filled and returned, and true at any moment, also after an exception. Raises DiskTrouble, Interrupted.
    """
    done = done or Verification()
    if options.share <= 0 or (options.seconds is not None and options.seconds <= 0):
        return done
    count, total = bench.catalogue.disks.held(disk.id)
    start = bytes.fromhex(options.start.ljust(64, "0")) if options.start else b""
    # Of all, also the folders behind the last object are verified: they hold nothing.
    budget = total * options.share if options.share < 1 else math.inf
    deadline = None if options.seconds is None else bench.clock.monotonic() + options.seconds
    meter = Meter(stop)
    store.forget_cached()
    folders = _order(bench, disk, start, options.since)
    left = len(folders) / FOLDERS
    bench.reporter.begin("verifying", round(count * left) if options.share >= 1 else 0, round(min(budget, total * left)))
    try:
        batch: list[int] = []
        held: list[Held] = []
        size = 0
        for folder in folders:
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
    if done.doubtful:
        times = say_count(done.doubtful, "copy was", "copies were")
        bench.reporter.tell(
            Remark(f"{disk.name}: {times} read wrong at first and right the second time: look at its cable and its port")
        )
    return done


def verify_whole(
    bench: Bench,
    disk: BackupDisk,
    store: DiskStore,
    options: VerificationOptions,
    stop: Stop,
    done: Verification,
    restart: bool = False,
) -> int | None:
    """Verify everything, or what an interrupted run of the last weeks left over; when that one began, None: anew.

    What sessions verified meanwhile is left out too. Fills ``done``. Raises DiskTrouble, Interrupted.
    """
    key, now = f"verifying:{disk.uuid}", bench.clock.now()
    begun = int(bench.catalogue.sessions.recall(key) or 0)
    if restart or now - begun > _RESUMED_SECONDS:
        begun = 0
    if not begun:
        bench.catalogue.sessions.remember(key, str(now))
    verify_share(bench, disk, store, replace(options, since=begun or None), stop, done)
    bench.catalogue.sessions.remember(key, "")
    return begun or None


class Checks(NamedTuple):
    """How far the copies on a disk are verified. ``share``: which part ever was, 0 to 1; ``oldest``: of that, the moment
    (unix seconds) of the verification that is longest ago, None where nothing was.
    """

    share: float
    oldest: int | None


def checks_of(bench: Bench, disk: BackupDisk) -> Checks:
    """How far the disk is verified, from the catalogue alone; quick."""
    verified_at = bench.catalogue.disks.verified_at(disk.id)
    return Checks(len(verified_at) / FOLDERS, min(verified_at.values(), default=None))


def _order(bench: Bench, disk: BackupDisk, start: bytes, since: int | None) -> list[int]:
    """Folders to verify: those of longest ago first; with a start, from there in order."""
    if start:
        return list(range(int.from_bytes(start[:2], "big") >> 4, FOLDERS))
    verified_at = bench.catalogue.disks.verified_at(disk.id)
    due = [folder for folder in range(FOLDERS) if since is None or verified_at.get(folder, 0) < since]
    return sorted(due, key=lambda folder: (verified_at.get(folder, 0), folder))


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

    def check(items: Sequence[Held]) -> tuple[list[CopyVerdict], int]:
        verdicts, doubtful = [], 0
        for _, digest, size in items:
            with meter.lane(size):
                if meter.is_set():
                    break
                verdict = store.check(digest, size, meter)
                if verdict.problem:
                    verdict = store.check(digest, size, meter)
                    doubtful += not verdict.problem
                verdicts.append(verdict)
        return verdicts, doubtful

    tasks = handfuls(ordered, lambda item: item[2], _TASK_OBJECTS, _TASK_BYTES)
    checked = 0
    for verdicts, doubtful in work_in_threads(tasks, check, meter, bench.reporter):
        for verdict in verdicts:
            checked += 1
            if verdict.problem:
                _handle_bad(bench, disk, store, options, by_digest[verdict.digest][0], verdict, done)
        done.objects += len(verdicts)
        done.doubtful += doubtful
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
    done.bad_objects.append(identifier)
    if options.strike:
        # Struck first: if the program dies here, the catalogue says less than the disk holds, never more.
        bench.catalogue.objects.strike(disk.id, identifier)
        if options.delete:
            store.remove([verdict.digest])
        else:
            store.set_aside(verdict.digest)
    what = f"{verdict.problem}; {_said_of_others(bench, disk, identifier)}"
    bench.reporter.tell(BadCopyFound(disk.name, disk.uuid, verdict.digest.hex(), path, what))


def _said_of_others(bench: Bench, disk: BackupDisk, identifier: int) -> str:
    """Who else has a copy."""
    others = bench.catalogue.objects.holders([identifier])[identifier] - {disk.id}
    names = sorted(known.name for known in bench.catalogue.disks.all() if known.id in others)
    return f"there is another copy on {join_words(names)}" if names else "it was the only copy"
