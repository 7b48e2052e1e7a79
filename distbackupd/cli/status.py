"""``dsb status``: how things stand, from the daemon where it runs, else from the catalogue; the same words either way."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from distbackupd.cli.output import say, say_json
from distbackupd.cli.problems import failed_described, unread_described
from distbackupd.cli.session import CommandSession
from distbackupd.engine.braking import standing_brake
from distbackupd.engine.overview import protection
from distbackupd.engine.ports import SessionSummary
from distbackupd.engine.scan_failures import failed_scan
from distbackupd.model.standing import Protection, Standing
from distbackupd.model.text import printable, say_ago, say_count, say_size, say_unconfirmed
from distbackupd.wiring import current_activity

SHOWN_SESSIONS = 5


@dataclass(frozen=True)
class Report:
    """How things stand. ``standing`` None: the daemon does not run. ``entries`` None: this user may not count them.

    ``activity``: what is at work on the catalogue, empty if nothing is.
    """

    activity: str
    standing: Standing | None
    protection: Protection
    entries: int | None
    sessions: Sequence[SessionSummary]


def status(session: CommandSession) -> int:
    """``dsb status`` where the daemon does not run."""
    catalogue = session.bench.catalogue
    report = Report(
        activity=current_activity(session.folder) or "",
        standing=None,
        protection=protection(session.bench),
        entries=catalogue.files.count()[0],
        sessions=catalogue.sessions.recent(SHOWN_SESSIONS),
    )
    print_report(report, session.json)
    if session.arguments.watch:
        _watch_without_daemon(session.folder, report.activity)
    return 0


def completed(report: Report, session: CommandSession) -> Report:
    """What the daemon tells everybody, and what only those know who may read the catalogue."""
    catalogue = session.bench.catalogue
    uuids = {disk.name: disk.uuid for disk in catalogue.disks.all()}
    shown = report.protection
    protected = replace(
        shown,
        disks=tuple(replace(disk, uuid=uuids.get(disk.name, "")) for disk in shown.disks),
        wanted=shown.wanted and replace(shown.wanted, uuid=uuids.get(shown.wanted.disk, "")),
        brake=shown.brake and (standing_brake(session.bench).sentence or shown.brake),
        failed_scan=shown.failed_scan and (failed_scan(session.bench) or shown.failed_scan),
    )
    return replace(
        report,
        protection=protected,
        activity=report.activity or current_activity(session.folder) or "",
        entries=catalogue.files.count()[0],
        sessions=catalogue.sessions.recent(SHOWN_SESSIONS),
    )


def print_report(report: Report, as_json: bool) -> None:
    """In words, or as one JSON document."""
    if as_json:
        say_json(_described(report))
        return
    now = int(time.time())
    protected = report.protection
    idle = "nothing is at work on this catalogue" if report.standing is None else "distbackupd waits for what is to be done"
    say(f"Now: {report.activity or idle}")
    if protected.brake:
        say(protected.brake[:1].upper() + protected.brake[1:])
    last_scan = protected.last_scan
    say(f"Last scan: {say_ago(now - last_scan)}" if last_scan else "Last scan: never; 'dsb update' makes one")
    if protected.failed_scan:
        say(f"First failed {say_ago(now - protected.failed_scan.since)}: {printable(protected.failed_scan.sentence)}")
    for copies, size in sorted(protected.bytes_by_copies.items()):
        count = "No copy" if not copies else say_count(copies, "copy", "copies").capitalize()
        say(f"{count}: {say_size(size)}")
    if protected.unread.sentence:
        say(f"Not read: {protected.unread.sentence}")
    if protected.unconfirmed[0]:
        say(f"{say_unconfirmed(*protected.unconfirmed)}.")
    if not protected.disks:
        say("No disk is known yet: 'dsb disk add NAME PATH' makes one known.")
    for disk in protected.disks:
        seen = say_ago(now - disk.last_session_at) if disk.last_session_at else "never backed up to"
        only = f"; {say_size(disk.only_here)} only here" if disk.only_here else ""
        say(f"{disk.name}: {say_size(disk.used)} of {say_size(disk.capacity)} used, {seen}{only}")
    if protected.wanted:
        say(f"Next: {protected.wanted.sentence}")
    if protected.advice:
        say(f"Next: {protected.advice}")
    if report.sessions:
        say("Last sessions:")
    for summary in report.sessions:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.started))
        say(f"  {started} {summary.sentence or summary.disk_name + ': ' + summary.outcome}")


def _described(report: Report) -> dict[str, object]:
    standing, protected = report.standing or Standing(state="absent"), report.protection
    progress, wanted = None, None
    if standing.activity:
        progress = {
            "activity": standing.activity,
            "items": standing.items,
            "total_items": standing.total_items,
            "bytes": standing.done_bytes,
            "total_bytes": standing.total_bytes,
            "seconds": round(standing.seconds, 1),
        }
    if protected.wanted:
        wanted = {
            "disk": protected.wanted.disk,
            "uuid": protected.wanted.uuid or None,
            "copies": protected.wanted.copies,
            "bytes": protected.wanted.size,
            "sentence": protected.wanted.sentence,
        }
    return {
        "activity": report.activity or None,
        "daemon": standing.state,
        "disk": standing.disk or None,
        "progress": progress,
        "last_scan": protected.last_scan,
        "brake": protected.brake or None,
        "unread": unread_described(protected.unread),
        "failed_scan": failed_described(protected.failed_scan),
        "unconfirmed": {"files": protected.unconfirmed[0], "bytes": protected.unconfirmed[1]},
        "entries": report.entries,
        "copies": {str(copies): size for copies, size in sorted(protected.bytes_by_copies.items())},
        "disks": [
            {
                "name": disk.name,
                "uuid": disk.uuid or None,
                "size": disk.capacity,
                "objects": disk.objects,
                "used": disk.used,
                "only_here": disk.only_here,
                "last_session_at": disk.last_session_at,
            }
            for disk in protected.disks
        ],
        "wanted": wanted,
        "advice": protected.advice or None,
        "sessions": [summary._asdict() for summary in report.sessions],
    }


def _watch_without_daemon(
    folder: Path, activity: str, rest: Callable[[float], object] = time.sleep, seconds: float = 1.0
) -> None:
    """Say what is at work whenever it is something else, until Ctrl+C."""
    # There is nothing here that a first Ctrl+C could leave half-done.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:
            rest(seconds)
            before, activity = activity, current_activity(folder) or ""
            if activity != before:
                say(f"Now: {activity or 'nothing is at work on this catalogue'}")
    except KeyboardInterrupt:
        return
