"""Which metadata a restore may give to what stood at its destination before, and when it has to be replaced instead.

Whoever may write in a folder can put a file of his own there, or rename somebody else's, so that it looks like the one
that is restored. Whatever is given to such a file must not give him anything: no owner, no privilege, no reader more.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

ROOT = 0
_HARMLESS = b"user."
_OTHERS_WRITE = 0o022
_PRIVILEGES = 0o7000


class Looks(NamedTuple):
    """Owner, mode (0 of symbolic links), extended attributes by name, and flags of ``chattr``."""

    uid: int
    gid: int
    mode: int
    xattrs: frozenset[tuple[bytes, bytes]] = frozenset()
    flags: int = 0


class Step(Enum):
    """What is to be done with something whose content is right."""

    NOTHING = "nothing"
    COMPLETE = "complete"
    """Mode, ``user.*`` attributes and time are given to what stands there."""
    REPLACE = "replace"
    """A new file, which nobody else ever had open, takes its place."""


def step_for(present: Looks, wanted: Looks, alone: bool) -> Step:
    """What makes ``wanted`` of ``present``. ``alone``: nobody else may write in its folder, and it has no other name."""
    if present == wanted:
        return Step.NOTHING
    if _guarded(present) != _guarded(wanted):
        return Step.REPLACE
    more = wanted.mode & ~present.mode
    return Step.REPLACE if more & _PRIVILEGES or (more and not alone) else Step.COMPLETE


def may_others_write(uid: int, mode: int, own: int) -> bool:
    """Whether anybody but root and the user ``own`` may put names into the folder that looks so."""
    return uid not in (ROOT, own) or bool(mode & _OTHERS_WRITE)


def _guarded(looks: Looks) -> tuple[object, ...]:
    guarded = frozenset(item for item in looks.xattrs if not item[0].startswith(_HARMLESS))
    return looks.uid, looks.gid, guarded, looks.flags
