"""What the use cases remember of what could not be backed up as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from distbackupd.model.problems import FailedReading, FoundProblem, Problem, Unread


class ProblemTable(Protocol):
    """Entries that could not be read or are kept only nearly, by virtual folder. Paths are virtual."""

    def look(self, folder: bytes, found: Sequence[FoundProblem], waiting: Collection[bytes], now: int) -> None:
        """This is all that is the matter in the folder, itself included, but for what ``waiting`` files meet when they
        are read. Part of the scan's transaction.
        """

    def close_off(self, folder: bytes, reason: str, now: int) -> None:
        """The folder cannot be looked into; what is known of what it holds stays. Part of the scan's transaction."""

    def forget_below(self, path: bytes, keep: Sequence[bytes]) -> None:
        """Nothing is the matter in and below the folder, but for the subtrees in ``keep``. Part of the transaction."""

    def record_failures(self, failures: Sequence[FailedReading], now: int) -> None:
        """These waiting files could not be read in this scan. Durable when it returns."""

    def forget_read(self) -> None:
        """What ``record_hashes`` was given last could be read. Durable when it returns."""

    def record_uncopied(self, paths: Sequence[tuple[bytes, str]], now: int) -> None:
        """These living files were others, for a reason, when they were to be copied. Durable when it returns.

        After two such sessions ``FileTable.sources_of`` calls them restless.
        """

    def forget_copied(self, objects: Sequence[int]) -> None:
        """The files with these contents were copied as they are known. Durable when it returns."""

    def forget_gone(self) -> None:
        """Forget what sessions met with files that are no more. Part of the scan's transaction."""

    def restless(self, folder: bytes) -> set[bytes]:
        """Names of files in the folder that changed whenever they were read, in two scans or more."""

    def listing(self, prefix: bytes) -> Iterator[Problem]:
        """All that is known below (and at) the virtual path, by folder and name."""

    def unread(self) -> Unread:
        """How much could not be read."""
