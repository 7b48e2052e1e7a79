"""Switching a drive off through udisks2, which knows what else lies on it and what its enclosure allows."""

from __future__ import annotations

import logging

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.commands import CommandFailed, Commands
from distbackupd.model.text import printable

_log = logging.getLogger(__name__)


def power_off(drive: str, commands: Commands) -> bool:
    """Flush the drive's cache, stop it and take it off the bus. False, with the reason in the log: nobody can, or may.

    What is no hardware (a loop device) has no switch, and nothing is said of it.
    """
    if not sysfs.is_hardware(drive):
        return False
    try:
        commands.run(["udisksctl", "power-off", "--no-user-interaction", "--block-device", drive])
    except CommandFailed as error:
        # Its command line tool runs into a bug of its own where the daemon knows no drive.
        reason = "udisks2 knows no such drive" if "CRITICAL" in str(error) else printable(str(error))
        _log.info("%s stays switched on: %s", drive, reason)
        return False
    return True
