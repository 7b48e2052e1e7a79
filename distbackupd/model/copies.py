"""Copies of the catalogue, as they say of themselves."""

from __future__ import annotations

from typing import NamedTuple

from distbackupd.model.errors import CatalogueTrouble


class CatalogueCopy(NamedTuple):
    """A catalogue's file, or the copy of one on a disk.

    ``generation`` grows with every recorded change. ``session``: number and beginning (unix seconds) of the newest
    session that it knows; (0, 0): none. ``written_at``: when its file was written, unix seconds. ``empty``: it knows
    neither a source nor a file nor a disk.
    """

    path: bytes
    version: int
    generation: int
    session: tuple[int, int]
    written_at: int
    empty: bool

    @property
    def rank(self) -> tuple[int, int]:
        """The greater, the newer."""
        return self.generation, self.written_at


class DamagedCopy(CatalogueTrouble):
    """A copy of the catalogue is not whole; another one may be."""
