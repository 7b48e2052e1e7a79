"""What the use cases need of a mounted backup disk."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from distbackupd.engine.ports.working import Pulse
from distbackupd.model.disks import DiskIdentity, Footing, Space


class StagedCopy(NamedTuple):
    """Content that lies complete and hashed on the disk, under a temporary name and not yet durable."""

    digest: bytes
    size: int


class FolderDifference(NamedTuple):
    """How one folder of the layout differs from what it should hold: digests that lack their files, and ``strays``, of
    files that nobody expected. Names only; what the files hold is not known.
    """

    missing: list[bytes]
    strays: list[bytes]


class CopyVerdict(NamedTuple):
    """What a re-reading found. ``problem`` is empty when the copy is good."""

    digest: bytes
    size: int
    problem: str


class DiskStore(Protocol):
    """The layout on one mounted backup disk, held open until :meth:`close`. Methods raise DiskTrouble when the disk fails.

    Everything is reached beneath its root, which is opened once: no link is followed there, and no other mount entered.

    One file or folder that fails, or that is something else (a FIFO, a link, a folder in an object's place), is no trouble
    of the disk: it counts as missing or bad, all others are reached as before. Nothing is followed, nothing hangs.

    Durability: after :meth:`commit` returned, the bytes and the folder entries of its copies survive a power cut.
    ``stage`` and ``check`` may be called from several threads at once.
    """

    def close(self) -> None:
        """Let go of the disk, so that it can be unmounted; may be called again. What is used afterwards is opened anew."""

    def footing(self) -> Footing | None:
        """Its top folder, as it is held open; None: there is no folder."""

    def identity(self) -> DiskIdentity | None:
        """What the disk says it is; None where it says nothing. Raises DiskNotOurs when what it says is unreadable."""

    def write_identity(self, identity: DiskIdentity) -> None:
        """Durably make this a backup disk, or rename it; creates what the layout needs."""

    def token(self) -> str:
        """What the last session left on the disk; empty where there is none that can be read."""

    def leave_token(self, token: str) -> None:
        """Leave another token on the disk. Durable when it returns."""

    def prepare(self) -> None:
        """Check that the disk can be written, and make the layout's folders. Raises DiskReadOnly."""

    def space(self) -> Space:
        """Room as the file system tells it now."""

    def leftovers(self, sizes: Callable[[Sequence[bytes]], Mapping[bytes, int]], pulse: Pulse) -> list[StagedCopy]:
        """Complete copies that an interrupted session left under temporary names; all other leftovers are removed.

        ``sizes`` tells the expected sizes of digests that are wanted; only content that hashes to its name is kept, as the
        disk itself gives it back: what a session wrote that met an error may look good in memory.
        """

    def stage(self, descriptor: int, digest: bytes, size: int, pulse: Pulse) -> StagedCopy:
        """Copy from ``descriptor`` to a temporary file, hashing on the way.

        Raises SourceChanged when the content does not hash to ``digest``, SourceTrouble when it cannot be read; nothing
        is left behind then. Raises Interrupted.
        """

    def stage_as_it_is(self, descriptor: int, size: int, pulse: Pulse) -> StagedCopy:
        """Copy at the most ``size`` bytes from ``descriptor``, whatever they are; what they were is in the result.

        Raises SourceTrouble when it cannot be read or has nothing; nothing is left behind then. Raises Interrupted.
        """

    def commit(self, staged: Sequence[StagedCopy]) -> frozenset[bytes]:
        """Make staged copies durable under their final names.

        Gives the digests of those that are not there, for that part of the file system is damaged; nothing is left of them.
        Raises DiskFull; its ``unplaced`` are those that found no room, nothing is left of them, and the others are durable.
        """

    def discard(self, staged: Sequence[StagedCopy]) -> None:
        """Remove staged copies; never fails."""

    def remove(self, digests: Iterable[bytes]) -> None:
        """Remove objects; one that is not there is no error, and one that is damaged stays."""

    def size_of(self, digest: bytes) -> int | None:
        """Size of the object file, None where there is none, or nothing that could be one."""

    def open_object(self, digest: bytes) -> int:
        """A descriptor to read an object from; raises OSError where this one is missing or bad, DiskTrouble."""

    def must_answer(self, by_writing: bool = False) -> None:
        """Make sure that the disk itself still answers, and not the memory of what it held. Raises DiskTrouble.

        ``by_writing``: something is written, too, which is the better proof.
        """

    def settle(self, digests: Sequence[bytes]) -> None:
        """What lies under the names of these objects, whoever wrote it, survives a power cut from now on as :meth:`check`
        finds it then: that reads it from the disk itself.
        """

    def holds_unfinished(self) -> bool:
        """Whether something unfinished lies there: a session did not come to its end, or a power cut undid a part of it."""

    def forget_cached(self) -> None:
        """What was read or written before is read from the disk itself from now on, as far as this user can see to that.

        For drivers in user space, which keep blocks where :meth:`check` does not reach them. Never fails.
        """

    def check(self, digest: bytes, size: int, pulse: Pulse) -> CopyVerdict:
        """Read an object again, past the page cache, and compare. One that is not recorded is settled first.

        A disk that does not answer is DiskTrouble, and never a bad or missing copy.
        """

    def reading_order(self, digests: Iterable[bytes]) -> list[bytes]:
        """The digests in the order in which the disk reads them fastest; what is missing comes first."""

    def set_aside(self, digest: bytes) -> None:
        """Move a bad object out of the way, into ``bad-objects``; one that is not there, or cannot be moved, is no error."""

    def objects(self) -> Iterator[tuple[bytes, int]]:
        """Digest and size of every object file, by digest; what cannot be looked at is left out.

        A disk that does not answer may seem to lack some: :meth:`must_answer` tells.
        """

    def folder_times(self) -> dict[int, int]:
        """When each folder of the layout (0 to 4095) last got or lost a name, nanoseconds; missing ones are not in it."""

    def differences_in(self, folder: int, digests: Collection[bytes]) -> FolderDifference:
        """How one folder differs from holding exactly these objects. Names are listed, no file is looked at.

        A disk that does not answer may seem to lack them: :meth:`must_answer` tells.
        """

    def catalogue_copies(self, kept: bool = True) -> list[bytes]:
        """Names of the catalogue's copy and, if ``kept``, of the last that are kept beside it; there may be none."""

    def open_catalogue_copy(self, name: bytes) -> int:
        """A descriptor to read one of them from, a regular file; raises OSError where that one cannot be opened."""

    def save_catalogue(
        self,
        write_copy: Callable[[bytes], None],
        must_be_kept: Callable[[int], bool] = ...,
        spare: bytes = b"",
        assure: Callable[[], object] = ...,
    ) -> bytes:
        """Durably replace the disk's copy of the catalogue, its README and its restore script.

        ``write_copy`` writes a complete copy to the path it is given: ``spare``, which is not on the disk (empty: a
        temporary file); ``assure`` raises before anything is replaced if that copy is not sound. Where the disk has no room
        for it beside the old one, that one goes first. A ``distbackup.sqlite`` that is foreign, newer, much larger, or of
        which ``must_be_kept``, given a descriptor of it, says so is kept beside it: where (empty: there was none). Raises
        DiskFull, NoRoomForCopy if ``spare`` has none; the old one is still there then.
        """

    def flush(self) -> None:
        """Everything written before survives a power cut when this returns."""
