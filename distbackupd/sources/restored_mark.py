"""A file in the folder that is restored to, for as long as a power cut could take back what was written there.

After a power cut a file can stand there with the right time and without its content: the file system had put off writing
it. The mark tells the next restore from when on that is possible, so that it reads these few files again instead of
believing them, or of taking them for somebody else's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

MARK_NAME = b".dbtmp~restore"

_SETTLE_SECONDS = 60.0
"""So much work may have to be looked at again after a power cut."""
_LENGTH = 120
_libc = ctypes.CDLL(None, use_errno=True)


def boot_id() -> str:
    """Names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()


class RestoreMark:
    """The mark below the folder with the descriptor ``root``. Not thread-safe but for :meth:`doubts`.

    ``begun``: the mark is set, or cannot be. ``was_left``: an earlier restore was killed here, and may have left temporary
    files behind. While another process restores to the same folder the mark is that one's business.

    Whoever may write in the folder can put something under the mark's name: it is only read, and makes this restore look at
    more than it had to. Written is to a new one, which takes the name.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._descriptor = -1
        self._found = -1
        self.begun = False
        self._doubtful_since: int | None = None
        self._settled = time.monotonic()
        self._looked_at: set[tuple[int, int]] = set()
        self.was_left = False
        self._take_over()

    def _take_over(self) -> None:
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(MARK_NAME, flags, dir_fd=self._root)
        except OSError:
            return
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or not _lock(descriptor):
            os.close(descriptor)
            self.begun = stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid()
            return
        self._found, self.was_left = descriptor, True
        try:
            said = json.loads(os.pread(descriptor, _LENGTH, 0))
            boot, self._since = str(said["boot"]), int(said["since"])
        except (ValueError, KeyError, TypeError, OSError):
            boot, self._since = "", 0
        if boot != boot_id():
            self._doubtful_since = self._since

    def doubts(self, state: os.stat_result) -> bool:
        """Whether a power cut may have taken the content of the file that looks like this."""
        since = self._doubtful_since
        return since is not None and state.st_ctime_ns >= since and (state.st_dev, state.st_ino) not in self._looked_at

    def trust(self, state: os.stat_result) -> None:
        """The file was read again, and is right."""
        self._looked_at.add((state.st_dev, state.st_ino))

    def begin(self) -> None:
        """Something is about to be written. Raises OSError."""
        if self.begun:
            return
        self.begun = True
        try:
            self._make()
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EEXIST, errno.EISDIR):
                return  # an ordinary user may write only further below
            raise
        with self._open_root() as folder:
            os.fsync(folder)

    def settle(self) -> None:
        """Now and then, see to it that what was written so far is safe. Raises OSError."""
        if time.monotonic() - self._settled < _SETTLE_SECONDS or self._descriptor < 0 or self._doubtful_since is not None:
            return
        os.utime(self._descriptor)  # the file system's own clock, by which it will be compared
        since = os.fstat(self._descriptor).st_ctime_ns
        self._flush()
        self._since = since
        self._write()
        self._settled = time.monotonic()

    def end(self) -> None:
        """All that was written is safe; the mark goes. Raises OSError."""
        if self._descriptor >= 0 or self._found >= 0:
            self._flush()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(MARK_NAME, dir_fd=self._root)
            self._doubtful_since = None
            self.was_left = False
        self.close()
        self.begun = False

    def close(self) -> None:
        """Leave the mark as it is."""
        for descriptor in (self._descriptor, self._found):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._found = -1

    def _make(self) -> None:
        try:
            self._create(MARK_NAME)
        except FileExistsError:
            temporary = MARK_NAME + b".new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._root)
            self._create(temporary)
            os.rename(temporary, MARK_NAME, src_dir_fd=self._root, dst_dir_fd=self._root)

    def _create(self, name: bytes) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(name, flags, 0o600, dir_fd=self._root)
        _lock(self._descriptor)
        if self._found < 0:
            self._since = os.fstat(self._descriptor).st_ctime_ns
        self._write()

    def _write(self) -> None:
        said = json.dumps({"boot": boot_id(), "since": self._since}).ljust(_LENGTH)
        os.pwrite(self._descriptor, said.encode(), 0)
        os.fsync(self._descriptor)

    def _flush(self) -> None:
        with self._open_root() as folder:
            if _libc.syncfs(folder):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))

    @contextlib.contextmanager
    def _open_root(self) -> Iterator[int]:
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
