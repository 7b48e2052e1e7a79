"""What a restore keeps for its end: metadata of folders, which goes stale whenever something is put into them, and locks."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
from array import array
from collections.abc import Iterator

from distbackupd.model.files import RestoreEntry


class Later:
    """Entries in a file that has no name, for there may be a million folders. Adding is thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the target
        self._offsets = array("Q")

    def add(self, entry: RestoreEntry) -> None:
        """Keep one more."""
        with self._lock:
            self._offsets.append(self._file.seek(0, os.SEEK_END))
            pickle.dump(entry, self._file, pickle.HIGHEST_PROTOCOL)

    def take(self) -> Iterator[RestoreEntry]:
        """All of them, the last first; afterwards there are none."""
        while self._offsets:
            self._file.seek(self._offsets.pop())
            entry: RestoreEntry = pickle.load(self._file)  # noqa: S301 - our own file, which has no name
            yield entry
        self._file.truncate(0)

    def close(self) -> None:
        """Forget what is left."""
        self._file.close()
