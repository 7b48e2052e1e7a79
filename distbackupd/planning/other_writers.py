"""Who else may change what is restored to a folder, or lead elsewhere on the way to it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple

from distbackupd.planning.completing import ROOT


class Level(NamedTuple):
    """A folder on the way to another one: its path, owner, group and mode."""

    path: bytes
    uid: int
    gid: int
    mode: int


class Writer(Enum):
    """Who it is that may write there."""

    OWNER = "owner"
    GROUP = "group"
    EVERYBODY = "everybody"


def other_writer(
    levels: Iterable[Level], destination: bytes, own: int, has_others: Callable[[int], bool]
) -> tuple[Level, Writer] | None:
    """The first of the folders from the root down to ``destination`` where somebody but root and ``own`` may rename things.

    In a folder with the sticky bit everybody may put things, but not rename those of others: it matters at the end only.
    ``has_others``: whether anybody else is in a group.
    """
    for level in levels:
        guarded = level.path != destination and level.mode & stat.S_ISVTX
        if level.uid not in (ROOT, own):
            return level, Writer.OWNER
        if level.mode & stat.S_IWOTH and not guarded:
            return level, Writer.EVERYBODY
        if level.mode & stat.S_IWGRP and not guarded and has_others(level.gid):
            return level, Writer.GROUP
    return None
