"""Paths and moments in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Condition = tuple[str, Sequence[Any]]
"""A condition and the values of its question marks."""


def below(column: str, path: bytes) -> tuple[str, list[Any]]:
    """The condition that a folder's path is ``path`` or lies below it. '0' is the byte behind '/'."""
    if path == b"/":
        return f"{column} >= ?", [b"/"]
    return f"({column} = ? OR ({column} >= ? AND {column} < ?))", [path, path + b"/", path + b"0"]


def below_or_at(path: bytes) -> tuple[str, list[Any]]:
    """The condition that ``folder.path`` and ``file.name`` are those of ``path`` itself, or of something below it."""
    condition, parameters = below("path", path)
    if path == b"/":
        return condition, parameters
    folder, _, name = path.rpartition(b"/")
    return f"({condition} OR (path = ? AND name = ?))", [*parameters, folder or b"/", name]


def join(folder: bytes, name: bytes) -> bytes:
    """The path of an entry; a source's own folder has an empty name."""
    if not name:
        return folder
    return folder + name if folder == b"/" else folder + b"/" + name


def alive(at: int | None) -> list[Condition]:
    """Conditions that together mean the versions of a moment (None: now), each of them one that an index answers."""
    if at is None:
        return [("gone = 0", ())]
    return [("gone = 0 AND seen <= ?", (at,)), ("gone <> 0 AND gone > ? AND seen <= ?", (at, at))]
