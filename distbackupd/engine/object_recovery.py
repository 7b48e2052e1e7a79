"""Contents whose names are lost: each object of a disk becomes a file named by its hash and by what it looks like."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from distbackupd.engine.ports import BadContent, DiskStore, EntryRefused, Placement, Pulse, Reporter, RestoreTarget
from distbackupd.model.errors import Interrupted
from distbackupd.model.files import Attributes, EntryFlag, EntryKind, RestoreEntry
from distbackupd.planning.kinds import HEAD, UNKNOWN, guess_extension

_SETTLE = 2000
NAMES_TOLD = 20


@dataclass(slots=True)
class ObjectsReport:
    """What was brought back. ``kinds``: how many of each extension. ``bad``: some of ``failed``, with the reason."""

    restored: int = 0
    restored_bytes: int = 0
    left_alone: int = 0
    failed: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


def bring_objects(store: DiskStore, target: RestoreTarget, report: ObjectsReport, reporter: Reporter, pulse: Pulse) -> None:
    """Copy each object of the disk to ``jpg/0005e3d2….jpg`` and the like, hashing it on the way.

    What is there already is left alone, so the next disk adds what this one lacks. Raises DiskTrouble, TargetTrouble,
    Interrupted; what was brought back stays.
    """
    reporter.begin("restoring objects")
    try:
        for number, (digest, size) in enumerate(store.objects(), 1):
            if pulse.is_set():
                raise Interrupted("stopped; what is restored is whole and stays, the same command goes on there")
            if size:
                _bring(store, target, report, digest, size, pulse)
            reporter.advance(1, size, digest.hex().encode())
            if number % _SETTLE == 0:
                target.settle()
    finally:
        target.finish()
        reporter.end()


def _bring(store: DiskStore, target: RestoreTarget, report: ObjectsReport, digest: bytes, size: int, pulse: Pulse) -> None:
    try:
        with _opened(store, digest) as descriptor:
            extension = guess_extension(os.pread(descriptor, HEAD, 0))
            mtime_ns = os.fstat(descriptor).st_mtime_ns
        entry = _entry(digest, size, extension, mtime_ns)
        # Another disk's copy may be of another day; the name is the content.
        if target.foresee(entry, overwrite=False) is not Placement.RESTORED:
            report.left_alone += 1
            return
        target.place(entry, functools.partial(store.open_object, digest), pulse, overwrite=False)
    except (BadContent, EntryRefused, OSError) as error:
        report.failed += 1
        if len(report.bad) < NAMES_TOLD:
            report.bad.append((digest.hex(), str(error)))
    else:
        report.restored += 1
        report.restored_bytes += size
        report.kinds[extension] += 1


@contextlib.contextmanager
def _opened(store: DiskStore, digest: bytes) -> Iterator[int]:
    descriptor = store.open_object(digest)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _entry(digest: bytes, size: int, extension: str, mtime_ns: int) -> RestoreEntry:
    name = digest.hex()
    path = f"/{extension}/{name}.{extension}" if extension != UNKNOWN else f"/{extension}/{name}"
    return RestoreEntry(
        path=path.encode(),
        kind=EntryKind.FILE,
        size=size,
        mtime_ns=mtime_ns,
        device=0,
        inode=0,
        flags=EntryFlag.NONE,
        attributes=Attributes(0o600, os.geteuid(), os.getegid()),
        target=b"",
        digest=digest,
        holders=frozenset(),
    )
