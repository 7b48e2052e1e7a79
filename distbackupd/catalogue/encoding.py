"""How extended attributes become one blob, readable with nothing but ``struct``.

``xattrs`` is a run of ``<HI`` headers (length of name, length of value) each followed by the name and the value.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct

_HEADER = struct.Struct("<HI")


def encode_xattrs(xattrs: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """One blob; empty for none."""
    return b"".join(_HEADER.pack(len(name), len(value)) + name + value for name, value in xattrs)


def decode_xattrs(blob: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """What :func:`encode_xattrs` was given. Raises ValueError on a truncated blob."""
    xattrs = []
    position = 0
    while position < len(blob):
        if position + _HEADER.size > len(blob):
            raise ValueError("truncated extended attributes")
        name_length, value_length = _HEADER.unpack_from(blob, position)
        start = position + _HEADER.size
        position = start + name_length + value_length
        if position > len(blob):
            raise ValueError("truncated extended attributes")
        xattrs.append((blob[start : start + name_length], blob[start + name_length : position]))
    return tuple(xattrs)


def hash_xattrs(blob: bytes) -> bytes:
    """By which a blob is found; empty for an empty one, which nearly all are."""
    return hashlib.sha256(blob).digest() if blob else b""


def teach_hash_xattrs(connection: sqlite3.Connection) -> None:
    """Let SQL on this connection call :func:`hash_xattrs`."""
    connection.create_function("hash_xattrs", 1, hash_xattrs, deterministic=True)
