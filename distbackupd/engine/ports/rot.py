"""What the use cases need to find and heal source files whose content rotted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from distbackupd.engine.ports.working import Pulse, Stop
from distbackupd.model.files import Entry
from distbackupd.model.rot import KnownContent, Reading, RottenFile
from distbackupd.model.sources import RealPath


class SourceReading(Protocol):
    """One source file being read past the page cache, in as many goes as it takes."""

    def go_on(self, stop: Stop) -> Reading | None:
        """Read until the end, or until ``stop`` is set: None then, and the next call goes on there.

        Raises SourceChanged if the file is not any more as it was known, SourceTrouble.
        """


class RotTable(Protocol):
    """Which files were found rotten, and in which order files are read again. What changes is durable at once."""

    def to_read(self, after: int, limit: int) -> list[KnownContent]:
        """Living files whose content is confirmed by row, from behind ``after``; of the names of one inode the first."""

    def total(self) -> int:
        """Bytes of all living files."""

    def record(self, path: bytes, object_id: int, reading: Reading, now: int) -> RottenFile | None:
        """The living file, and all names of its inode, hold this instead of the object; None: that is no news.

        Until it is resolved the file is no source of copies. Nothing is recorded if it is known otherwise by now.
        """

    def all(self) -> list[RottenFile]:
        """What is not resolved, by folder and name. A file that changed or went since is none."""

    def resolve(self, files: Sequence[int]) -> None:
        """These rows hold what they should."""

    def moved(self, files: Sequence[int], entry: Entry) -> None:
        """These rows are resolved, and names of another inode now, that of ``entry``."""

    def accept(self, files: Sequence[int], digest: bytes, now: int) -> None:
        """These rows, names of one file, end; the same files with this content take their place."""


class Rescue(Protocol):
    """Good contents of rotten files, kept beside the catalogue until they are put back."""

    def has(self, digest: bytes) -> bool:
        """Whether it is kept."""

    def open(self, digest: bytes) -> int:
        """A descriptor to read it from; raises FileNotFoundError."""

    def keep(self, digest: bytes, size: int, open_content: Callable[[], int], pulse: Pulse) -> bool:
        """Keep a copy; False: there is no room for it. Raises BadContent, Interrupted, CatalogueTrouble."""

    def keep_only(self, digests: Sequence[bytes]) -> None:
        """Remove all others."""


class Mended(NamedTuple):
    """A file that has its good content again, as it stands now; ``kept``: the real path of what it replaced."""

    entry: Entry
    kept: bytes


class MendSource(Protocol):
    """Gives source files their good content back."""

    def __call__(
        self, paths: Sequence[RealPath], rotten: RottenFile, open_content: Callable[[], int], pulse: Pulse
    ) -> Mended:
        """Put the content in the place of the rotten one under all these real ``paths``, names of one file.

        Everything else of the file stays as it is, or nothing is changed at all. The rotten one is kept beside it.
        Raises SourceChanged when a file is not exactly as it was found; SourceTrouble, BadContent, Interrupted.
        """
