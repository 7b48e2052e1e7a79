"""Switching a drive off through udisks2, which knows what else lies on it and what its enclosure allows."""

from __future__ import annotations

import logging

from distbackupd.hotplug.commands import CommandFailed, Commands
from distbackupd.model.text import printable

_log = logging.getLogger(__name__)


def power_off(drive: str, commands: Commands) -> bool:
    """Flush the drive's cache, stop it and take it off the bus. False, with the reason in the log: nobody can, or may."""
    try:
        commands.run(["udisksctl", "power-off", "--no-user-interaction", "--block-device", drive])
    except CommandFailed as error:
        _log.info("%s stays switched on: %s", drive, printable(str(error)))
        return False
    return True
