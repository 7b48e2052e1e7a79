"""The list of enrolled disks that root keeps: what udev waits for, and all that the helper may touch.

It is no copy of the catalogue. The daemon, which reads what strangers wrote, owns that one; this list changes only when root
names a disk: ``dsb disk add``, ``set``, ``rename``, ``del``, ``recover``.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from distbackupd.hotplug.root_files import flush_folder, write_file
from distbackupd.model.errors import UsageError
from distbackupd.model.text import printable

ENROLLED_FOLDER = Path("/var/lib/distbackup-disks")
"""Where ``udev/75-distbackupd.rules`` looks; beside the catalogue's folder, which is the daemon's own."""

_UUID = re.compile(r"[0-9A-Za-z-]{1,64}")
_LONGEST = 1 << 16


class _Record(msgspec.Struct, frozen=True):
    name: str


class EnrolledDisks:
    """The list in ``folder``: a file for each UUID, of a file system or of a LUKS container, with the disk's name in it.

    The folder is root's, and nobody else writes it; reading it tells which disks there are, so only udev and the helper do.
    """

    def __init__(self, folder: Path = ENROLLED_FOLDER) -> None:
        self._folder = folder

    def note(self, names: dict[str, Sequence[str]]) -> None:
        """From now on each of these UUIDs, spelled as udev spells them, is that of these disks; of none: it is not listed.

        Each entry comes, changes and goes at once. Two disks may lie on one file system; the first gives it its name.

        Raises:
            UsageError: a UUID that cannot be a file system's; nothing was changed.
            OSError: the folder cannot be written; some entries may be missing.
        """
        for uuid in names:
            if not _UUID.fullmatch(uuid):
                raise UsageError(f"'{printable(uuid)}' is no file system's UUID, so udev cannot wait for that disk")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for uuid, disks in names.items():
            if disks:
                record = _Record(printable(disks[0]))
                write_file(self._folder / uuid, msgspec.json.encode(record))
            else:
                (self._folder / uuid).unlink(missing_ok=True)
        flush_folder(self._folder)

    def name_of(self, uuid: str) -> str | None:
        """The name of the enrolled disk with this UUID; None: there is none, or somebody but root could have said so."""
        if not _UUID.fullmatch(uuid):
            return None
        try:
            descriptor = os.open(self._folder / uuid, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
                return None
            content = os.read(descriptor, _LONGEST)
        finally:
            os.close(descriptor)
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(content, type=_Record).name
        return None
