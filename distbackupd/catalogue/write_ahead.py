"""A database with what its ``-wal`` holds, in a copy of its own, without asking SQLite to believe either of them.

The format is told in SQLite's documentation, "Database File Format", section 4, "The Write-Ahead Log"; what is not whole
there never happened.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

_HEADER = struct.Struct(">IIIIIIII")
_FRAME = struct.Struct(">IIIIII")
_MAGIC = 0x377F0682
_LARGEST = 1 << 30
"""SQLite folds a log in long before."""


def fold(database: BinaryIO, log: BinaryIO, copy: BinaryIO) -> None:
    """Write to ``copy``, which is empty, what the database is once all that was committed to its log is in it.

    Raises ValueError: the log is larger than any; OSError.
    """
    while content := database.read(1 << 20):
        copy.write(content)
    if os.fstat(log.fileno()).st_size > _LARGEST:
        raise ValueError("its -wal is larger than any")
    header = log.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return
    magic, _, page_size, _, *salts, first, second = _HEADER.unpack(header)
    if magic & ~1 != _MAGIC or page_size < 512 or page_size > 65536 or page_size & (page_size - 1):
        return
    order = ">" if magic & 1 else "<"
    sums = _checksum(order, header[:24], (0, 0))
    if sums != (first, second):
        return
    waiting: dict[int, int] = {}
    while len(frame := log.read(_FRAME.size + page_size)) == _FRAME.size + page_size:
        number, pages, *frame_salts, first, second = _FRAME.unpack_from(frame)
        sums = _checksum(order, frame[_FRAME.size :], _checksum(order, frame[:8], sums))
        if frame_salts != salts or sums != (first, second) or number == 0:
            return
        waiting[number] = log.tell() - page_size
        if pages:
            after = log.tell()
            for page, place in sorted(waiting.items()):
                if page <= pages:
                    log.seek(place)
                    copy.seek((page - 1) * page_size)
                    copy.write(log.read(page_size))
            copy.truncate(pages * page_size)
            log.seek(after)
            waiting.clear()


def _checksum(order: str, content: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
