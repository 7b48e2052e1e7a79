"""``distbackupd-helper``: systemd starts it with a socket when the daemon asks for something."""

from __future__ import annotations

import argparse
import logging
import pwd
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

from distbackupd import __version__
from distbackupd.config.settings import Settings, load_settings
from distbackupd.helper.serving import Helper
from distbackupd.hotplug.commands import Commands
from distbackupd.hotplug.enrolled import EnrolledDisks
from distbackupd.hotplug.mounts import SystemMounter
from distbackupd.model.errors import UsageError
from distbackupd.notify.journal import set_up_logging

_log = logging.getLogger(__name__)

_FIRST_SOCKET = 3
DAEMON_USER = "distbackup"
"""As whom ``systemd/distbackupd.service`` runs the daemon."""


def main() -> int:
    """Do errands until nobody has any; the exit status. It takes no words: what it may do lies in files of root."""
    parser = argparse.ArgumentParser(
        prog="distbackupd-helper",
        description="Mount, check, unlock and release enrolled disks for distbackupd. Started by systemd, never by hand.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.parse_args()
    set_up_logging()
    signal.signal(signal.SIGTERM, _end)
    try:
        listener = socket.socket(fileno=_FIRST_SOCKET)
    except OSError:
        _log.error("distbackupd-helper was given no socket: start distbackupd-helper.socket")
        return UsageError.exit_code
    with listener:
        mounter = SystemMounter(_settings().mount_folder.encode(), Commands(delegated=True))
        Helper(mounter, EnrolledDisks(), _users()).serve(listener)
    return 0


def _settings() -> Settings:
    """Those of the machine; the defaults where they are wrong, as the daemon goes on with those that it had."""
    try:
        return load_settings(None)
    except UsageError as error:
        _log.warning("%s; distbackupd-helper goes by the defaults", error)
        return Settings()


def _users() -> set[int]:
    users = {0}
    with suppress(KeyError):
        users.add(pwd.getpwnam(DAEMON_USER).pw_uid)
    return users


def _end(_number: int, _frame: FrameType | None) -> None:
    """Leave what is mounted in good order."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
