"""What a restore keeps for its end: metadata of folders, which goes stale whenever something is put into them, and locks."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from distbackupd.model.files import RestoreEntry


class Postponed(NamedTuple):
    """An entry, and what was taken for it. ``only_less``: somebody else may have put it there, so it is given nothing more.

    ``identity``: device and inode, where another thing may have come into its place meanwhile; of files, always.
    """

    entry: RestoreEntry
    identity: tuple[int, int] | None = None
    only_less: bool = False


class Later:
    """Entries in a file that has no name, for there may be a million folders. Adding is thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the target
        self._offsets = array("Q")

    def add(self, postponed: Postponed) -> None:
        """Keep one more."""
        with self._lock:
            self._offsets.append(self._file.seek(0, os.SEEK_END))
            pickle.dump(postponed, self._file, pickle.HIGHEST_PROTOCOL)

    def take(self) -> Iterator[Postponed]:
        """All of them, the last first; afterwards there are none."""
        while self._offsets:
            self._file.seek(self._offsets.pop())
            postponed: Postponed = pickle.load(self._file)  # noqa: S301 - our own file, which has no name
            yield postponed
        self._file.truncate(0)

    def close(self) -> None:
        """Forget what is left."""
        self._file.close()
