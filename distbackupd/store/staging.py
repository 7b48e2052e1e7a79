"""Writing a copy under its temporary name, hashing it on the way. What fails leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import NamedTuple

from distbackupd.engine.ports import Pulse
from distbackupd.model.errors import ContentDiffers, Interrupted, SourceChanged, SourceTrouble
from distbackupd.store.folders import Folder
from distbackupd.store.plain_files import Aside, create_file
from distbackupd.store.trouble import disk_trouble, in_words
from distbackupd.streams import CHUNK, thread_buffer

_WRITE_BACK = 8 << 20
"""After so many bytes of a large copy the kernel is asked to write them out."""


class Desk(NamedTuple):
    """Where copies are written: the open ``folder`` on the disk at ``place``. What stands in the way goes ``aside``."""

    folder: Folder
    aside: Aside
    place: bytes


def stage(descriptor: int, desk: Desk, digest: bytes, size: int, pulse: Pulse) -> None:
    """Copy from ``descriptor`` to the file that is named by the digest.

    Raises ContentDiffers, SourceChanged, SourceTrouble, DiskTrouble, Interrupted.
    """
    if size <= CHUNK:
        content = _read_source(descriptor, size + 1)
        if len(content) != size or hashlib.sha256(content).digest() != digest:
            raise ContentDiffers("its content is not what it was when it was hashed")
        _write_small(desk, digest.hex().encode(), content)
        pulse.beat(size)
    else:
        _stage_large(descriptor, desk, digest, size, pulse)


def stage_as_it_is(descriptor: int, desk: Desk, name: bytes, size: int, pulse: Pulse) -> tuple[bytes, int]:
    """Copy at the most ``size`` bytes, whatever they are; their hash and how many they were.

    Raises SourceTrouble, DiskTrouble, Interrupted.
    """
    with in_words(desk.place):
        target = create_file(desk.folder, name, desk.aside)
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
            with in_words(desk.place):
                _write_all(target, filled)
            total += len(filled)
            pulse.beat(len(filled))
        if not total:
            raise SourceChanged("it is empty now")
        with in_words(desk.place):
            os.fsync(target)
        finished = True
    finally:
        os.close(target)
        if not finished:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=desk.folder.descriptor)
    return state.digest(), total


def _write_small(desk: Desk, name: bytes, content: bytes) -> None:
    try:
        target = create_file(desk.folder, name, desk.aside)
        try:
            written = os.write(target, content)
            while written < len(content):
                written += os.write(target, content[written:])
        finally:
            os.close(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=desk.folder.descriptor)
        raise disk_trouble(error, desk.place) from error


def _stage_large(descriptor: int, desk: Desk, digest: bytes, size: int, pulse: Pulse) -> None:
    name = digest.hex().encode()
    buffer = thread_buffer()
    view = memoryview(buffer)
    state = hashlib.sha256()
    total = begun = 0
    sparse = _blocks_of_source(descriptor) * 512 < size
    zeros = bytes(CHUNK) if sparse else b""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    with in_words(desk.place):
        target = create_file(desk.folder, name, desk.aside)
    finished = False
    try:
        while count := _read_source_into(descriptor, buffer):
            if pulse.is_set():
                raise Interrupted("stopped while a file was copied; it will be copied again")
            if total + count > size:
                raise SourceChanged("it grew while it was copied")
            filled = view[:count]
            state.update(filled)
            with in_words(desk.place):
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
        with in_words(desk.place):
            if sparse:
                os.ftruncate(target, size)
            # What was written out early and failed is told to this descriptor for certain.
            os.fsync(target)
        finished = True
    finally:
        os.close(target)
        if not finished:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=desk.folder.descriptor)


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _blocks_of_source(descriptor: int) -> int:
    try:
        return os.fstat(descriptor).st_blocks
    except OSError as error:
        raise SourceTrouble(f"it cannot be read: {error.strerror}") from error


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
