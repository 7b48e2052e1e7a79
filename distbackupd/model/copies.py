"""Copies of the catalogue, as they say of themselves."""

from __future__ import annotations

from typing import NamedTuple

from distbackupd.model.errors import CatalogueTrouble
from distbackupd.model.sources import Source


class CopyKnowledge(NamedTuple):
    """What a copy of the catalogue would bring, as far as a short look tells.

    ``disks``: names by UUID. ``tokens``: by UUID, what the disk's last session left on it, or may have left. ``sessions``:
    number and beginning of each. ``following``: virtual folders of which the settings say that links are followed.
    ``versions``: of files, at the most.
    """

    disks: dict[str, str]
    tokens: dict[str, frozenset[str]]
    sources: tuple[Source, ...]
    following: tuple[bytes, ...]
    settings: int
    sessions: frozenset[tuple[int, int]]
    versions: int


class CatalogueCopy(NamedTuple):
    """A catalogue's file, or the copy of one on a disk.

    ``generation`` grows with every recorded change. ``session``: number and beginning (unix seconds) of the newest
    session that it knows; (0, 0): none. ``written_at``: when its file was written, unix seconds. ``empty``: it knows
    neither a source nor a file nor a disk. ``knowledge`` None: nobody asked for it.
    """

    path: bytes
    version: int
    generation: int
    session: tuple[int, int]
    written_at: int
    empty: bool
    knowledge: CopyKnowledge | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """The greater, the newer."""
        return self.generation, self.written_at


class DamagedCopy(CatalogueTrouble):
    """A copy of the catalogue is not whole; another one may be."""
