"""What could not be backed up as it is: files that could not be read, what is kept only nearly, what no backup keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from distbackupd.model.files import ProblemKind
from distbackupd.model.text import join_words, say_count, say_size


class FoundProblem(NamedTuple):
    """What is the matter with one entry of a folder; ``name`` is empty for the folder itself.

    ``kind`` None: a remark on what stays unlisted, a side file that says nothing usable. ``size``: bytes, as far as known.
    """

    name: bytes
    reason: str
    kind: ProblemKind | None = ProblemKind.UNREAD
    size: int = 0


class FailedReading(NamedTuple):
    """A waiting file that could not be read. ``changing``: because it was written meanwhile."""

    ticket: int
    reason: str
    changing: bool


class Problem(NamedTuple):
    """A known problem. ``path``: of the entry, or of a ``folder`` that cannot be looked into.

    ``since``: unix seconds; ``tries``: so many scans met it. ``kept``: a version of the file from before is known.
    """

    path: bytes
    kind: ProblemKind
    size: int
    since: int
    tries: int
    reason: str
    folder: bool
    kept: bool


@dataclass(frozen=True, slots=True)
class Unread:
    """How much has no copy of its present content because it could not be read; ``folders`` could not be looked into."""

    files: int = 0
    size: int = 0
    folders: int = 0

    @property
    def sentence(self) -> str:
        """What is told to people; empty: there is nothing to tell."""
        parts = []
        if self.files:
            have = "has" if self.files == 1 else "have"
            of = "its" if self.files == 1 else "their"
            was = "it" if self.files == 1 else "they"
            parts.append(
                f"{say_count(self.files, 'file')}, {say_size(self.size)}, {have} no copy of {of} present content because "
                f"{was} could not be read"
            )
        if self.folders:
            parts.append(f"{say_count(self.folders, 'folder')} could not be looked into")
        return f"{join_words(parts)}; 'dsb ls --problems' names them" if parts else ""


NOTHING_UNREAD = Unread()
"""All was read."""


@dataclass(frozen=True, slots=True)
class FailedScan:
    """No scan has come to its end since one failed, at ``since`` (unix seconds), for a ``reason``; empty: not for you."""

    since: int
    reason: str

    @property
    def sentence(self) -> str:
        """What is told to people who may read everything."""
        why = f": {self.reason}" if self.reason else ""
        return f"the last scan failed{why}; what changed since the last good one has no copy yet"

    @property
    def public_sentence(self) -> str:
        """What is told to everybody: the reason may name files."""
        return FailedScan(self.since, "").sentence
