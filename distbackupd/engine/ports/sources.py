"""What the use cases need of real folders and files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from distbackupd.engine.ports.rot import SourceReading
from distbackupd.engine.ports.working import Pulse
from distbackupd.model.files import Entry, HashedContent, InodeFlag, TakenContent, WaitingFile
from distbackupd.model.problems import FoundProblem
from distbackupd.model.sources import RealPath


class FolderState(NamedTuple):
    """A real folder before it is listed. ``device`` tells whether something else is mounted there than before."""

    device: int
    empty: bool


class FolderPart(NamedTuple):
    """Some entries of a folder by name, and what is the matter with some names.

    ``until``: the last name that was looked at; None: no more parts come. ``skipped``: the folder holds a
    ``.distbackup.skip`` that counts, so it is to be left out; nothing else is told of it then.
    """

    entries: list[Entry]
    problems: list[FoundProblem]
    until: bytes | None
    skipped: bool = False


class OpenedFile(NamedTuple):
    """An open file, with its size and mtime as they were then."""

    descriptor: int
    size: int
    mtime_ns: int


class SourceTree(Protocol):
    """The real folders and files behind the virtual tree.

    Whoever may write in them is not trusted: see :class:`~distbackupd.model.sources.RealPath` for what links are followed.
    What is listed or read is what stands open, not what has its name at another moment.

    Nothing that an entry is, or that its file system says of it, makes any other error than SourceTrouble. Every number of
    an entry fits into 64 bits with a sign; what stands there counts as told if it is equal after it was made to fit.
    """

    def inspect(self, place: RealPath) -> FolderState:
        """What stands there; raises SourceTrouble if it is no folder or cannot be reached."""

    def names(self, place: RealPath) -> Collection[bytes]:
        """All names in the folder; raises SourceTrouble."""

    def folders_kept_open(self) -> AbstractContextManager[None]:
        """Some dozen folders stay open for what this thread does next while the context lasts; else none does."""

    def list_folder(
        self,
        place: RealPath,
        wanted: Callable[[bytes], int | None],
        follow: bool,
        seen: tuple[int, int] | None = None,
    ) -> Iterator[FolderPart]:
        """The folder's entries by name, some thousands at a time, and what is the matter with some. At least one part.

        ``wanted`` gives the priority of a name, or None to leave it out. Side files (``.meta-inf``) are applied to
        their files if they are regular files of the same owner or of root, and are files like others; ``maxcopies`` of
        an entry is 0 where its side file is silent, -1 where it says "inf". ``follow``: symbolic links are taken for
        what they point to. ``seen``: device and inode (0: whichever) that it must have. Names that could not be read, or
        that no backup keeps, or that are this program's own (a backup disk's layout, the catalogue), are in none of the
        entries. Raises SourceTrouble, before the first part, if the folder cannot be listed or is another one.
        """

    def describe_folder(self, place: RealPath, problems: list[FoundProblem] | None = None) -> Entry:
        """The folder itself as an entry with an empty name; what can only be kept nearly is added to ``problems``.

        Raises SourceTrouble.
        """

    def remarks(self) -> list[str]:
        """Sentences on what was not heeded since the last call, each of them once in a process."""

    def identify(self, place: RealPath) -> tuple[int, int] | None:
        """Device and inode of what stands there now; None: nothing does. Raises SourceTrouble."""

    def open_file(self, place: RealPath, size: int, mtime_ns: int, inode: int) -> int:
        """A descriptor to read the file from its start; raises SourceChanged if it is not as told, SourceTrouble.

        ``inode`` 0: it does not matter.
        """

    def close_file(self, descriptor: int) -> None:
        """Close what :meth:`open_file` opened."""

    def confirm_unchanged(self, descriptor: int, size: int, mtime_ns: int) -> None:
        """Raises SourceChanged if the open file is not any more as told."""

    def hash_file(self, place: RealPath, waiting: WaitingFile, pulse: Pulse) -> HashedContent:
        """The content of the file, which did not change while it was read. Thread-safe.

        Raises SourceChanged, SourceTrouble, Interrupted.
        """

    def holes(self, place: RealPath) -> int:
        """Bytes of the file there for which nothing is allocated; 0 where that cannot be found out."""

    def inode_flags(self, place: RealPath, device: int) -> InodeFlag:
        """What ``chattr`` set of a regular file or folder; nothing where that cannot be found out."""

    def take_inode_flags(self) -> dict[int, InodeFlag]:
        """The same of files that were hashed since it was asked last, by ticket; only of those that have any."""

    def open_as_it_is(self, place: RealPath, owner: int | None = None) -> OpenedFile:
        """Open whichever regular file, not empty, stands there. For files that never rest. Raises SourceTrouble.

        ``owner``: SourceChanged if it belongs to somebody else.
        """

    def take_file(self, place: RealPath, waiting: WaitingFile, pulse: Pulse) -> TakenContent:
        """What can be read of the file now, however it changes meanwhile: at the most what it has when it is opened.

        Thread-safe. Raises SourceTrouble, Interrupted.
        """

    def reading(self, place: RealPath, size: int, mtime_ns: int, inode: int, past_cache: bool = True) -> SourceReading:
        """Begin to read the file, if it is as told; nothing is opened yet. Thread-safe.

        ``past_cache``: what the medium holds, not what memory does.
        """
