"""What the use cases look for without knowing where it lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol


class PlacedName(NamedTuple):
    """A current entry and the virtual folder that it lies in. ``kind`` is an :class:`EntryKind`, as a plain number."""

    folder: bytes
    name: bytes
    kind: int
    size: int


class FindingTable(Protocol):
    """Names anywhere in the virtual tree. What is iterated is never held as a whole."""

    def names_below(self, path: bytes) -> Iterator[PlacedName]:
        """Every current entry in and below the virtual folder, a folder before those in it."""

    def nearest(self, name: bytes, ever: bool, limit: int) -> Sequence[bytes]:
        """Virtual paths of entries that are called so, at the most ``limit``.

        Where none is: that are called so but for small and capital letters; else those whose name has it in it; else those
        that differ by one letter. ``ever``: also of what is gone. An answer takes some seconds at ten million files.
        """

    def any_called(self, pattern: bytes, ever: bool) -> bool:
        """Whether the name of an entry matches the shell pattern. ``ever``: also of what is gone."""
