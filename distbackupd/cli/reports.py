"""``dsb info`` and ``dsb ls``"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from distbackupd.cli.forecasts import real_losses, say_losses, say_places
from distbackupd.cli.moments import say_moment
from distbackupd.cli.nearest import nothing_matches
from distbackupd.cli.output import say, say_json, say_json_list, say_lines, say_table
from distbackupd.cli.problems import WHILE_WRITTEN, failed_described, list_problems, say_problems, unread_described
from distbackupd.cli.session import CommandSession
from distbackupd.engine.overview import Overview, overview
from distbackupd.engine.verification import Checks, checks_of
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import UsageError
from distbackupd.model.files import EntryKind, ListedFile
from distbackupd.model.text import printable, say_count, say_size, say_unconfirmed
from distbackupd.planning.selection import has_wildcard, matcher, prefix


def info(session: CommandSession) -> int:
    """``dsb info``"""
    state = overview(session.bench)
    checks = {item.disk.id: checks_of(session.bench, item.disk) for item in state.disks}
    rotten = len(session.bench.catalogue.rot.all())
    unconfirmed = session.bench.catalogue.unconfirmed.total()
    if session.json:
        say_json(
            {
                "entries": state.entries,
                "size": state.size,
                "copies": {
                    str(copies): {"objects": objects, "bytes": size, "saturated": saturated}
                    for copies, (objects, size, saturated) in state.by_copies.items()
                },
                "disks": [
                    {
                        "name": item.disk.name,
                        "uuid": item.disk.uuid,
                        "size": item.disk.capacity,
                        "objects": item.objects,
                        "used": item.used,
                        "free": item.free,
                        "copies": {str(copies): size for copies, size in sorted(item.by_copies.items())},
                        "saturated": item.saturated,
                        "last_session_at": item.disk.last_session_at,
                        "verified_share": round(checks[item.disk.id].share, 4),
                        "verified_since": checks[item.disk.id].oldest,
                    }
                    for item in state.disks
                ],
                "rotten_files": rotten,
                "unread": unread_described(state.unread),
                "failed_scan": failed_described(state.failed_scan),
                "unconfirmed": {"files": unconfirmed[0], "bytes": unconfirmed[1]},
            }
        )
        return 0
    print_overview(state, exclude_saturated=session.arguments.no_saturated)
    say_problems(state)
    if state.by_copies and state.disks:
        losses, names = real_losses(session)
        say_losses(losses, names, most=2)
        say_places(session, losses)
    held = [f"{item.disk.name} {_said_of(checks[item.disk.id])}" for item in state.disks if item.objects]
    if held:
        say(f"Read again and found good: {', '.join(held)}.")
    if unconfirmed[0]:
        say(f"{say_unconfirmed(*unconfirmed)}.")
    if rotten:
        say(f"{say_count(rotten, 'source file')} rotted: 'dsb heal' lists them.")
    return 0


def _said_of(checks: Checks) -> str:
    """``all since 2026-10-01``, ``37% so far``, ``nothing yet``."""
    if checks.oldest is None:
        return "nothing yet"
    if checks.share < 1:
        return f"{checks.share:.0%} so far"
    return f"all since {say_moment(checks.oldest).partition(' ')[0]}"


def print_overview(state: Overview, exclude_saturated: bool = False, title: str = "Usage:") -> None:
    """How much has how many copies, and what each disk holds of it."""
    if not state.by_copies:
        say("No files in the catalogue yet: 'dsb source map' and 'dsb update' bring them there.")
        return
    say(title)
    for copies, (objects, size, saturated) in state.by_copies.items():
        text = f"  {'no copy' if not copies else say_count(copies, 'copy', 'copies'):>10}: {say_size(size - saturated):>9}"
        if saturated:
            text += f" + {say_size(saturated)} with all they may have"
        say(f"{text} in {say_count(objects, 'object')}")
    if not state.disks:
        say("No disk is known yet: 'dsb disk add NAME PATH' makes one known.")
        return
    levels = [copies for copies in state.by_copies if copies]
    rows = []
    for item in state.disks:
        saturated = item.saturated if exclude_saturated else 0
        sizes = [item.by_copies.get(copies, 0) for copies in levels]
        if sizes:
            sizes[-1] -= min(saturated, sizes[-1])
        cells = [say_size(size) if size else "-" for size in sizes]
        rows.append([item.disk.name, say_size(item.used), say_size(max(0, item.free)), *cells])
    header = ["disk", "used", "free", *(f"in {say_count(copies, 'copy', 'copies')}" for copies in levels)]
    say_table(header, rows, right=range(1, len(header)))


def list_files(session: CommandSession) -> int:
    """``dsb ls [PATTERN] [-d DISK]``"""
    if session.arguments.problems:
        return list_problems(session)
    pattern = session.arguments.pattern
    wanted = matcher(os.fsencode(pattern)) if pattern else lambda _path: True
    below = prefix(os.fsencode(pattern)) if pattern else b"/"
    disk = session.find_disk(session.arguments.disk) if session.arguments.disk else None
    names = {item.id: item.name for item in session.bench.catalogue.disks.all()}
    listed: Iterator[ListedFile] = (
        entry
        for entry in session.bench.catalogue.files.listing(below)
        if entry.kind != EntryKind.FOLDER and wanted(entry.path) and (disk is None or disk.id in entry.holders)
    )
    first = next(listed, None)
    if first is None and pattern:
        raise _nothing_listed(session, pattern, disk)
    listed = itertools.chain([] if first is None else [first], listed)
    if session.json:
        say_json_list(
            {
                "path": entry.path,
                "kind": entry.kind.name.lower(),
                "size": entry.size,
                "mtime_ns": entry.mtime_ns,
                "disks": sorted(names[holder] for holder in entry.holders),
                "taken_while_written": entry.restless,
            }
            for entry in listed
        )
        return 0
    say_lines(_file_line(entry, names) for entry in listed)
    return 0


def _file_line(entry: ListedFile, names: dict[int, str]) -> str:
    disks = ",".join(sorted(names[holder] for holder in entry.holders))
    return f"{say_size(entry.size):>9} ({disks}) {printable(entry.path)}{WHILE_WRITTEN if entry.restless else ''}"


def _nothing_listed(session: CommandSession, pattern: str, disk: BackupDisk | None) -> UsageError:
    wanted, below = matcher(os.fsencode(pattern)), prefix(os.fsencode(pattern))
    looked_through = disk is None and has_wildcard(os.fsencode(pattern))
    if looked_through or not any(wanted(entry.path) for entry in session.bench.catalogue.files.listing(below)):
        return nothing_matches(session, [pattern], ever=False)
    where = f"on {disk.name}" if disk else "but empty folders"
    return UsageError(f"there is nothing {where} that matches '{printable(pattern)}'")
