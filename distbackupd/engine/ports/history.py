"""What the use cases read of the tree as it was known at any moment."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from distbackupd.model.files import ListedFile, RestoreEntry
from distbackupd.model.history import Change, Version


class HistoryTable(Protocol):
    """Versions of the whole tree. Moments are unix seconds, ``at`` None: now. What is iterated is never held as a whole.

    A version belongs to the moment at which it was first seen, and not to the one at which it was found gone or changed.
    """

    def entries(
        self, prefix: bytes, at: int | None = None, held: Collection[int] | None = None, bare: bool = True
    ) -> Iterator[RestoreEntry]:
        """Every entry below (and at) the virtual path, folders before what they hold.

        ``held``: of files with content only those whose holder set has one of these numbers (``ObjectTable.holder_sets``).
        Not ``bare``: then, of what has no content, only folders.
        """

    def listing(self, prefix: bytes, at: int | None = None) -> Iterator[ListedFile]:
        """The same entries with less of each, by folder and name."""

    def shares(self, prefix: bytes, at: int | None = None) -> dict[frozenset[int], tuple[int, int]]:
        """How many files with content there are, and their bytes, by who holds it; names of one file count once."""

    def names_of(self, entry: RestoreEntry, at: int | None = None) -> list[bytes]:
        """All paths that are names of the same regular file with content, the entry's own among them."""

    def versions(self, prefix: bytes) -> Iterator[Version]:
        """All that the virtual path, and what is below, ever was: by folder and name, the oldest first."""

    def changes(self, before: int, after: int, prefix: bytes = b"/") -> Iterator[Change]:
        """What differs between two moments, by folder and name; what is as it was is left out."""

    def began_at(self) -> int | None:
        """Since when anything is known; None: nothing is."""
