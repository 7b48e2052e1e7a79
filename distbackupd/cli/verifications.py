"""``dsb verify``"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TextIO

from distbackupd.cli.moments import say_moment
from distbackupd.cli.output import say, say_json
from distbackupd.cli.session import CommandSession
from distbackupd.engine.catalogue_copy import save_catalogue
from distbackupd.engine.cycle import as_plugged
from distbackupd.engine.door import must_be_as_left
from distbackupd.engine.looking import look_again
from distbackupd.engine.mending import Mending, mend_disk
from distbackupd.engine.ports import DiskStore
from distbackupd.engine.verification import Verification, VerificationOptions, verify_share, verify_whole
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DiskReadOnly, DistbackupError, UsageError
from distbackupd.model.text import printable, say_count, say_duration, say_size


@dataclass(slots=True)
class _Report:
    """What there is to say, also when it was interrupted. ``resumed``: when the run began of which this is the rest."""

    disk: str
    done: Verification = field(default_factory=Verification)
    mending: Mending = field(default_factory=Mending)
    resumed: int | None = None
    seconds: float = 0.0
    complete: bool = False


def verify(session: CommandSession) -> int:
    """``dsb verify DISK``"""
    arguments = session.arguments
    strike = not (arguments.check or session.simulate)
    start = arguments.start or ""
    if len(start) > 64 or any(digit not in "0123456789abcdefABCDEF" for digit in start):
        raise UsageError(f"'{start}' does not begin a hash; hexadecimal digits are meant")
    options = VerificationOptions(start=start, strike=strike, delete=arguments.delete)
    with (
        _errors_file(arguments.errors) as errors,
        session.disk_here(arguments.disk, read_only=not strike) as held,
    ):
        disk, mount, store = held.disk, held.mount, held.store
        if strike and mount.read_only:
            raise DiskReadOnly(
                f"{disk.name} is mounted read-only at {printable(mount.root)}, so bad copies could not be moved away; "
                f"nothing was read: mount it for writing, or say 'dsb verify --check {disk.name}' to only report them"
            )
        report = _Report(disk.name)
        try:
            if strike:
                must_be_as_left(session.bench, held)
                store.prepare()
                look_again(session.bench, disk, store)
            _verify(session, as_plugged(disk, store), store, options, report)
        except DistbackupError:
            if report.done.objects:
                _print(session, report, strike)
            raise
        finally:
            if errors is not None:
                _write_errors(errors, disk.name, report.done)
    _print(session, report, strike)
    return 7 if report.done.bad else 0


def _verify(
    session: CommandSession, disk: BackupDisk, store: DiskStore, options: VerificationOptions, report: _Report
) -> None:
    bench, clock, done = session.bench, session.bench.clock, report.done
    began = clock.monotonic()
    try:
        if options.start or not options.strike:
            verify_share(bench, disk, store, options, session.stop, done)
        else:
            report.resumed = verify_whole(bench, disk, store, options, session.stop, done, session.arguments.restart)
    finally:
        report.seconds = clock.monotonic() - began
    if options.strike and done.bad:
        report.mending = mend_disk(bench, disk, store, done.bad_objects, session.stop)
        save_catalogue(bench, replace(disk, catalogue_generation=-1), store)
    report.complete = True


def _print(session: CommandSession, report: _Report, strike: bool) -> None:
    done, mending = report.done, report.mending
    if session.json:
        say_json(
            {
                "disk": report.disk,
                "objects": done.objects,
                "bytes": done.read_bytes,
                "seconds": round(report.seconds, 1),
                "complete": report.complete,
                "resumed": report.resumed,
                "bad": [
                    {"hash": verdict.digest.hex(), "size": verdict.size, "path": path, "problem": verdict.problem}
                    for verdict, path in done.bad
                ],
                "copied_again": mending.copied,
                "only_elsewhere": mending.elsewhere,
                "lost": mending.lost,
            }
        )
        return
    text = f"{report.disk}: read {say_count(done.objects, 'object')} ({say_size(done.read_bytes)})"
    text += f" in {say_duration(report.seconds)}"
    if report.seconds >= 10:
        text += f", {say_size(round(done.read_bytes / report.seconds))} a second"
    found = "No bad files." if not done.bad else f"{say_count(len(done.bad), 'bad file')}."
    say(f"{text}. {found}")
    if report.resumed is not None:
        say(f"The rest was read since {say_moment(report.resumed)}; --restart reads all of it again.")
    if done.bad and strike:
        what = "deleted" if session.arguments.delete else "moved to bad-objects"
        say(f"Bad copies were struck from the catalogue and {what}.")
        if mending.elsewhere:
            say(f"Only on other disks now, for no source has them: {mending.elsewhere:,}.")


def _errors_file(target: str | None) -> AbstractContextManager[TextIO | None]:
    """Opened before a disk is read for hours; ``@3`` is a file descriptor. Raises UsageError."""
    if target is None:
        return nullcontext()
    try:
        return open(int(target[1:]) if target.startswith("@") else target, "w", encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "'@' stands before the number of a file descriptor"
        raise UsageError(f"the list of bad files cannot be written to '{printable(target)}': {reason}") from error


def _write_errors(file: TextIO, disk: str, done: Verification) -> None:
    """Tab-separated, a line a bad copy, as distbackup writes them."""
    for verdict, path in done.bad:
        name = verdict.digest.hex()
        file.write(f"{disk}\tdistbackup-objects/{name[:3]}/{name}\t{verdict.size}\t{printable(path)}\t{verdict.problem}\n")
