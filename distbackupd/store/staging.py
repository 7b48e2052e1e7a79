"""Writing a copy under its temporary name, hashing it on the way. What fails leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import os

from distbackupd.engine.ports import Pulse
from distbackupd.model.errors import ContentDiffers, Interrupted, SourceChanged, SourceTrouble
from distbackupd.store.plain_files import create_file
from distbackupd.store.trouble import disk_trouble, in_words
from distbackupd.streams import CHUNK, thread_buffer

_WRITE_BACK = 8 << 20
"""After so many bytes of a large copy the kernel is asked to write them out."""


def stage(descriptor: int, path: bytes, aside: bytes, root: bytes, digest: bytes, size: int, pulse: Pulse) -> None:
    """Copy from ``descriptor`` to ``path`` on the disk mounted at ``root``; a folder that stands there goes to ``aside``.

    Raises ContentDiffers, SourceChanged, SourceTrouble, DiskTrouble, Interrupted.
    """
    if size <= CHUNK:
        content = _read_source(descriptor, size + 1)
        if len(content) != size or hashlib.sha256(content).digest() != digest:
            raise ContentDiffers("its content is not what it was when it was hashed")
        _write_small(path, aside, root, content)
        pulse.beat(size)
    else:
        _stage_large(descriptor, path, aside, root, digest, size, pulse)


def stage_as_it_is(descriptor: int, path: bytes, aside: bytes, root: bytes, size: int, pulse: Pulse) -> tuple[bytes, int]:
    """Copy at the most ``size`` bytes, whatever they are; their hash and how many they were.

    Raises SourceTrouble, DiskTrouble, Interrupted.
    """
    with in_words(root):
        target = create_file(path, aside)
    state = hashlib.sha256()
    total = 0
    finished = False
    try:
        buffer = thread_buffer()
        while total < size and (count := _read_source_into(descriptor, buffer)):
            if pulse.is_set():
                raise Interrupted("stopped while a file was copied; it will be copied again")
            filled = memoryview(buffer)[: min(count, size - total)]
            state.update(filled)
            with in_words(root):
                _write_all(target, filled)
            total += len(filled)
            pulse.beat(len(filled))
        if not total:
            raise SourceChanged("it is empty now")
        with in_words(root):
            os.fsync(target)
        finished = True
    finally:
        os.close(target)
        if not finished:
            with contextlib.suppress(OSError):
                os.unlink(path)
    return state.digest(), total


def _write_small(path: bytes, aside: bytes, root: bytes, content: bytes) -> None:
    try:
        target = create_file(path, aside)
        try:
            written = os.write(target, content)
            while written < len(content):
                written += os.write(target, content[written:])
        finally:
            os.close(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise disk_trouble(error, root) from error


def _stage_large(descriptor: int, path: bytes, aside: bytes, root: bytes, digest: bytes, size: int, pulse: Pulse) -> None:
    buffer = thread_buffer()
    view = memoryview(buffer)
    state = hashlib.sha256()
    total = begun = 0
    sparse = os.fstat(descriptor).st_blocks * 512 < size
    zeros = bytes(CHUNK) if sparse else b""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    with in_words(root):
        target = create_file(path, aside)
    finished = False
    try:
        while count := _read_source_into(descriptor, buffer):
            if pulse.is_set():
                raise Interrupted("stopped while a file was copied; it will be copied again")
            if total + count > size:
                raise SourceChanged("it grew while it was copied")
            filled = view[:count]
            state.update(filled)
            with in_words(root):
                # Not the view: memoryviews compare byte by byte.
                if sparse and buffer.startswith(zeros if count == CHUNK else zeros[:count]):
                    os.lseek(target, count, os.SEEK_CUR)
                else:
                    _write_all(target, filled)
            total += count
            pulse.beat(count)
            if total - begun >= _WRITE_BACK:
                # Lets the disk begin while we read on, and keeps a big copy from filling the page cache.
                os.posix_fadvise(target, begun, total - begun, os.POSIX_FADV_DONTNEED)
                begun = total
        if total != size or state.digest() != digest:
            raise ContentDiffers("its content is not what it was when it was hashed")
        with in_words(root):
            if sparse:
                os.ftruncate(target, size)
            # What was written out early and failed is told to this descriptor for certain.
            os.fsync(target)
        finished = True
    finally:
        os.close(target)
        if not finished:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _read_source(descriptor: int, count: int) -> bytes:
    try:
        return os.read(descriptor, count)
    except OSError as error:
        raise SourceTrouble(f"it cannot be read: {error.strerror}") from error


def _read_source_into(descriptor: int, buffer: bytearray) -> int:
    try:
        return os.readv(descriptor, [buffer])
    except OSError as error:
        raise SourceTrouble(f"it cannot be read: {error.strerror}") from error
