"""Sizes, times, paths and numbers as people say and write them."""

from __future__ import annotations

import re

from distbackupd.model.errors import UsageError

_SIZE = re.compile(r"^\s*([0-9][0-9,_' ]*(?:\.[0-9]+)?)\s*([kmgtpe]?)(i?)b?\s*$", re.IGNORECASE)
_FACTOR = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_LARGEST = 2**63 - 1


def parse_size(text: str) -> int:
    """Bytes from ``7.4T``, ``500G``, ``10 GB``, ``2GiB`` or ``7,927,384,932,352``.

    A bare unit is decimal, as on the label of a disk; ``Ki``, ``Mi``, ``Gi`` are powers of 1024.

    Raises:
        UsageError: the text is no size, or more than any disk has (2^63 bytes).
    """
    match = _SIZE.match(text)
    if match is None:
        raise UsageError(f"'{printable(text)}' is no size; write it like 7.4T, 500G or 7,927,384,932,352")
    number, unit, binary = match.groups()
    digits = re.sub(r"[,_' ]", "", number)
    factor: int = (1024 if binary else 1000) ** _FACTOR[unit.lower()]
    size = round(float(digits) * factor) if "." in digits else int(digits) * factor
    if size > _LARGEST:
        raise UsageError(f"'{printable(text)}' is more than any disk holds")
    return size


def say_size(size: int) -> str:
    """``7.93 TB``, ``212 GB``, ``17.4 kB``, ``512 bytes``: decimal, three digits, as disks are labelled."""
    if abs(size) < 1000:
        return "1 byte" if size == 1 else f"{size} bytes"
    units = ["kB", "MB", "GB", "TB", "PB", "EB"]
    value, unit = size / 1000, units.pop(0)
    while abs(value) >= 999.5 and units:
        value, unit = value / 1000, units.pop(0)
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{decimals}f} {unit}"


def say_count(number: int, one: str, many: str | None = None) -> str:
    """``1 file``, ``12,345 files``: the number with its noun; ``many`` defaults to ``one`` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def say_duration(seconds: float) -> str:
    """``3 s``, ``12 min``, ``1 h 40 min``, ``3 days``: what matters of a duration, two units at the most."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(hours / 24)} days"


def say_ago(seconds: float) -> str:
    """``just now``, ``12 min ago``, ``3 days ago``."""
    return "just now" if seconds < 60 else f"{say_duration(seconds)} ago"


def printable(text: str | bytes) -> str:
    """One line that a terminal and a journal can show: control characters and bytes that are no UTF-8 are escaped."""
    decoded = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    if decoded.isprintable():
        return decoded
    return "".join(_escape(character) for character in decoded)


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def join_words(words: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def say_unconfirmed(files: int, size: int) -> str:
    """``12 files, 3.2 GB, are believed until they are read again, which is done in the background``."""
    are, they = ("is", "it is") if files == 1 else ("are", "they are")
    count = say_count(files, "file")
    return f"{count}, {say_size(size)}, {are} believed until {they} read again, which is done in the background"


def say_copies(copies: int) -> str:
    """``have no copy yet``, ``have one copy only``, ``have 2 copies``: behind a number of bytes."""
    return ("have no copy yet", "have one copy only")[copies] if copies < 2 else f"have {copies} copies"
