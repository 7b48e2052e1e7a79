"""Good contents of rotten source files, kept in a folder beside the catalogue until they are put back."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence

from distbackupd.engine.ports import BadContent, Pulse
from distbackupd.model.errors import CatalogueTrouble, Interrupted
from distbackupd.model.text import printable
from distbackupd.store.flushing import flush_paths
from distbackupd.streams import CHUNK

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_MARGIN = 1 << 30
"""Bytes of room that are left to others, the catalogue first of all."""
_SHARE = 4
"""One content takes at most such a part of what is free beyond that: it lies on the machine's own disk."""


class RescueFolder:
    """See :class:`distbackupd.engine.ports.Rescue`. Nobody else may read what lies in the folder."""

    def __init__(self, folder: bytes) -> None:
        """The folder is made when something is first kept."""
        self._folder = folder

    def has(self, digest: bytes) -> bool:
        """Whether it is kept."""
        return os.path.exists(self._path(digest))

    def open(self, digest: bytes) -> int:
        """A descriptor to read it from; raises FileNotFoundError."""
        return os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def keep(self, digest: bytes, size: int, open_content: Callable[[], int], pulse: Pulse) -> bool:
        """Keep a copy, whole and durable or not at all; False: there is no room for it. See the port."""
        content = open_content()
        try:
            with self._in_words():
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
                state = os.statvfs(self._folder)
                if size > (state.f_bavail * state.f_frsize - _MARGIN) // _SHARE:
                    return False
                self._copy(content, digest, pulse)
        finally:
            os.close(content)
        return True

    def keep_only(self, digests: Sequence[bytes]) -> None:
        """Remove all others, and what an interrupted copy left."""
        wanted = {os.path.basename(self._path(digest)) for digest in digests}
        with contextlib.suppress(FileNotFoundError), self._in_words():
            for name in os.listdir(self._folder):
                if name not in wanted:
                    os.unlink(self._folder + b"/" + name)

    def _copy(self, content: int, digest: bytes, pulse: Pulse) -> None:
        path = self._path(digest)
        beside = path + b".new"
        hashed = hashlib.sha256()
        try:
            with open(os.open(beside, _NEW, 0o600), "wb") as file:
                while chunk := _read(content):
                    if pulse.is_set():
                        raise Interrupted("stopped while a good content was fetched; it is fetched again")
                    hashed.update(chunk)
                    file.write(chunk)
                    pulse.beat(len(chunk))
            if hashed.digest() != digest:
                raise BadContent("its content is not what its name says")
            flush_paths([beside])
            os.rename(beside, path)
            flush_paths([self._folder])
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise

    def _path(self, digest: bytes) -> bytes:
        return self._folder + b"/" + digest.hex().encode()

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CatalogueTrouble(
                f"{printable(self._folder)}, where good contents of rotten files are kept, cannot be used: {error.strerror}"
            ) from error


def _read(content: int) -> bytes:
    try:
        return os.read(content, CHUNK)
    except OSError as error:
        raise BadContent(f"it cannot be read: {error.strerror}") from error
