"""What a recovery needs of a catalogue that is lost, and of its copies."""

from __future__ import annotations

from typing import Protocol

from distbackupd.model.copies import CatalogueCopy


class CatalogueCopies(Protocol):
    """The place of one catalogue, and copies of it anywhere."""

    def present(self) -> CatalogueCopy | None:
        """The catalogue that is in place; None: it is lost, that is missing, empty or damaged.

        Raises CatalogueTrouble: it is foreign, of a newer program, or may not be read.
        """

    def look_at(self, descriptor: int, path: bytes) -> CatalogueCopy:
        """What an open copy says of itself, and what it would bring; ``path`` is what to call it.

        Raises CatalogueTrouble: it is damaged as far as a glance can tell, foreign, or of a newer program.
        """

    def take(self, descriptor: int, copy: CatalogueCopy) -> bytes:
        """Put an open copy, as it was looked at, in the catalogue's place, durably; where what was there is kept.

        Nothing of it gets there but what could be checked. Empty: nothing was there.

        All disks are known by hearsay then (their ``catalogue_generation`` is -1), until they are looked through. Raises
        DamagedCopy, and other CatalogueTrouble if the place cannot be written; nothing was changed then.
        """

    def put_aside(self) -> bytes:
        """Give the catalogue's file, if there is one, another name beside it: which (empty: there is none)."""
