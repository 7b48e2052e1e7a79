"""Where the catalogue lies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

CATALOGUE_NAME = "distbackup.sqlite"
SYSTEM_FOLDER = Path("/var/lib/distbackup")


def catalogue_folder(explicit: str | None, environment: Mapping[str, str], system_folder: Path = SYSTEM_FOLDER) -> Path:
    """The catalogue's folder, absolute; it need not exist.

    In this order: what ``-d`` names, what ``DISTBACKUP_PATH`` names, the daemon's folder where it exists and may be
    read, ``distbackup`` in the user's configuration folder. A path that names the catalogue's file means its folder.
    """
    named = explicit or environment.get("DISTBACKUP_PATH")
    if named:
        path = Path(os.path.abspath(os.path.expanduser(named)))
        return path.parent if path.name == CATALOGUE_NAME and not path.is_dir() else path
    if system_folder.is_dir() and os.access(system_folder, os.R_OK | os.X_OK):
        return system_folder
    configuration = environment.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a relative path there is invalid and must be ignored.
    if not configuration.startswith("/"):
        configuration = os.path.join(environment.get("HOME") or os.path.expanduser("~"), ".config")
    return Path(configuration, "distbackup")
