"""Reading a source file again, past the page cache and in pieces: does its medium still hold what was written?"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable

from distbackupd.engine.ports import Stop
from distbackupd.model.errors import SourceChanged, SourceTrouble
from distbackupd.model.files import Entry
from distbackupd.model.rot import Reading
from distbackupd.sources.kept import is_as_known, kept_time
from distbackupd.streams import thread_buffer

_DAMAGED = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)
"""What a medium, or a file system with checksums, says of content that it cannot give."""


class FileReading:
    """See :class:`distbackupd.engine.ports.SourceReading`.

    Between two goes nothing is open, so that the source can be unmounted; a file that changed meanwhile is noticed.
    """

    def __init__(
        self,
        open_file: Callable[[], int],
        describe: Callable[[int], Entry],
        judge: Callable[[int], tuple[bool, bool]],
        size: int,
        mtime_ns: int,
        past_cache: bool,
    ) -> None:
        """``open_file`` gives a descriptor of the file, or raises SourceChanged if it is not as it was known.

        Of an open file ``describe`` gives the entry, and ``judge``, asked before it is read, whether what is read will be
        settled and whether its times witness each write.
        """
        self._open_file = open_file
        self._describe = describe
        self._judge = judge
        self._size = size
        self._mtime_ns = mtime_ns
        self._past_cache = past_cache
        self._ctime_ns: int | None = None
        self._standing = (False, False)
        self._state = hashlib.sha256()
        self._offset = 0

    def go_on(self, stop: Stop) -> Reading | None:
        """Read until the end, or until ``stop`` is set. See the port."""
        descriptor = self._open_file()
        begin = self._offset
        try:
            ctime_ns = kept_time(os.fstat(descriptor).st_ctime_ns)
            if self._ctime_ns not in (None, ctime_ns):
                raise SourceChanged("it changed while it was read")
            if self._ctime_ns is None:
                self._standing = self._judge(descriptor)
            self._ctime_ns = ctime_ns
            if self._past_cache:
                os.posix_fadvise(descriptor, begin, 0, os.POSIX_FADV_DONTNEED)
            os.posix_fadvise(descriptor, begin, 0, os.POSIX_FADV_SEQUENTIAL)
            return self._read(descriptor, ctime_ns, stop)
        except OSError as error:
            raise SourceTrouble(f"it cannot be read: {error.strerror}") from error
        finally:
            if self._past_cache:
                # Nobody else is going to need it soon.
                with contextlib.suppress(OSError):
                    os.posix_fadvise(descriptor, begin, self._offset - begin, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    def _read(self, descriptor: int, ctime_ns: int, stop: Stop) -> Reading | None:
        buffer = thread_buffer()
        view = memoryview(buffer)
        while not stop.is_set():
            try:
                count = os.preadv(descriptor, [buffer], self._offset)
            except OSError as error:
                if error.errno in _DAMAGED:
                    return Reading(b"", self._describe(descriptor), *self._standing)
                raise SourceTrouble(f"it cannot be read: {error.strerror}") from error
            if not count:
                state = os.fstat(descriptor)
                as_known = is_as_known(state, self._size, self._mtime_ns) and kept_time(state.st_ctime_ns) == ctime_ns
                if self._offset != self._size or not as_known:
                    raise SourceChanged("it changed while it was read")
                entry = self._describe(descriptor)
                if kept_time(os.fstat(descriptor).st_ctime_ns) != ctime_ns:
                    raise SourceChanged("something was done to it while it was read")
                return Reading(self._state.digest(), entry, *self._standing)
            self._state.update(view[:count])
            self._offset += count
            if self._offset > self._size:
                raise SourceChanged("it grew while it was read")
        return None
