"""What the use cases need from outside, as protocols. ``wiring`` brings the real ones, tests bring fakes.

One contract suite (``tests/contract``) runs on each port's fake and on the real thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import NamedTuple, Protocol

from distbackupd.model.disks import BackupDisk, DiskIdentity, Mount, Space, Volume
from distbackupd.model.errors import DistbackupError
from distbackupd.model.events import Event
from distbackupd.model.files import (
    Entry,
    HashedFile,
    KnownEntry,
    ListedFile,
    RestoreEntry,
    SourceFile,
    WaitingFile,
)
from distbackupd.model.plans import ObjectFacts
from distbackupd.model.sources import FolderSettings, Source


class Stop(Protocol):
    """Somebody may ask to stop at any moment; long work looks here at file and chunk boundaries."""

    def is_set(self) -> bool:
        """Whether to stop as soon as nothing is left half-done."""


class Pulse(Stop, Protocol):
    """What long work in a worker thread looks at and tells: whether to stop, and how far it is. Thread-safe."""

    def beat(self, done_bytes: int) -> None:
        """So many bytes more are read or written."""


class Reporter(Protocol):
    """Where use cases tell what happens. Calls come from the engine's thread only."""

    def tell(self, event: Event) -> None:
        """Something happened that a person or the journal should know."""

    def begin(self, activity: str, items: int = 0, total_bytes: int = 0) -> None:
        """A longer activity (``hashing``, ``copying``) starts; totals are 0 where nobody knows them."""

    def advance(self, items: int, done_bytes: int, current: bytes = b"") -> None:
        """So much more of the activity is done; ``current`` is what is at work. Cheap: called often."""

    def end(self) -> None:
        """The activity is over."""


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> int:
        """Unix time in whole seconds."""

    def monotonic(self) -> float:
        """Seconds that never jump."""


# --- sources ---------------------------------------------------------------------------------------------------------


class FolderState(NamedTuple):
    """A real folder before it is listed. ``device`` tells whether something else is mounted there than before."""

    device: int
    empty: bool


class SourceTree(Protocol):
    """The real folders and files behind the virtual tree. Paths are real, absolute, bytes."""

    def inspect(self, path: bytes) -> FolderState:
        """What stands at ``path``; raises SourceTrouble if it is no folder or cannot be reached."""

    def list_folder(
        self, path: bytes, wanted: Callable[[bytes], int | None], follow: bool
    ) -> tuple[list[Entry], list[tuple[bytes, str]]]:
        """The folder's entries by name, and the names that could not be read with the reason.

        ``wanted`` gives the priority of a name, or None to leave it out. Side files (``.meta-inf``) are applied to
        their files and left out; ``maxcopies`` of an entry is 0 where its side file is silent, -1 where it says "inf".
        ``follow``: symbolic links are taken for what they point to. Names that could not be read are in none of the
        entries. Raises SourceTrouble if the folder cannot be listed.
        """

    def describe_folder(self, path: bytes) -> Entry:
        """The folder itself as an entry with an empty name; raises SourceTrouble."""

    def is_marked_skipped(self, path: bytes) -> bool:
        """Whether the folder holds a ``.distbackup.skip`` file."""

    def open_file(self, path: bytes, size: int, mtime_ns: int, inode: int) -> int:
        """A descriptor to read the file from its start; raises SourceChanged if it is not as told, SourceTrouble."""

    def close_file(self, descriptor: int) -> None:
        """Close what :meth:`open_file` opened."""

    def confirm_unchanged(self, descriptor: int, size: int, mtime_ns: int) -> None:
        """Raises SourceChanged if the open file is not any more as told."""

    def hash_file(self, path: bytes, waiting: WaitingFile, pulse: Pulse) -> bytes:
        """The SHA-256 of the file, which did not change while it was read. Thread-safe.

        Raises SourceChanged, SourceTrouble, Interrupted.
        """


# --- the store on a backup disk --------------------------------------------------------------------------------------


class StagedCopy(NamedTuple):
    """Content that lies complete and hashed on the disk, under a temporary name and not yet durable.

    ``placed``: under its final name already; an interrupted session made it durable and did not come to record it.
    """

    digest: bytes
    size: int
    placed: bool = False


class CopyVerdict(NamedTuple):
    """What a re-reading found. ``problem`` is empty when the copy is good."""

    digest: bytes
    size: int
    problem: str


class DiskStore(Protocol):
    """The layout on one mounted backup disk. Every method raises DiskTrouble when the disk fails.

    Durability: after :meth:`commit` returned, the bytes and the folder entries of its copies survive a power cut.
    ``stage`` and ``check`` may be called from several threads at once.
    """

    def identity(self) -> DiskIdentity | None:
        """What the disk says it is; None where it says nothing. Raises DiskNotOurs when what it says is unreadable."""

    def write_identity(self, identity: DiskIdentity) -> None:
        """Durably make this a backup disk, or rename it; creates what the layout needs."""

    def prepare(self) -> None:
        """Check that the disk can be written, and make the layout's folders. Raises DiskReadOnly."""

    def space(self) -> Space:
        """Room as the file system tells it now."""

    def leftovers(self, sizes: Callable[[Sequence[bytes]], Mapping[bytes, int]], pulse: Pulse) -> list[StagedCopy]:
        """Complete copies that an interrupted session left under temporary names; all other leftovers are removed.

        ``sizes`` tells the expected sizes of digests that are wanted; only content that hashes to its name is kept.
        """

    def stage(self, descriptor: int, digest: bytes, size: int, pulse: Pulse) -> StagedCopy:
        """Copy from ``descriptor`` to a temporary file, hashing on the way.

        Raises SourceChanged when the content does not hash to ``digest``, SourceTrouble when it cannot be read; nothing
        is left behind then. Raises Interrupted.
        """

    def commit(self, staged: Sequence[StagedCopy]) -> None:
        """Make staged copies durable under their final names."""

    def discard(self, staged: Sequence[StagedCopy]) -> None:
        """Remove staged copies; never fails."""

    def remove(self, digests: Iterable[bytes]) -> None:
        """Remove objects; one that is not there is no error."""

    def size_of(self, digest: bytes) -> int | None:
        """Size of the object file, None where there is none."""

    def open_object(self, digest: bytes) -> int:
        """A descriptor to read an object from; raises FileNotFoundError, DiskTrouble."""

    def check(self, digest: bytes, size: int, pulse: Pulse) -> CopyVerdict:
        """Read an object again, past the page cache where that can be, and compare."""

    def set_aside(self, digest: bytes) -> None:
        """Move a bad object out of the way, into ``bad-objects``; one that is not there is no error."""

    def objects(self) -> Iterator[tuple[bytes, int]]:
        """Digest and size of every object file, by digest."""

    def save_catalogue(self, write_copy: Callable[[bytes], None]) -> None:
        """Durably replace the disk's copy of the catalogue, its README and its restore script.

        ``write_copy`` writes a complete copy to the path it is given. A foreign ``distbackup.sqlite`` is kept aside.
        """

    def flush(self) -> None:
        """Everything written before survives a power cut when this returns."""


# --- mounting --------------------------------------------------------------------------------------------------------


class Mounter(Protocol):
    """Mounts disks, or uses them where they are mounted."""

    def mounted(self, volume: Volume, name: str, read_only: bool = False) -> AbstractContextManager[Mount]:
        """The volume, mounted while the context lasts; on exit what was mounted here is flushed and unmounted.

        ``read_only``: nothing will be written; else a disk that can only be read raises DiskReadOnly. Raises
        DiskTrouble in a sentence if it cannot be mounted; on exit, if it is busy, names who holds it.
        """

    def mounts(self) -> list[Mount]:
        """What is mounted now and could hold a backup disk: block devices and FUSE on them, no network."""

    def mount_of(self, path: bytes) -> Mount:
        """The mounted file system that ``path`` lies on."""

    def attached(self, filesystem_uuid: str) -> list[Volume]:
        """Every plugged-in volume with this file system UUID: more than one are clones."""


# --- the catalogue ---------------------------------------------------------------------------------------------------


class SourceTable(Protocol):
    """Sources and folder settings."""

    def all(self) -> list[Source]:
        """Every source, by virtual path."""

    def map(self, source: Source) -> None:
        """Map, or map anew, a virtual path. Durable when it returns."""

    def unmap(self, virtual_path: bytes) -> bool:
        """Whether there was such a source; its files stay known until the next scan. Durable when it returns."""

    def settings(self) -> dict[bytes, FolderSettings]:
        """What is set, by virtual path."""

    def set_settings(self, virtual_path: bytes, settings: FolderSettings) -> None:
        """Set, or with default settings clear, what holds for a virtual folder. Durable when it returns."""


class FolderChanges(NamedTuple):
    """What a scan found of one virtual folder, ready to be recorded.

    ``added``: entries without content of their own, or whose content is known (second part: object id or None).
    ``changed``: the same for entries that replace a current version (first part: its row). ``touched``: same version,
    other device, priority or maxcopies. ``gone``: rows that are no more. ``waiting``: regular files to be hashed, with
    the row they replace or None.
    """

    added: list[tuple[Entry, int | None]]
    changed: list[tuple[int, Entry, int | None]]
    touched: list[tuple[int, Entry]]
    gone: list[int]
    waiting: list[tuple[Entry, int | None]]


class FileTable(Protocol):
    """Versions of files."""

    def folder(self, path: bytes) -> list[KnownEntry]:
        """Current entries of the virtual folder, by name. A source's own folder is in itself, with an empty name."""

    def attributes_id(self, entry: Entry) -> int:
        """The id under which the entry's attributes are interned."""

    def find_renamed(self, entry: Entry) -> int | None:
        """The object of a file with the same device, inode, size and mtime, None where there is none."""

    def ensure_object(self, digest: bytes, size: int) -> int:
        """The id of the object, made if it is new."""

    def record_folder(self, path: bytes, changes: FolderChanges, now: int) -> None:
        """Record one folder's changes; not yet committed. What they refer to lives from now on."""

    def forget_below(self, path: bytes, keep: Sequence[bytes], now: int) -> int:
        """Mark all in and below the virtual folder as gone, but for the subtrees in ``keep``; how many it was."""

    def has_entries_below(self, path: bytes) -> bool:
        """Whether any current entry but the folder itself is known in or below the virtual folder."""

    def start_scan(self) -> None:
        """Empty the queue of files that wait to be hashed."""

    def waiting_total(self) -> tuple[int, int]:
        """How many files wait, and their bytes; names of one inode count once."""

    def waiting(self) -> Iterator[WaitingFile]:
        """Files to hash, by device and inode; of the names of one inode the first. Survives :meth:`record_hashes`."""

    def record_hashes(self, hashed: Sequence[HashedFile], now: int) -> None:
        """Turn waiting files (and their other names) into current versions, durably."""

    def finish_scan(self, now: int, whole: bool) -> None:
        """Recount which objects live, with which priority and maxcopies, and since when the others are orphans.

        Only a scan that saw the ``whole`` makes orphans: until then what lost a name may have got another one.
        """

    def commit(self) -> None:
        """Make what was recorded durable."""

    def rollback(self) -> None:
        """Forget what was recorded since the last commit."""

    def count(self) -> tuple[int, int]:
        """Current entries, and bytes of current regular files."""

    def sources_of(self, objects: Sequence[int]) -> list[SourceFile]:
        """Living files whose content is one of the objects, ordered by path."""

    def restore_entries(self, prefix: bytes, at: int | None = None) -> Iterator[RestoreEntry]:
        """Every entry below (and at) the virtual path, folders before what they hold."""

    def listing(self, prefix: bytes) -> Iterator[ListedFile]:
        """Current entries below (and at) the virtual path, by folder and name."""

    def path_of_object(self, object_id: int) -> bytes:
        """One virtual path that has or had this content; empty where none is known."""


class ObjectTable(Protocol):
    """Objects and who holds them."""

    def holder_sets(self) -> dict[int, frozenset[int]]:
        """Interned sets of disks by id."""

    def facts(self) -> Iterator[ObjectFacts]:
        """Every object, as the planner sees it."""

    def digests(self, objects: Sequence[int]) -> dict[int, tuple[bytes, int]]:
        """Digest and size by id."""

    def holders(self, objects: Sequence[int]) -> dict[int, frozenset[int]]:
        """Disks that hold each of the objects."""

    def held_by(self, disk: int, after: bytes = b"", limit: int = 0) -> list[tuple[int, bytes, int]]:
        """Id, digest and size of what the disk holds, by digest, behind ``after``; ``limit`` 0: all."""

    def record_copies(self, disk: int, objects: Sequence[int]) -> None:
        """The disk holds these now. Durable when it returns."""

    def record_removals(self, disk: int, objects: Sequence[int]) -> None:
        """The disk does not hold these any more, and their files are still to be removed. Durable when it returns."""

    def pending_removals(self, disk: int) -> list[bytes]:
        """Digests whose files a crash may have left on the disk after :meth:`record_removals`."""

    def removals_done(self, disk: int) -> None:
        """All pending removals are carried out."""

    def replace_holdings(self, disk: int, found: Iterable[tuple[bytes, int]], now: int) -> tuple[int, int]:
        """The disk holds exactly these (digest, size); what is new is an orphan. How many were gained and lost."""

    def known_sizes(self, digests: Sequence[bytes]) -> Mapping[bytes, int]:
        """Sizes of those digests that are living objects."""

    def strike(self, disk: int, object_id: int) -> None:
        """The disk's copy of the object is bad or missing; no file is to be removed. Durable when it returns."""

    def identifiers(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Ids of those digests that the catalogue knows."""

    def by_holders(self) -> list[tuple[int, int, int, int]]:
        """(holder set id, living objects, their bytes, bytes of those that are at their maxcopies)."""


class DiskTable(Protocol):
    """Enrolled disks."""

    def all(self) -> list[BackupDisk]:
        """Every enrolled disk, by name."""

    def find(self, name_or_uuid: str) -> BackupDisk | None:
        """The disk of this name, or of this UUID in any usual spelling."""

    def add(self, disk: BackupDisk) -> BackupDisk:
        """Enrol (``disk.id`` is ignored); raises UsageError if the name or UUID is taken."""

    def update(self, disk: BackupDisk) -> None:
        """Store all fields of a known disk; raises UsageError if the name is taken."""

    def delete(self, disk: BackupDisk) -> None:
        """Forget a disk that holds nothing; raises UsageError if it holds something."""

    def drop(self, disk: int) -> int:
        """The disk holds nothing any more (it failed); how many objects it held."""

    def used(self, disk: int) -> tuple[int, int]:
        """How many objects the disk holds, and their footprint in bytes."""

    def verified_at(self, disk: int) -> dict[int, int]:
        """When each folder (0 to 4095) was last verified whole, unix seconds."""

    def record_verified(self, disk: int, folders: Sequence[int], now: int) -> None:
        """These folders were verified whole."""


class SessionSummary(NamedTuple):
    """One line of the sessions' history."""

    disk_name: str
    started: int
    ended: int | None
    outcome: str
    copied_objects: int
    copied_bytes: int
    deleted_objects: int
    deleted_bytes: int
    sentence: str


class SessionTable(Protocol):
    """History of sessions and scans."""

    def start(self, disk: BackupDisk, now: int) -> int:
        """A session starts; its id."""

    def finish(self, session: int, summary: SessionSummary) -> None:
        """It ended; durable."""

    def recent(self, limit: int) -> list[SessionSummary]:
        """The newest sessions first."""

    def remember(self, key: str, value: str) -> None:
        """Keep a small fact (when the last scan ended)."""

    def recall(self, key: str) -> str | None:
        """A kept fact."""


class Catalogue(Protocol):
    """The whole memory of the program."""

    @property
    def sources(self) -> SourceTable:
        """Sources and folder settings."""

    @property
    def files(self) -> FileTable:
        """Versions of files."""

    @property
    def objects(self) -> ObjectTable:
        """Objects and holders."""

    @property
    def disks(self) -> DiskTable:
        """Enrolled disks."""

    @property
    def sessions(self) -> SessionTable:
        """History."""

    def generation(self) -> int:
        """A number that grows with every recorded change of files, objects or disks."""

    def write_copy(self, path: bytes) -> None:
        """A consistent copy that opens on a read-only place, with none of our software but SQLite."""


# --- where a restore writes ------------------------------------------------------------------------------------------


class Placement(Enum):
    """What became of an entry at the destination."""

    RESTORED = "restored"
    LEFT_ALONE = "left alone"
    """It was there already, with the right kind, size and time (or target); its metadata is repaired."""
    IN_THE_WAY = "in the way"
    """Something else stands there, and was not to be overwritten (a folder never is)."""
    NOT_KEPT = "not kept"
    """The destination cannot hold such an entry: a device node without privilege, a link on FAT."""


class TargetTrouble(DistbackupError):
    """The destination takes nothing any more: full, read-only, gone. What was restored stays."""

    exit_code = 4


class EntryRefused(DistbackupError):
    """One entry cannot be written at the destination, or must not: its path leads outside. The restore goes on."""

    exit_code = 3


class BadContent(DistbackupError):
    """An object is missing, unreadable, or does not hash to its name. Nothing of it was restored."""

    exit_code = 7


class RestoreTarget(Protocol):
    """A folder below which a tree is restored. Nothing outside of it is ever touched, whatever the entries say.

    Every method takes entries with virtual, absolute paths, and raises EntryRefused or TargetTrouble. Folders on the
    way are made where they are missing. All but ``make_folder`` and ``finish`` are thread-safe.
    """

    def make_folder(self, entry: RestoreEntry) -> Placement:
        """Make the folder, or take it as it stands; its metadata comes with :meth:`finish`."""

    def place(self, entry: RestoreEntry, open_content: Callable[[], int] | None, pulse: Pulse, overwrite: bool) -> Placement:
        """Restore an entry of any other kind, whole or not at all.

        ``open_content`` gives a descriptor (closed here) of the content, None for what has none. Raises BadContent,
        Interrupted, and what ``open_content`` raises.
        """

    def link(self, entry: RestoreEntry, first: bytes, overwrite: bool) -> Placement:
        """Make the entry another name of what was restored at the virtual path ``first``; NOT_KEPT where that fails."""

    def link_content(self, entry: RestoreEntry, open_content: Callable[[], int], overwrite: bool) -> Placement:
        """Make the entry a name of the object's own file. Raises UsageError across file systems, BadContent."""

    def foresee(self, entry: RestoreEntry, overwrite: bool) -> Placement:
        """What would become of the entry; RESTORED also if only the disk could tell more. Changes nothing."""

    def exists_below(self, folder: bytes, path: bytes) -> bool:
        """Whether anything stands at the virtual ``path`` below another real folder."""

    def finish(self) -> Mapping[str, int]:
        """Give all folders their metadata. What could not be kept, and how often: ``{"owner": 12}``."""
