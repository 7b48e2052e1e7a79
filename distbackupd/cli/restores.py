"""``dsb restore``"""

from __future__ import annotations

import os

from distbackupd.cli.choosing import moment_meant
from distbackupd.cli.output import say, say_json
from distbackupd.cli.session import CommandSession
from distbackupd.cli.shelf import restore_from_shelf, said_beside, usable_destination
from distbackupd.engine.door import must_be_as_left
from distbackupd.engine.restoration import restore
from distbackupd.engine.restore_meaning import RestoreOptions
from distbackupd.engine.restore_tally import RestoreReport
from distbackupd.model.errors import UsageError
from distbackupd.model.text import join_words, printable, say_count, say_size
from distbackupd.planning.destination import check_destination
from distbackupd.planning.selection import Selection
from distbackupd.wiring import machine_accounts, open_target


def restore_files(session: CommandSession) -> int:
    """``dsb restore --to DEST [PATH ...]``, ``dsb restore DISK DEST [-f PATTERN]``"""
    arguments = session.arguments
    if arguments.to is not None or arguments.minset:
        return restore_from_shelf(session)
    if arguments.without or arguments.no_wait:
        raise UsageError("--without and --no-wait go with '--to DEST'; nothing was restored")
    if len(arguments.words) != 2:
        raise UsageError(
            "say where to restore to, and what: 'dsb restore --to /srv/restored /photos', or only from which disk and where "
            "to: 'dsb restore photos-03 /srv/restored'"
        )
    name, folder = arguments.words
    destination = usable_destination(session, folder, link=arguments.link)
    at = moment_meant(session, arguments.at)
    pattern = arguments.filter
    options = RestoreOptions(
        selection=Selection() if pattern is None else Selection([os.fsencode(pattern)]),
        at=at,
        link=arguments.link,
        existing=tuple(os.path.realpath(os.fsencode(path)) for path in arguments.existing),
        overwrite=arguments.overwrite,
        simulate=session.simulate,
        accounts=None if arguments.numeric_owner else machine_accounts(),
    )
    with session.disk_here(name, read_only=not arguments.link) as held:
        disk, root, store = held.disk, held.root, held.store
        check_destination(destination, session.bench.catalogue.sources.all(), root, arguments.link)
        if arguments.link:  # it writes to the disk
            must_be_as_left(session.bench, held)
        with open_target(destination) as target:
            report = restore(
                session.bench.catalogue, disk, store, target, options, session.bench.reporter, session.stop, root=root
            )
    met = report.restored + report.left_alone + report.failed_files + report.missing_files + report.in_the_way + report.taken
    if pattern is not None and not met and not options.existing:
        raise UsageError(f"nothing in the catalogue matches '{printable(pattern)}'; 'dsb ls' lists what there is")
    names = {known.id: known.name for known in session.bench.catalogue.disks.all()}
    if session.json:
        say_json(_described(report, names))
    else:
        _say_report(session, report, names)
        if report.bad_digests:
            say(f"'dsb verify {disk.name}' strikes bad copies from the catalogue, and 'dsb backup' makes new ones.")
    if report.bad_digests:
        return 7
    return 3 if report.failed_files or report.in_the_way or report.taken else 0


def _say_report(session: CommandSession, report: RestoreReport, names: dict[int, str]) -> None:
    verb = "Would restore" if session.simulate else "Restored"
    text = f"{verb} {say_count(report.restored, 'entry', 'entries')} ({say_size(report.restored_bytes)})"
    say(text + said_beside(report) + ".")
    if not report.missing_files:
        return
    say(f"Not on this disk: {say_count(report.missing_files, 'file')} ({say_size(report.missing_bytes)}).")
    if session.arguments.verbose:
        for path in report.missing_names:
            say(f"  {printable(path)}")
    holders = [f"{names[disk]} ({count:,})" for disk, count in sorted(report.needed_disks.items())]
    if holders:
        say(f"They lie on {join_words(holders)}: plug one in and give the same command with its name.")
    if report.unheld:
        say(f"{say_count(report.unheld, 'file has', 'files have')} no copy on any disk.")


def _described(report: RestoreReport, names: dict[int, str]) -> dict[str, object]:
    return {
        "restored": report.restored,
        "restored_bytes": report.restored_bytes,
        "left_alone": report.left_alone,
        "failed": report.failed_files,
        "in_the_way": report.in_the_way,
        "missing": report.missing_files,
        "missing_bytes": report.missing_bytes,
        "needed_disks": {names[disk]: count for disk, count in report.needed_disks.items()},
        "without_copy": report.unheld,
        "not_kept": dict(report.not_kept),
        "not_possible": report.taken,
        "unknown_owners": list(report.unknown_owners),
        "never_kept": report.never_kept,
        "taken_while_written": report.restless,
        "taken_while_written_names": list(report.restless_names),
    }
