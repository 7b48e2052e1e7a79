"""Small files that only root writes, replaced at once and durably."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the file, or make it; whoever reads it sees the old content or the new one. Raises OSError.

    Nothing is left beside it then, and what a process that died left beside any file of the folder goes.
    """
    beside = path.with_name(f".{path.name}.new")
    for left in path.parent.glob(".*.new"):
        left.unlink(missing_ok=True)
    try:
        with open(beside, "xb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Make durable which files are in the folder. Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
