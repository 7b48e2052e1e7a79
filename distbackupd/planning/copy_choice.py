"""Which copy of a lost catalogue may be taken without somebody naming it.

A high number proves nothing: whoever makes a disk can write any. A copy speaks for itself if it knows the disk on which it
lies, and it speaks for a shelf if it knows what the other disks that are here know: their newest session, and the random
token that their last session left on them, which nobody but the catalogue and the disk itself was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from distbackupd.model.copies import CatalogueCopy

_SLACK = 26 * 3600
"""Seconds: FAT writes times of the day without saying of which zone."""


class Candidate(NamedTuple):
    """A copy with the disk on which it lies. ``uuid`` empty: somebody named the file. ``token``: what lies on the disk.

    ``is_kept``: it was kept aside when another copy was put in its place.
    """

    copy: CatalogueCopy
    name: str
    uuid: str
    token: str = ""
    is_kept: bool = False


class Choice(NamedTuple):
    """``taken``: what may be taken without more words; None: nothing. ``doubts``: why not others, by the paths of copies."""

    taken: Candidate | None
    doubts: dict[bytes, str]


def choose(candidates: Sequence[Candidate]) -> Choice:
    """The newest copy against which nothing speaks, if it knows whatever the others know.

    ``taken`` is None if there is none, or if two that nothing speaks against belong to different catalogues.
    """
    doubts = {candidate.copy.path: doubt for candidate in candidates if (doubt := own_doubt(candidate))}
    good = sorted(
        (candidate for candidate in candidates if candidate.copy.path not in doubts),
        key=lambda candidate: candidate.copy.rank,
        reverse=True,
    )
    if not good:
        return Choice(None, doubts)
    best = good[0]
    for other in good[1:]:
        if not other.is_kept and other.uuid != best.uuid and (doubt := _doubt_beside(best, other)):
            return Choice(None, doubts | {best.copy.path: doubt})
    return Choice(best, doubts)


def own_doubt(candidate: Candidate) -> str:
    """What about the copy and its own disk does not fit together; empty: nothing."""
    copy, knowledge = candidate.copy, candidate.copy.knowledge
    if candidate.uuid and (knowledge is None or candidate.uuid not in knowledge.disks):
        return "it does not know the disk on which it lies"
    if copy.session[1] > copy.written_at + _SLACK:
        return "it tells of a session that began after it was written"
    return ""


def _doubt_beside(best: Candidate, other: Candidate) -> str:
    """What of another disk here the newest copy should know and does not; empty: nothing."""
    knowledge = best.copy.knowledge
    assert knowledge is not None
    if other.uuid not in knowledge.disks:
        return f"it does not know {other.name}, which is here and has a copy of its own"
    if other.copy.session != (0, 0) and other.copy.session not in knowledge.sessions:
        return f"it does not know the last session that the copy on {other.name} knows"
    if other.token and other.token not in knowledge.tokens.get(other.uuid, ()):
        return f"it does not know how the last session left {other.name}"
    return ""
