"""Markers that tell the udev rule which disks are enrolled, so that plugging one starts a stopped daemon."""

from __future__ import annotations

import os
import re

from distbackupd.model.errors import UsageError
from distbackupd.model.text import printable

ENROLLED_MARKERS = b"/var/lib/distbackup/disks.d"
"""Where ``udev/75-distbackupd.rules`` looks for the markers."""

_UUID = re.compile(r"[0-9A-Za-z-]{1,64}")


class EnrolledDisks:
    """The markers in ``folder``, which the udev rule reads."""

    def __init__(self, folder: bytes = ENROLLED_MARKERS) -> None:
        self._folder = folder

    def publish(self, filesystem_uuids: set[str]) -> None:
        """Make the folder hold one empty file for each UUID, spelled as udev spells it, and no other marker.

        Each marker comes and goes at once; those that stay are not touched. Files that are no markers are left alone.

        Raises:
            UsageError: a UUID that cannot be a file system's; nothing was changed.
            OSError: the folder cannot be written; some markers may be missing.
        """
        for filesystem_uuid in filesystem_uuids:
            if not _UUID.fullmatch(filesystem_uuid):
                raise UsageError(
                    f"'{printable(filesystem_uuid)}' is no file system's UUID, so udev cannot wait for that disk"
                )
        os.makedirs(self._folder, mode=0o755, exist_ok=True)
        wanted = {os.fsencode(filesystem_uuid) for filesystem_uuid in filesystem_uuids}
        there = {name for name in os.listdir(self._folder) if _UUID.fullmatch(os.fsdecode(name))}
        for name in sorted(wanted - there):
            os.close(os.open(os.path.join(self._folder, name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        for name in sorted(there - wanted):
            os.unlink(os.path.join(self._folder, name))
