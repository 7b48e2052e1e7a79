"""What a restore needs to write a tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Protocol

from distbackupd.engine.ports.working import Pulse
from distbackupd.model.errors import DistbackupError
from distbackupd.model.files import RestoreEntry


class Placement(Enum):
    """What became of an entry at the destination."""

    RESTORED = "restored"
    LEFT_ALONE = "left alone"
    """It was there already, with the right kind, size and time (or target); its metadata is repaired.

    Where that could be somebody's gain who put it there, a copy of our own took its place.
    """
    IN_THE_WAY = "in the way"
    """Something else stands there, and was not to be overwritten (a folder never is)."""
    NOT_KEPT = "not kept"
    """The destination cannot hold such an entry: a device node without privilege, a link on FAT."""
    NAME_TAKEN = "name taken"
    """The destination takes its name for that of another entry, which stands there: ``a`` and ``A`` on exFAT."""


class TargetTrouble(DistbackupError):
    """The destination takes nothing any more: full, read-only, gone. What was restored stays."""

    exit_code = 4


class EntryRefused(DistbackupError):
    """One entry cannot be written at the destination, or must not: its path leads outside. The restore goes on."""

    exit_code = 3


class NameTaken(EntryRefused):
    """What the destination finds under an entry's name it lists under another one, ``stored`` (None: not found out)."""

    def __init__(self, stored: bytes | None) -> None:
        super().__init__("the destination takes its name for another one")
        self.stored = stored


class BadContent(DistbackupError):
    """An object is missing, unreadable, or does not hash to its name. Nothing of it was restored."""

    exit_code = 7


class RestoreTarget(Protocol):
    """A folder below which a tree is restored. Nothing outside of it is ever touched, whatever the entries say.

    Others may write there meanwhile, and before. They gain nothing by it: owners, privileges and more readers are given to
    nothing but what a restore wrote itself, and at no moment may anybody read more than in the end.

    Every method takes entries with virtual, absolute paths, and raises EntryRefused or TargetTrouble. Where something
    stands that its folder lists under another name, nothing is done, and NameTaken is raised. Folders on the way are made
    where they are missing. ``place``, ``link``, ``link_content`` and ``foresee`` are thread-safe.

    What a power cut took back from an earlier restore, though it stands there under its final name, is found by reading
    what that one wrote last, and replaced.
    """

    def make_folder(self, entry: RestoreEntry) -> Placement:
        """Make the folder, or take it as it stands; its metadata comes with :meth:`finish`."""

    def place(
        self,
        entry: RestoreEntry,
        open_content: Callable[[], int] | None,
        pulse: Pulse,
        overwrite: bool,
        mend: bool = True,
    ) -> Placement:
        """Restore an entry of any other kind, whole or not at all.

        ``open_content`` gives a descriptor (closed here) of the content, None for what has none. ``mend``: what is right
        already gets its metadata again, and what turns out to be something else is replaced. ``overwrite``: what differs
        in content is replaced, and only that. Raises BadContent, Interrupted, and what ``open_content`` raises.
        """

    def link(self, entry: RestoreEntry, first: bytes, overwrite: bool) -> Placement:
        """Make the entry another name of what was restored at the virtual path ``first``; NOT_KEPT where that fails."""

    def link_content(self, entry: RestoreEntry, open_content: Callable[[], int], overwrite: bool) -> Placement:
        """Make the entry a name of the object's own file. Raises UsageError across file systems, BadContent."""

    def foresee(self, entry: RestoreEntry, overwrite: bool, pulse: Pulse | None = None) -> Placement:
        """What would become of the entry; RESTORED also if only the disk could tell more. Changes nothing.

        With ``overwrite`` what stands there is read; ``pulse`` stops that. Raises Interrupted.
        """

    def exists_below(self, folder: bytes, path: bytes) -> bool:
        """Whether anything stands at the virtual ``path`` below another real folder."""

    def is_empty(self) -> bool:
        """Whether nothing stands there yet, or not even the folder."""

    def settle(self) -> None:
        """To be called now and then: sees to it that what was restored so far survives a power cut."""

    def finish(self) -> Mapping[str, int]:
        """Give all folders their metadata, and make all durable. What could not be kept, and how often: ``{"owner": 12}``.

        More may be restored afterwards, and finished again.
        """
