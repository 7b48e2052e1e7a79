"""Reading and hashing open files in chunks, for the adapters that need it (they may not know each other)."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable

from distbackupd.engine.ports import Pulse
from distbackupd.model.errors import Interrupted

CHUNK = 1 << 20
"""Bytes read at once. Smaller files are read with one call."""

LOOK = 1 << 30
"""After so many bytes of a file it is looked whether it is still worth while."""

_buffers = threading.local()
_zeros = memoryview(bytes(CHUNK))


def thread_buffer() -> bytearray:
    """A buffer of :data:`CHUNK` bytes that belongs to the calling thread."""
    buffer: bytearray | None = getattr(_buffers, "buffer", None)
    if buffer is None:
        buffer = _buffers.buffer = bytearray(CHUNK)
    return buffer


def hash_descriptor(
    descriptor: int,
    size: int,
    pulse: Pulse,
    at_most: bool = False,
    sparse: bool = False,
    look: Callable[[], None] = lambda: None,
) -> tuple[int, bytes]:
    """How many bytes an open file has from its present position, and their SHA-256.

    Reads at most ``CHUNK`` bytes more than ``size``, so a file that grows faster than it is read comes to an end; with
    ``at_most`` not one byte more. ``sparse``: it stands at its beginning, and its holes are hashed without being read.
    ``look`` is called before each ``LOOK`` bytes of a large file, and what it raises ends it. Raises OSError, Interrupted.
    Thread-safe; hashing and reading release the interpreter's lock.
    """
    if size <= CHUNK:
        content = os.read(descriptor, size if at_most else size + 1)
        pulse.beat(len(content))
        return len(content), hashlib.sha256(content).digest()
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    buffer = thread_buffer()
    view = memoryview(buffer)
    state = hashlib.sha256()
    total = looked = 0
    while total < size + (not at_most):
        if total >= looked:
            look()
            looked = total + LOOK
        count = _hole_at(descriptor, total, size) if sparse else 0
        is_hole = count > 0
        if not is_hole:
            count = os.preadv(descriptor, [buffer], total) if sparse else os.readv(descriptor, [buffer])
        if not count:
            break
        if pulse.is_set():
            raise Interrupted("stopped while a file was read; it will be read again")
        if at_most:
            count = min(count, size - total)
        state.update((_zeros if is_hole else view)[:count])
        total += count
        pulse.beat(count)
    return total, state.digest()


def _hole_at(descriptor: int, offset: int, size: int) -> int:
    """So many bytes from the offset on are a hole, a chunk at the most."""
    try:
        data = os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        # There is none up to the end; or the file system does not tell.
        data = size if error.errno == errno.ENXIO else offset
    return max(0, min(data, size) - offset) if data - offset < CHUNK else min(CHUNK, size - offset)
