"""``distbackupd``: the command line of the daemon."""

from __future__ import annotations

import argparse
import ctypes
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from distbackupd import __version__
from distbackupd.config.settings import DEFAULT_FILE
from distbackupd.daemon.service import Options, Parts, serve
from distbackupd.hotplug.devices import plugged_volumes, udev_context
from distbackupd.hotplug.monitor import DiskMonitor
from distbackupd.hotplug.sysfs import requests_of
from distbackupd.model.errors import CatalogueTrouble, DistbackupError
from distbackupd.model.events.base import THE_JOURNAL
from distbackupd.notify import readiness
from distbackupd.notify.journal import set_up_logging
from distbackupd.wiring import make_control, make_login, open_engine

log = logging.getLogger(__name__)

_M_ARENA_MAX = -8
"""From malloc.h."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon in the foreground; the exit code, of the one table (:data:`distbackupd.model.errors.EXIT_CODES`)."""
    _share_one_heap()
    parsed = _parser().parse_args(arguments)
    set_up_logging(parsed.verbose)
    options = Options(database=parsed.database, config=parsed.config, once=parsed.once)
    return run(
        options,
        Parts(
            open_engine=partial(open_engine, sandboxed=parsed.sandboxed),
            make_monitor=DiskMonitor,
            plugged_volumes=lambda: plugged_volumes(udev_context()),
            make_control=make_control,
            make_login=make_login,
            requests_of=requests_of,
        ),
    )


def run(options: Options, parts: Parts) -> int:
    """Serve, and turn errors into one sentence and an exit code."""
    try:
        return serve(options, parts)
    except DistbackupError as error:
        log.error("%s", error)
        if isinstance(error, CatalogueTrouble):
            readiness.status(f"{error.public_sentence}; {THE_JOURNAL}")
        return error.exit_code
    except Exception:
        log.exception("a bug in distbackupd, please report it")
        return DistbackupError.exit_code


def _share_one_heap() -> None:
    """glibc else gives each thread a heap of its own, and what one of them has grown by it hardly ever gives back."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_ARENA_MAX, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distbackupd",
        description="Back up to labelled offline disks whenever one of them is plugged in. Runs in the foreground.",
    )
    parser.add_argument(
        "-d",
        "--database",
        metavar="PATH",
        help="folder of the catalogue (default: $DISTBACKUP_PATH, else /var/lib/distbackup, else ~/.config/distbackup)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"settings (default: {DEFAULT_FILE}, if there is one)")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what is decided and why")
    parser.add_argument("--once", action="store_true", help="do what is due and back up to what is plugged in, then leave")
    parser.add_argument(
        "--sandboxed",
        action="store_true",
        help="let systemd mount, check and unlock disks for this process, which may not: for the service",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
