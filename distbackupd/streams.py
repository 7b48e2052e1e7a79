"""Reading and hashing open files in chunks, for the adapters that need it (they may not know each other)."""

from __future__ import annotations

import hashlib
import os
import threading

from distbackupd.engine.ports import Pulse
from distbackupd.model.errors import Interrupted

CHUNK = 1 << 20
"""Bytes read at once. Smaller files are read with one call."""

_buffers = threading.local()


def thread_buffer() -> bytearray:
    """A buffer of :data:`CHUNK` bytes that belongs to the calling thread."""
    buffer: bytearray | None = getattr(_buffers, "buffer", None)
    if buffer is None:
        buffer = _buffers.buffer = bytearray(CHUNK)
    return buffer


def hash_descriptor(descriptor: int, size: int, pulse: Pulse, at_most: bool = False) -> tuple[int, bytes]:
    """How many bytes an open file has from its present position, and their SHA-256.

    Reads at most ``CHUNK`` bytes more than ``size``, so a file that grows faster than it is read comes to an end; with
    ``at_most`` not one byte more. Raises OSError, Interrupted. Thread-safe; hashing and reading release the interpreter's
    lock.
    """
    if size <= CHUNK:
        content = os.read(descriptor, size if at_most else size + 1)
        pulse.beat(len(content))
        return len(content), hashlib.sha256(content).digest()
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    buffer = thread_buffer()
    view = memoryview(buffer)
    state = hashlib.sha256()
    total = 0
    while total < size + (not at_most) and (count := os.readv(descriptor, [buffer])):
        if pulse.is_set():
            raise Interrupted("stopped while a file was read; it will be read again")
        if at_most:
            count = min(count, size - total)
        state.update(view[:count])
        total += count
        pulse.beat(count)
    return total, state.digest()
