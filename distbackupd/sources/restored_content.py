"""Copying an object to a restored file, hashing what is copied, with holes where holes were."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from distbackupd.engine.ports import BadContent, Pulse
from distbackupd.model.errors import Interrupted
from distbackupd.model.files import EntryFlag, RestoreEntry
from distbackupd.streams import CHUNK, thread_buffer

_BLOCK = 4096
_ZEROS = bytes(_BLOCK)


def open_object(open_content: Callable[[], int]) -> int:
    """A descriptor of the object. Raises BadContent where it is missing or not to be opened, DiskTrouble."""
    try:
        return open_content()
    except FileNotFoundError as error:
        raise BadContent("its object file is missing") from error
    except OSError as error:
        raise BadContent(f"its object file cannot be opened: {error.strerror}") from error


def copy_content(content: int, descriptor: int, entry: RestoreEntry, pulse: Pulse) -> None:
    """Copy the open object to the open, empty file; what was read hashes to the object's name.

    Raises BadContent, Interrupted, OSError of writing.
    """
    if entry.size <= CHUNK and not (entry.flags and entry.flags & EntryFlag.SPARSE):
        return _copy_small(content, descriptor, entry, pulse)
    hashed = hashlib.sha256()
    buffer = thread_buffer()
    view = memoryview(buffer)
    write = _write_with_holes if entry.flags & EntryFlag.SPARSE else _write
    total = 0
    if entry.size > CHUNK:
        os.posix_fadvise(content, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while total < entry.size:
        try:
            count = os.readv(content, [buffer])
        except OSError as error:
            raise BadContent(f"its object cannot be read: {error.strerror}") from error
        total += count
        if not count or total > entry.size:
            break
        hashed.update(view[:count])
        write(descriptor, view[:count])
        pulse.beat(count)
        if pulse.is_set() and total < entry.size:
            raise Interrupted("stopped while a file was restored; nothing of it is left")
    if total != entry.size or hashed.digest() != entry.digest:
        raise BadContent("its content is not what its name says")
    if write is _write_with_holes:
        os.ftruncate(descriptor, total)
    return None


def _copy_small(content: int, descriptor: int, entry: RestoreEntry, pulse: Pulse) -> None:
    """The same, in as few calls as can be: most files are small, and each call costs a change of threads."""
    try:
        data = os.read(content, entry.size + 1)
    except OSError as error:
        raise BadContent(f"its object cannot be read: {error.strerror}") from error
    if len(data) != entry.size or hashlib.sha256(data).digest() != entry.digest:
        raise BadContent("its content is not what its name says")
    if os.write(descriptor, data) != entry.size:
        os.lseek(descriptor, 0, os.SEEK_SET)
        _write(descriptor, memoryview(data))
    pulse.beat(entry.size)


def _write(descriptor: int, data: memoryview) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def _write_with_holes(descriptor: int, data: memoryview) -> None:
    """Write, but skip whole blocks of zeros. The caller sets the size at the end."""
    start = 0
    while start < len(data):
        hole = _is_zero(data, start)
        end = start + _BLOCK
        while end < len(data) and _is_zero(data, end) is hole:
            end += _BLOCK
        end = min(end, len(data))
        if hole:
            os.lseek(descriptor, end - start, os.SEEK_CUR)
        else:
            _write(descriptor, data[start:end])
        start = end


def _is_zero(data: memoryview, start: int) -> bool:
    block = bytes(data[start : start + _BLOCK])
    return block == (_ZEROS if len(block) == _BLOCK else bytes(len(block)))
