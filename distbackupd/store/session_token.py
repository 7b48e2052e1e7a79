"""``distbackup-session.json``: what the last session left on a disk, so that an older image or a clone of it shows."""

from __future__ import annotations

import json

from distbackupd.store.identity import write_beside
from distbackupd.store.plain_files import is_file, move_aside, read_file

FILE_NAME = b"distbackup-session.json"
_LARGEST = 4096


def read_token(root: bytes) -> str:
    """The token; empty where there is none that can be read."""
    try:
        token = json.loads(read_file(root + b"/" + FILE_NAME, _LARGEST))["token"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return token if isinstance(token, str) else ""


def write_token(root: bytes, token: str, aside: bytes) -> None:
    """Replace the token durably; what is no file in its place goes to ``aside``. Raises OSError."""
    path = root + b"/" + FILE_NAME
    if not is_file(path):
        move_aside(path, aside)
    write_beside(path, json.dumps({"token": token}).encode() + b"\n", aside)
