"""``dsb restore --to``: from as many disks as it takes, asking for one after the other."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace

from distbackupd.cli.choosing import files_meant, moment_meant
from distbackupd.cli.output import say, say_json
from distbackupd.cli.session import CommandSession
from distbackupd.engine.restore_meaning import RestoreOptions
from distbackupd.engine.restore_tally import RestoreReport
from distbackupd.engine.shelf_restore import ShelfRestore
from distbackupd.model.errors import CatalogueTrouble, EngineBusy, Interrupted, UsageError
from distbackupd.model.events import Remark
from distbackupd.model.text import join_words, printable, say_count, say_duration, say_size
from distbackupd.planning.destination import check_destination
from distbackupd.planning.disk_choice import total
from distbackupd.planning.restore_plan import PlannedDisk, RestorePlan
from distbackupd.wiring import (
    Arrivals,
    current_activity,
    engine_lock,
    is_on_backup_disk,
    machine_accounts,
    open_target,
    said_of_other_writers,
)

_BUSY_SECONDS = 0.5
_WAIT_SECONDS = 1.0
"""Somebody may mount a disk, which udev does not tell."""


def restore_from_shelf(session: CommandSession) -> int:
    """``dsb restore --to DEST [PATH ...]``, ``dsb restore --minset [PATH ...]``"""
    arguments = session.arguments
    if arguments.link:
        raise UsageError("--link makes names of one disk's objects: 'dsb restore --link DISK DEST'")
    words = [*arguments.words, *([arguments.filter] if arguments.filter else [])]
    at = moment_meant(session, arguments.at)
    only_plans = arguments.minset or session.simulate
    options = RestoreOptions(
        selection=files_meant(session, words, at),
        at=at,
        existing=tuple(os.path.realpath(os.fsencode(path)) for path in arguments.existing),
        overwrite=arguments.overwrite,
        simulate=only_plans,
        accounts=None if arguments.numeric_owner else machine_accounts(),
    )
    without = {session.find_disk(name).id for name in arguments.without}
    destination = None if arguments.to is None else usable_destination(session, arguments.to)
    with open_target(destination) as target, contextlib.nullcontext() if only_plans else _alone(session):
        may_mount = os.geteuid() == 0
        restoring = ShelfRestore(session.bench, target, options, session.stop, without, may_mount)
        if only_plans:
            plan = restoring.survey()
            if session.json:
                say_json(_described_plan(plan))
            else:
                _say_plan(plan, destination)
            return 0
        with Arrivals() as arrivals:
            report = restoring.run(Terminal(session, arrivals, destination or b"", may_mount), not arguments.no_wait)
    return _finish(session, report)


def usable_destination(session: CommandSession, text: str, link: bool = False) -> bytes:
    """The real path of a folder that may be restored to; with ``link`` it lies on a backup disk. Raises UsageError."""
    destination = os.path.realpath(os.fsencode(os.path.expanduser(text)))
    if os.path.lexists(destination) and not os.path.isdir(destination):
        raise UsageError(f"{printable(destination)} is no folder; nothing was restored")
    sources = [
        replace(known, real_path=os.path.realpath(known.real_path)) for known in session.bench.catalogue.sources.all()
    ]
    check_destination(destination, sources, None, link=False)
    if not link and is_on_backup_disk(destination):
        raise UsageError(
            f"{printable(destination)} lies on the backup disk itself; nothing was restored: choose a folder elsewhere"
        )
    said = said_of_other_writers(destination)
    if said is not None and not session.simulate:
        session.bench.reporter.tell(Remark(said))
    return destination


@contextlib.contextmanager
def _alone(session: CommandSession) -> Iterator[None]:
    """Hold the engine's lock, so that no session begins on a disk that is plugged in for us; it comes afterwards.

    Who may not take the lock, an ordinary user on root's catalogue, goes without: reading harms nobody.
    """
    with contextlib.ExitStack() as held:
        told = False
        while True:
            try:
                held.enter_context(engine_lock(session.folder, "dsb restore"))
                break
            except CatalogueTrouble:
                break
            except EngineBusy:
                if session.arguments.no_wait:
                    raise
                if not told:
                    activity = current_activity(session.folder) or "another program"
                    session.bench.reporter.tell(
                        Remark(f"{activity} is at work on this catalogue; the restore begins when that is done")
                    )
                    told = True
            if session.stop.wait(_BUSY_SECONDS):
                raise Interrupted("interrupted before anything was restored")
        yield


class Terminal:
    """The person at the terminal; see :class:`distbackupd.engine.ports.Attendant`."""

    def __init__(self, session: CommandSession, arrivals: Arrivals, destination: bytes, may_mount: bool) -> None:
        self._session = session
        self._arrivals = arrivals
        self._destination = destination
        self._may_mount = may_mount

    def show(self, plan: RestorePlan) -> None:
        """Print the plan, and whether there is room for it."""
        if not self._session.json:
            _say_plan(plan, self._destination)
        room = _room(self._destination)
        if room is not None and plan.share.size > room:
            self._session.bench.reporter.tell(
                Remark(
                    f"{printable(self._destination)} has room for {say_size(room)} only: when it is full, make room "
                    "and give the same command again"
                )
            )

    def ask(self, plan: RestorePlan) -> None:
        """Say which disk is wanted, and what to do without it."""
        wanted, *others = plan.disks
        doing = "Plug in" if self._may_mount else "Plug in and mount"
        still = f" of {say_size(plan.share.size)} that are still to come" if others else ""
        text = f"{doing} {wanted.disk.name}: {say_size(wanted.share.size)}{still}{_about(wanted.seconds)}."
        if others:
            text += f" Then {join_words([planned.disk.name for planned in others])}, in any order."
        text += " Ctrl+C stops, the same command goes on."
        if wanted.replaceable:
            text += f" If it is lost or too far away, add --without {wanted.disk.name}."
        stream = sys.stderr if self._session.json else sys.stdout
        stream.write(text + "\n")
        stream.flush()

    def wait(self) -> None:
        """For udev, but no longer than a second."""
        self._arrivals.wait(_WAIT_SECONDS)


def _room(destination: bytes) -> int | None:
    while destination != b"/" and not os.path.lexists(destination):
        destination = os.path.dirname(destination)
    try:
        told = os.statvfs(destination)
    except OSError:
        return None
    return told.f_bavail * told.f_frsize


def _say_plan(plan: RestorePlan, destination: bytes | None) -> None:
    where = "" if destination is None else f" to {printable(destination)}"
    if plan.disks:
        files = f"{say_count(plan.share.files, 'file')} ({say_size(plan.share.size)})"
        needed = f"{say_count(len(plan.disks), 'disk')} {'is' if len(plan.disks) == 1 else 'are'} needed"
        say(f"To restore {files}{where}, {needed}{_about(plan.seconds)}:")
    elif not plan.lost.files:
        say(f"Nothing is to be read from a disk to restore this{where}.")
    for number, planned in enumerate(plan.disks, start=1):
        say(f"  {number}. {_said(planned)}")
    if plan.lost.files:
        _say_lost(plan.lost.files, plan.lost.size, plan.lost_names)
    sys.stdout.flush()


def _said(planned: PlannedDisk) -> str:
    files = say_count(planned.share.files, "file")
    here = ", here now" if planned.here else ""
    return f"{planned.disk.name}: {say_size(planned.share.size)} in {files}{_about(planned.seconds)}{here}"


def _about(seconds: float | None) -> str:
    return "" if seconds is None else f", about {say_duration(seconds)}"


def _say_lost(files: int, size: int, names: tuple[bytes, ...] = ()) -> None:
    said = "is" if files == 1 else "are"
    say(f"{say_count(files, 'file')} ({say_size(size)}) {said} on no disk that could be asked for{':' if names else '.'}")
    for name in names:
        say(f"  {printable(name)}")
    if names and files > len(names):
        say(f"  and {files - len(names):,} more")


def _finish(session: CommandSession, report: RestoreReport) -> int:
    disks = {disk.id: disk.name for disk in session.bench.catalogue.disks.all()}
    held = {holders: share for holders, share in report.missing.items() if holders}
    if session.json:
        say_json(
            {
                "restored": report.restored,
                "restored_bytes": report.restored_bytes,
                "left_alone": report.left_alone,
                "failed": report.failed_files,
                "in_the_way": report.in_the_way,
                "missing": report.missing_files,
                "missing_bytes": report.missing_bytes,
                "needed_disks": {disks[disk]: count for disk, count in report.needed_disks.items()},
                "without_copy": report.unheld,
                "bad_objects": [digest.hex() for digest in report.bad_digests],
                "not_kept": dict(report.not_kept),
                "not_possible": report.taken,
                "unknown_owners": list(report.unknown_owners),
                "never_kept": report.never_kept,
                "taken_while_written": report.restless,
                "taken_while_written_names": list(report.restless_names),
            }
        )
    else:
        text = f"Restored {say_count(report.restored, 'entry', 'entries')} ({say_size(report.restored_bytes)})"
        say(text + said_beside(report) + ".")
        if held:
            share = total(held.values())
            on = join_words(sorted(disks[disk] for disk in report.needed_disks))
            say(
                f"Still to come: {say_count(share.files, 'file')} ({say_size(share.size)}), which lie on {on}; "
                "the same command goes on when one is here."
            )
        if report.unheld:
            lost = report.missing[frozenset()]
            _say_lost(lost.files, lost.size)
    if report.bad_digests:
        return 7
    return 0 if report.complete else 3


def said_beside(report: RestoreReport) -> str:
    """What else became of the entries, behind how many were restored."""
    were = "was" if report.left_alone == 1 else "were"
    text = f"; {report.left_alone:,} {were} right already" if report.left_alone else ""
    text += f"; {report.taken:,} not possible here" if report.taken else ""
    return text + (f"; {report.failed_files:,} failed" if report.failed_files else "")


def _described_plan(plan: RestorePlan) -> dict[str, object]:
    return {
        "files": plan.share.files,
        "bytes": plan.share.size,
        "seconds": plan.seconds,
        "disks": [
            {
                "name": planned.disk.name,
                "uuid": planned.disk.uuid,
                "files": planned.share.files,
                "bytes": planned.share.size,
                "seconds": planned.seconds,
                "here": planned.here,
                "replaceable": planned.replaceable,
            }
            for planned in plan.disks
        ],
        "lost_files": plan.lost.files,
        "lost_bytes": plan.lost.size,
        "lost_names": plan.lost_names,
    }
