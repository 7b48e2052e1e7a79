"""What the use cases remember."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple, Protocol

from distbackupd.engine.ports.accounts import AccountTable
from distbackupd.engine.ports.confirming import UnconfirmedTable
from distbackupd.engine.ports.finding import FindingTable
from distbackupd.engine.ports.history import HistoryTable
from distbackupd.engine.ports.moments import MomentTable
from distbackupd.engine.ports.problems import ProblemTable
from distbackupd.engine.ports.restless import RestlessTable
from distbackupd.engine.ports.rot import RotTable
from distbackupd.engine.ports.upheavals import UpheavalTable
from distbackupd.model.copies import CatalogueCopy
from distbackupd.model.disks import BackupDisk
from distbackupd.model.files import (
    Entry,
    HashedFile,
    KnownEntry,
    ListedFile,
    Namesake,
    RestoreEntry,
    SourceFile,
    WaitingFile,
)
from distbackupd.model.plans import ObjectFacts
from distbackupd.model.sources import FolderSettings, Source
from distbackupd.planning.listing import LeftFolder


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
    other device, time of change, priority or maxcopies. ``gone``: rows that are no more. ``waiting``: regular files to be
    hashed, with the row they replace or None. ``believed``: names of those added, changed or touched whose content was not
    read by us, or not since something was done to them. ``kept``: rows that stay as they are and must be read again.
    """

    added: list[tuple[Entry, int | None]]
    changed: list[tuple[int, Entry, int | None]]
    touched: list[tuple[int, Entry]]
    gone: list[int]
    waiting: list[tuple[Entry, int | None]]
    believed: Sequence[bytes] = ()
    kept: Sequence[int] = ()


class FileTable(Protocol):
    """Versions of files."""

    def folder(self, path: bytes, after: bytes | None = None, until: bytes | None = None) -> list[KnownEntry]:
        """Current entries of the virtual folder, by name. A source's own folder is in itself, with an empty name.

        Only those with names behind ``after``, and those up to ``until`` and with it; None: without that bound.
        """

    def attributes_id(self, entry: Entry) -> int:
        """The id under which the entry's attributes are interned."""

    def owner(self, attributes: int) -> int:
        """The uid in the attributes with this id."""

    def namesakes(self, entry: Entry, now: int) -> list[Namesake]:
        """Files with this device, inode, size, mtime and owner, the newest first; some, if there are many.

        Those that are gone only if they went at ``now``, or had this very time of change.
        """

    def claimed_object(self, digest: bytes, size: int) -> int | None:
        """The id of an object that somebody else tells of, made if it is new; None: we know that it has another size."""

    def record_folder(self, path: bytes, changes: FolderChanges, now: int) -> None:
        """Record one folder's changes; not yet committed. What they refer to lives from now on."""

    def forget_below(self, path: bytes, keep: Sequence[bytes], now: int) -> int:
        """Mark all in and below the virtual folder as gone, but for the subtrees in ``keep``; how many it was."""

    def disown(self, folder: bytes, names: Collection[bytes], keep: Sequence[bytes]) -> None:
        """What has these names in the virtual folder, and all below it but the subtrees in ``keep``, never was a source.

        No moment shows it any more, and that is no loss to the brake.
        """

    def has_entries_below(self, path: bytes) -> bool:
        """Whether any current entry but the folder itself is known in or below the virtual folder."""

    def scanned_sources(self) -> list[bytes]:
        """Virtual folders that were scanned as sources and are still known: they have an entry of their own."""

    def start_scan(self) -> None:
        """Empty the queue of files that wait to be hashed."""

    def waiting_total(self) -> tuple[int, int]:
        """How many files wait, and their bytes; names of one inode count once."""

    def waiting(self) -> Iterator[WaitingFile]:
        """Files to hash, by device and inode; of the names of one inode the first. Survives :meth:`record_hashes`."""

    def note_inode_flags(self, flags: Mapping[int, int]) -> None:
        """What ``chattr`` set of waiting files, by ticket; part of :meth:`record_hashes`, which comes afterwards."""

    def record_hashes(self, hashed: Sequence[HashedFile], now: int) -> None:
        """Turn waiting files (and their other names) into current versions, durably; the unsettled ones unconfirmed."""

    def finish_scan(self, now: int, whole: bool) -> None:
        """Recount which objects live, with which priority, maxcopies and copies, and since when the others are orphans.

        Only a scan that saw the ``whole`` makes orphans: until then what lost a name may have got another one.
        """

    def commit(self) -> None:
        """Make what was recorded durable."""

    def rollback(self) -> None:
        """Forget what was recorded since the last commit."""

    def count(self) -> tuple[int, int]:
        """Current entries, and bytes of current regular files."""

    def sources_of(self, objects: Sequence[int]) -> list[SourceFile]:
        """Living files whose content is one of the objects, ordered by path; none that is known to be rotten."""

    def restore_entries(self, prefix: bytes, at: int | None = None) -> Iterator[RestoreEntry]:
        """Every entry below (and at) the virtual path, folders before what they hold: ``history.entries``."""

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

    def held_in_folder(self, disk: int, folder: int, count: int = 1) -> list[tuple[int, bytes, int]]:
        """Id, digest and size of what the disk holds in a folder (0 to 4095), or ``count`` from it on, by digest."""

    def record_copies(self, disk: int, objects: Sequence[int]) -> None:
        """The disk holds these now. Durable when it returns."""

    def record_removals(self, disk: int, objects: Sequence[int]) -> None:
        """The disk does not hold these any more, and their files are still to be removed. Durable when it returns."""

    def pending_removals(self, disk: int) -> list[bytes]:
        """Digests whose files a crash may have left on the disk after :meth:`record_removals`."""

    def removals_done(self, disk: int) -> None:
        """Of all pending removals nothing is left on the disk but what it is recorded to hold again. Durable."""

    def take_over(self, disk: int, found: Sequence[tuple[bytes, int]], now: int) -> None:
        """The disk holds these (digest, size) too, and none of them is to be removed; what is new is an orphan. Durable."""

    def replace_holdings(
        self, disk: int, found: Iterable[tuple[bytes, int]], now: int, gains: bool = True
    ) -> tuple[int, int]:
        """The disk holds exactly these (digest, size); what is new is an orphan. How many were gained and lost.

        Without ``gains`` it holds only those of them that it was known to hold.
        """

    def known_sizes(self, digests: Sequence[bytes]) -> Mapping[bytes, int]:
        """Sizes of those digests that are living objects."""

    def strike(self, disk: int, object_id: int) -> None:
        """The disk's copy of the object is bad or missing; no file is to be removed. Durable when it returns."""

    def strike_all(self, disk: int, objects: Sequence[int]) -> None:
        """The disk's copies of these objects are gone. Durable when it returns."""

    def identifiers(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Ids of those digests that the catalogue knows."""

    def by_holders(self) -> list[tuple[int, int, int, int]]:
        """(holder set id, living objects, their bytes, bytes of those that need no more copies).

        Quick at any number of objects as long as nothing has changed since it was asked last.
        """


class DiskTable(Protocol):
    """Enrolled disks."""

    def all(self) -> list[BackupDisk]:
        """Every enrolled disk, by name."""

    def find(self, name_or_uuid: str) -> BackupDisk | None:
        """The disk of this name, or of this UUID in any usual spelling."""

    def add(self, disk: BackupDisk) -> BackupDisk:
        """Enrol (``disk.id`` is ignored); raises UsageError if the name or UUID is taken."""

    def update(self, disk: BackupDisk) -> None:
        """Store all fields of a known disk but its tokens; raises UsageError if the name is taken."""

    def delete(self, disk: BackupDisk) -> None:
        """Forget a disk that holds nothing; raises UsageError if it holds something."""

    def drop(self, disk: int) -> int:
        """The disk holds nothing any more (it failed), and is a stranger; how many objects it held."""

    def record_token(self, disk: int, token: str, next_token: str) -> None:
        """What its last session left on the disk, and what may lie there soon. Durable when it returns."""

    def left(self, disk: int) -> dict[int, LeftFolder]:
        """How the disk's folders (0 to 4095) were left."""

    def note_left(self, disk: int, folders: Mapping[int, LeftFolder]) -> None:
        """These folders are left so. Durable when it returns."""

    def forget_looks(self, disk: int) -> None:
        """When its folders were verified, and how they were left, is known no longer. Durable when it returns."""

    def used(self, disk: int) -> tuple[int, int]:
        """How many objects the disk holds, and their footprint in bytes."""

    def held(self, disk: int) -> tuple[int, int]:
        """How many objects the disk holds, and their bytes."""

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

    def latest(self) -> dict[str, SessionSummary]:
        """The newest session of each disk, by the name that the disk had."""

    def remember(self, key: str, value: str) -> None:
        """Keep a small fact (when the last scan ended)."""

    def recall(self, key: str) -> str | None:
        """A kept fact."""


class CheckedCopy(Protocol):
    """A copy of the catalogue, and a look whether it is sound. A context manager."""

    def __enter__(self) -> CheckedCopy: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def write(self, path: bytes) -> None:
        """Write a copy to this path, as :meth:`Catalogue.write_copy` does, and begin to look at it."""

    def assure(self) -> None:
        """Wait until it was looked at. Raises CatalogueDamaged: it is not sound, so the catalogue is not."""


class Catalogue(Protocol):
    """The whole memory of the program."""

    @property
    def sources(self) -> SourceTable:
        """Sources and folder settings."""

    @property
    def files(self) -> FileTable:
        """Versions of files."""

    @property
    def history(self) -> HistoryTable:
        """The tree as it was known at any moment."""

    @property
    def finding(self) -> FindingTable:
        """Names anywhere in the tree."""

    @property
    def objects(self) -> ObjectTable:
        """Objects and holders."""

    @property
    def accounts(self) -> AccountTable:
        """Names of users and groups."""

    @property
    def unconfirmed(self) -> UnconfirmedTable:
        """Files whose content is believed and still to be read again."""

    @property
    def rot(self) -> RotTable:
        """Files whose content rotted."""

    @property
    def restless(self) -> RestlessTable:
        """Files that never rest."""

    @property
    def problems(self) -> ProblemTable:
        """What could not be backed up as it is."""

    @property
    def disks(self) -> DiskTable:
        """Enrolled disks."""

    @property
    def sessions(self) -> SessionTable:
        """History."""

    @property
    def moments(self) -> MomentTable:
        """When things were recorded."""

    @property
    def upheavals(self) -> UpheavalTable:
        """What the sources lost."""

    def generation(self) -> int:
        """A number that grows with every recorded change of files, objects or disks."""

    def raise_generation(self, above: int) -> None:
        """Let the generation be greater than this one. Durable when it returns."""

    def rest(self) -> None:
        """Nothing is asked of it for a while: keep no memory for that."""

    def size(self) -> int:
        """Bytes that a copy of it takes, at the most."""

    def spare_place(self) -> bytes:
        """A path on this machine where a copy may lie for a while; what is left there is nobody's."""

    def write_copy(self, path: bytes) -> None:
        """A consistent copy that opens on a read-only place, with none of our software but SQLite."""

    def checked_copy(self) -> CheckedCopy:
        """The same, found sound before it takes the place of another one."""

    def keep_before(self, step: str) -> bytes:
        """Keep a sound copy beside it, one for each ``step``, a word: where (empty: it knows nothing yet).

        Raises CatalogueTrouble: it is damaged, or there is no room; nothing was changed then.
        """

    def must_be_sound(self) -> None:
        """Look at all of the catalogue, which takes seconds for a million files. Raises CatalogueDamaged."""

    def explained(self) -> AbstractContextManager[None]:
        """While the context lasts, an error that nobody expects is told as damage if the catalogue is damaged."""

    def ahead(self, descriptor: int) -> CatalogueCopy | None:
        """The catalogue's copy that is open there if it knows what this catalogue does not; None: it is no newer.

        Raises CatalogueTrouble: it cannot be read, or is no copy of a catalogue of ours.
        """
