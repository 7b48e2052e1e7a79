"""Good contents of rotten source files, kept in a folder beside the catalogue until they are put back."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence

from distbackupd.engine.ports import BadContent, Pulse
from distbackupd.model.errors import CatalogueTrouble, Interrupted
from distbackupd.model.text import printable
from distbackupd.streams import CHUNK

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
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
        with contextlib.suppress(OSError), self._opened() as folder:
            os.stat(digest.hex(), dir_fd=folder, follow_symlinks=False)
            return True
        return False

    def open(self, digest: bytes) -> int:
        """A descriptor to read it from; raises FileNotFoundError."""
        with self._opened() as folder:
            return os.open(digest.hex(), _READ, dir_fd=folder)

    def keep(self, digest: bytes, size: int, open_content: Callable[[], int], pulse: Pulse) -> bool:
        """Keep a copy, whole and durable or not at all; False: there is no room for it. See the port."""
        content = open_content()
        try:
            with self._in_words():
                os.makedirs(self._folder, mode=0o700, exist_ok=True)
                with self._opened() as folder:
                    state = os.fstatvfs(folder)
                    if size > (state.f_bavail * state.f_frsize - _MARGIN) // _SHARE:
                        return False
                    self._copy(content, folder, digest, pulse)
        finally:
            os.close(content)
        return True

    def keep_only(self, digests: Sequence[bytes]) -> None:
        """Remove all others, and what an interrupted copy left."""
        wanted = {digest.hex() for digest in digests}
        with contextlib.suppress(FileNotFoundError), self._in_words(), self._opened() as folder:
            for name in os.listdir(folder):
                if name not in wanted:
                    os.unlink(name, dir_fd=folder)

    def _copy(self, content: int, folder: int, digest: bytes, pulse: Pulse) -> None:
        name = digest.hex()
        beside = f"{name}.new"
        hashed = hashlib.sha256()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)
        try:
            with open(os.open(beside, _NEW, 0o600, dir_fd=folder), "wb") as file:
                while chunk := _read(content):
                    if pulse.is_set():
                        raise Interrupted("stopped while a good content was fetched; it is fetched again")
                    hashed.update(chunk)
                    file.write(chunk)
                    pulse.beat(len(chunk))
                if hashed.digest() != digest:
                    raise BadContent("its content is not what its name says")
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=folder)
            raise

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """The folder, which is no link: where the catalogue lies, root is not the only one who writes."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield folder
        finally:
            os.close(folder)

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
