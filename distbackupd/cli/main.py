"""``dsb``: from the command line to an exit status. The table of statuses is ``distbackupd.model.errors.EXIT_CODES``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from distbackupd.cli import backups, disks, reports, restores, sources
from distbackupd.cli.output import show_what_cannot_be_shown
from distbackupd.cli.parser import build_parser
from distbackupd.cli.session import CommandSession, command_session
from distbackupd.model.errors import DistbackupError


class Command(NamedTuple):
    """A command's function, and whether it changes the catalogue or works with it for a while."""

    run: Callable[[CommandSession], int]
    writes: bool


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
    "backup": Command(backups.backup, writes=True),
    "restore": Command(restores.restore_files, writes=False),
    "verify": Command(backups.verify, writes=True),
    "info": Command(reports.info, writes=False),
    "ls": Command(reports.list_files, writes=False),
    "status": Command(reports.status, writes=False),
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
        with command_session(parsed, command.writes) as session:
            status = command.run(session)
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
    return status


if __name__ == "__main__":
    sys.exit(main())
