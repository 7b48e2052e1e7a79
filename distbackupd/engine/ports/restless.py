"""What the use cases remember of files that never rest."""

from __future__ import annotations

from typing import Protocol

from distbackupd.model.files import TakenContent, TakenFile


class RestlessTable(Protocol):
    """Versions that were taken while they were written."""

    def amend_waiting(self, ticket: int, content: TakenContent) -> None:
        """A file that was taken as it is, and all names of its inode, wait as what was read of it."""

    def record_taken(self, taken: TakenFile, now: int) -> int:
        """The restless file, and all names of its inode, are as they were taken; the id of that object. Durable.

        What was planned is an orphan now if no disk holds it and no other file has that content.
        """
