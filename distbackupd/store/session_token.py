"""``distbackup-session.json``: what the last session left on a disk, so that an older image or a clone of it shows."""

from __future__ import annotations

import json

from distbackupd.store.folders import Folder
from distbackupd.store.identity import write_beside
from distbackupd.store.plain_files import Aside, is_file, read_file

FILE_NAME = b"distbackup-session.json"
_LARGEST = 4096


def read_token(root: Folder) -> str:
    """The token; empty where there is none that can be read."""
    try:
        token = json.loads(read_file(root, FILE_NAME, _LARGEST))["token"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return token if isinstance(token, str) else ""


def write_token(root: Folder, token: str, aside: Aside) -> None:
    """Replace the token durably; what is no file in its place goes aside. Raises OSError."""
    if not is_file(root, FILE_NAME):
        aside.take(root, FILE_NAME)
    write_beside(root, FILE_NAME, json.dumps({"token": token}).encode() + b"\n", aside)
