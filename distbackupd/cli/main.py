"""``dsb``: from the command line to an exit status. The table of statuses is ``distbackupd.model.errors.EXIT_CODES``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from distbackupd.cli import (
    adoptions,
    backups,
    disks,
    forecasts,
    healings,
    history,
    recoveries,
    reports,
    restores,
    sources,
    status,
    verifications,
)
from distbackupd.cli.output import show_what_cannot_be_shown
from distbackupd.cli.parser import build_parser
from distbackupd.cli.session import CommandSession, command_session
from distbackupd.model.errors import DistbackupError


class Command(NamedTuple):
    """A command's function, and whether it changes the catalogue or works with it for a while.

    ``asks``: where the daemon serves the catalogue, the daemon does it instead (:mod:`distbackupd.cli.asking`). Without
    ``run`` nobody else can. ``bare``: runs instead, and opens what it needs by itself.
    """

    run: Callable[[CommandSession], int] | None
    writes: bool = False
    asks: bool = False
    bare: Callable[[argparse.Namespace], int] | None = None


COMMANDS = {
    "source": Command(sources.list_sources, writes=False),
    "source map": Command(sources.map_source, writes=True),
    "source unmap": Command(sources.unmap_source, writes=True),
    "source lock": Command(sources.lock_sources, writes=True),
    "source unlock": Command(sources.unlock_sources, writes=True),
    "source set": Command(sources.set_sources, writes=True),
    "source reset": Command(sources.reset_sources, writes=True),
    "disk": Command(disks.list_disks, writes=False),
    "disk list": Command(disks.list_disks, writes=False),
    "disk add": Command(disks.add_disk, writes=True),
    "disk set": Command(disks.set_disk, writes=True),
    "disk rename": Command(disks.rename_disk, writes=True),
    "disk drop": Command(disks.drop_disk, writes=True),
    "disk del": Command(disks.delete_disk, writes=True),
    "disk refresh": Command(disks.refresh_disk, writes=True),
    "update": Command(sources.update, writes=True),
    "backup": Command(backups.backup, writes=True, asks=True),
    "restore": Command(restores.restore_files, writes=False),
    "import-distbackup": Command(adoptions.import_distbackup, writes=True),
    "recover": Command(None, bare=recoveries.recover),
    "heal": Command(None, bare=healings.list_or_heal),
    "verify": Command(verifications.verify, writes=True),
    "brake": Command(forecasts.show_brake, writes=False),
    "brake status": Command(forecasts.show_brake, writes=False),
    "brake release": Command(forecasts.release_brake, writes=True),
    "simulate": Command(forecasts.simulate, writes=False),
    "info": Command(reports.info, writes=False),
    "ls": Command(reports.list_files, writes=False),
    "log": Command(history.list_versions, writes=False),
    "diff": Command(history.list_changes, writes=False),
    "status": Command(status.status, writes=False, asks=True),
    "cancel": Command(None, asks=True),
    "eject": Command(backups.eject_disk, writes=True, asks=True),
    "pause": Command(None, asks=True),
    "resume": Command(None, asks=True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. Errors are one sentence on standard error."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # noqa: PLC0415 - only where a shell asks

        argcomplete.autocomplete(parser, always_complete_options=False)  # options only behind a dash, as bash does
    parsed = parser.parse_args(arguments)
    if parsed.command_name is None:
        parser.print_help()
        return 0
    command = COMMANDS[parsed.command_name]
    show_what_cannot_be_shown()
    try:
        exit_code = _do(command, parsed)
        sys.stdout.flush()
    except DistbackupError as error:
        if not error.told:
            sys.stderr.write(f"dsb: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("dsb: interrupted; what was recorded stays\n")
        return 130
    except BrokenPipeError:
        # Whoever read us has seen enough; the interpreter must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return exit_code


def _do(command: Command, parsed: argparse.Namespace) -> int:
    """The command's exit status."""
    if command.bare is not None:
        return command.bare(parsed)
    if command.asks:
        # asyncio and sdbus take their time to import: only for commands that talk to the daemon.
        from distbackupd.cli.asking import ask  # noqa: PLC0415

        exit_code = ask(parsed, alone=command.run is not None)
        if exit_code is not None:
            return exit_code
    assert command.run is not None
    with command_session(parsed, command.writes) as session:
        return command.run(session)


if __name__ == "__main__":
    sys.exit(main())
