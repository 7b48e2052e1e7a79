"""Take over what distbackup knows: sources, settings, disks with what they hold, and the hashes of files.

    check -> sources and settings -> disks as they are said to be -> scan, reading no file that is still as distbackup
    knew it -> keep what the scan could not see -> look through the disks that are here

Interrupted at any moment, doing it again goes on. distbackup's database is only read.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from distbackupd.engine.bench import Bench
from distbackupd.engine.door import locate, opened, settled, with_file_system
from distbackupd.engine.enrolment import refresh
from distbackupd.engine.ports import FolderChanges, FormerDatabase, Reporter, Stop
from distbackupd.engine.scan import ScanOptions, scan
from distbackupd.engine.virtual_tree import join, parent
from distbackupd.model.adoption import FormerDisk, FormerFile
from distbackupd.model.disks import BackupDisk, default_capacity
from distbackupd.model.errors import DiskTrouble, Interrupted, UsageError
from distbackupd.model.events import Event, FileSkipped, Remark, ScanFinished, SourceLocked
from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind
from distbackupd.model.sources import FolderSettings
from distbackupd.model.text import printable
from distbackupd.planning.patterns import check_rule

_KNOWN_SETTINGS = ("lock", "hide", "follow_symlinks", "noinherit", "priority", "maxcopies", "rules")
_MEANINGLESS = ("include", "exclude")
"""What distbackup 1.0.20 writes and never reads."""


@dataclass(slots=True)
class Adoption:
    """What was taken over. ``hashes``: files whose hash distbackup knew, which is believed until it is confirmed.

    ``unseen``: files known only from distbackup. ``unconfirmed``: files and bytes that are still to be read by us.
    """

    sources: int = 0
    settings: int = 0
    disks: list[str] = field(default_factory=list)
    walked: dict[str, tuple[int, int]] = field(default_factory=dict)
    away: list[str] = field(default_factory=list)
    hashes: int = 0
    unseen: int = 0
    unconfirmed: tuple[int, int] = (0, 0)
    scan: ScanFinished | None = None


def adopt(bench: Bench, former: FormerDatabase, stop: Stop, simulate: bool = False) -> Adoption:
    """Take it all over. Raises UsageError, before anything is changed, where it contradicts this catalogue; Interrupted."""
    adoption = Adoption()
    settings = _settings(bench.reporter, former)
    disks = former.disks()
    sources = former.sources()
    _refuse_contradictions(bench, former, disks)
    adoption.sources, adoption.settings = len(sources), len(settings)
    adoption.disks = [disk.name for disk in disks]
    if simulate:
        return adoption
    for source in sources:
        bench.catalogue.sources.map(source)
    for path, folder_settings in settings.items():
        bench.catalogue.sources.set_settings(path, folder_settings)
    for disk in disks:
        _take_over_disk(bench, former, disk)
    try:
        _take_over_files(bench, former, stop, adoption)
    except Interrupted as interrupted:
        raise Interrupted("stopped; what was taken over stays, 'dsb import-distbackup' goes on there") from interrupted
    for disk in disks:
        _look_through(bench, disk, adoption)
    return adoption


def _settings(reporter: Reporter, former: FormerDatabase) -> dict[bytes, FolderSettings]:
    """What means the same here; the rest is told and left out."""
    found = {}
    for path, mapping in former.settings().items():
        known = {key: value for key, value in mapping.items() if key in _KNOWN_SETTINGS}
        for key in mapping.keys() - known.keys() - set(_MEANINGLESS):
            reporter.tell(Remark(f"{printable(path)}: distbackup's setting '{printable(key)}' means nothing here; left out"))
        rules = []
        for rule in known.pop("rules", None) or []:
            try:
                check_rule(rule)
                rules.append(rule)
            except UsageError as error:
                reporter.tell(Remark(f"{printable(path)}: {error}; the pattern is left out"))
        found[path] = FolderSettings.from_mapping(known | {"rules": rules})
    return found


def _refuse_contradictions(bench: Bench, former: FormerDatabase, disks: Sequence[FormerDisk]) -> None:
    mapped = {source.virtual_path: source.real_path for source in bench.catalogue.sources.all()}
    for source in former.sources():
        if mapped.get(source.virtual_path, source.real_path) != source.real_path:
            raise UsageError(
                f"{printable(source.virtual_path)} is mapped to {printable(mapped[source.virtual_path])} here and to "
                f"{printable(source.real_path)} in distbackup; nothing was changed: unmap it here, or there"
            )
    for disk in disks:
        known = bench.catalogue.disks.find(disk.name)
        if known is not None and known.uuid != disk.uuid:
            raise UsageError(
                f"there is another disk '{disk.name}' here than in distbackup; nothing was changed: rename one of them first"
            )


def _take_over_disk(bench: Bench, former: FormerDatabase, disk: FormerDisk) -> None:
    """As distbackup says; what really lies there is looked at when it is here."""
    known = bench.catalogue.disks.find(disk.uuid)
    if known is None:
        known = bench.catalogue.disks.add(
            BackupDisk(
                id=0,
                uuid=disk.uuid,
                name=disk.name,
                capacity=disk.capacity,
                relative_path=disk.relative_path,
                filesystem_uuid=disk.filesystem_uuid,
                filesystem_type=disk.filesystem_type,
                # Where distbackup knows no file system, its path is the one from the root of them all.
                last_path=b"" if disk.filesystem_uuid else join(b"/", disk.relative_path),
                added_at=bench.clock.now(),
                clean=False,
            )
        )
    if known.catalogue_generation < 0:
        bench.catalogue.objects.replace_holdings(known.id, former.holdings(disk), bench.clock.now())


def _take_over_files(bench: Bench, former: FormerDatabase, stop: Stop, adoption: Adoption) -> None:
    memory = _Memory(former)
    listener = _Listener(bench.reporter)
    adoption.scan = scan(replace(bench, reporter=listener), ScanOptions(known_digest=memory.digest), stop)
    adoption.hashes = memory.used
    locked = [path for path, own in bench.catalogue.sources.settings().items() if own.lock]
    for path in _without_nested({*listener.unseen, *locked}):
        adoption.unseen += _keep_unseen(bench, former.below(path))
    bench.catalogue.files.finish_scan(bench.clock.now(), whole=True)
    adoption.unconfirmed = bench.catalogue.unconfirmed.total()


def _without_nested(paths: set[bytes]) -> list[bytes]:
    """The paths that lie below no other one of them."""
    kept: list[bytes] = []
    for path in sorted(paths):
        if not any(path == above or path.startswith(above.rstrip(b"/") + b"/") for above in kept):
            kept.append(path)
    return kept


def _keep_unseen(bench: Bench, former_files: Iterator[FormerFile]) -> int:
    """Record files as distbackup knew them, for nobody can look at them now; how many.

    What distbackup does not know of them is made up: owner, mode, the folders' times. The scan that sees them puts it right.
    """
    files, now, kept = bench.catalogue.files, bench.clock.now(), 0
    made: set[bytes] = set()
    whole = (file for file in former_files if file.digest or file.target or not file.size)
    for folder, members in itertools.groupby(whole, key=lambda file: parent(file.path)):
        _make_folders(bench, folder, made, now)
        known = {entry.name for entry in files.folder(folder)}
        added: list[tuple[Entry, int | None]] = []
        for file in members:
            name = file.path.rpartition(b"/")[2]
            if name in known:
                continue
            content = files.claimed_object(file.digest, file.size) if file.digest else None
            if file.digest and content is None:
                continue  # its size is not that of what we read: nothing is known of it
            added.append((_entry(name, file), content))
        if added:
            believed = [entry.name for entry, content in added if content is not None]
            files.record_folder(folder, FolderChanges(added, [], [], [], [], believed), now)
            kept += len(added)
    files.commit()
    return kept


def _make_folders(bench: Bench, folder: bytes, made: set[bytes], now: int) -> None:
    """Entries for the folder and those above it up to its source, unless there are some."""
    missing = []
    path = folder
    sources = {source.virtual_path for source in bench.catalogue.sources.all()}
    while path not in made and path not in sources and path != b"/":
        missing.append(path)
        made.add(path)
        path = parent(path)
    for path in reversed(missing):
        above, _, name = path.rpartition(b"/")
        if name not in {entry.name for entry in bench.catalogue.files.folder(above or b"/")}:
            entry = _made_up(name, EntryKind.FOLDER, 0o755, now * 10**9)
            bench.catalogue.files.record_folder(above or b"/", FolderChanges([(entry, None)], [], [], [], []), now)


def _entry(name: bytes, file: FormerFile) -> Entry:
    if file.target:
        return _made_up(name, EntryKind.SYMBOLIC_LINK, 0o777, file.mtime_ms * 10**6)._replace(
            size=len(file.target), target=file.target
        )
    return _made_up(name, EntryKind.FILE, 0o644, file.mtime_ms * 10**6)._replace(
        size=file.size, inode=0, priority=file.priority, maxcopies=file.maxcopies
    )


def _made_up(name: bytes, kind: EntryKind, mode: int, mtime_ns: int) -> Entry:
    attributes = Attributes(mode, os.geteuid(), os.getegid())
    return Entry(name, kind, 0, mtime_ns, 0, 0, 0, EntryFlag.NONE, attributes, b"", 1, 0, copies=0)


def _look_through(bench: Bench, former: FormerDisk, adoption: Adoption) -> None:
    disk = bench.catalogue.disks.find(former.uuid)
    assert disk is not None
    try:
        disk = with_file_system(bench, disk)
        if locate(bench, disk) is None:
            adoption.away.append(disk.name)
            return
        with opened(bench, disk) as held:
            store, known = held.store, settled(held)
            store.prepare()
            if not disk.capacity:
                known = replace(known, capacity=default_capacity(store.space().total - store.space().reserved))
            bench.catalogue.disks.update(known)
            adoption.walked[disk.name] = refresh(bench, known, store)
    except DiskTrouble as trouble:
        bench.reporter.tell(Remark(f"{disk.name}: {trouble}"))
        adoption.away.append(disk.name)


class _Memory:
    """The hashes of files that still are as distbackup knew them."""

    def __init__(self, former: FormerDatabase) -> None:
        self._former = former
        self.used = 0

    def digest(self, path: bytes, entry: Entry) -> bytes | None:
        """What distbackup knows to be the content of what stands at a virtual path."""
        known = self._former.file(path)
        # distbackup cuts times to milliseconds, and counts them in floating point.
        if known and known.digest and known.size == entry.size and abs(entry.mtime_ns // 10**6 - known.mtime_ms) <= 1:
            self.used += 1
            return known.digest
        return None


class _Listener:
    """Tells everything on, and remembers what the scan could not see."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.unseen: set[bytes] = set()

    def tell(self, event: Event) -> None:
        """See :class:`distbackupd.engine.ports.Reporter`."""
        if isinstance(event, SourceLocked | FileSkipped):
            self.unseen.add(event.path)
        self._reporter.tell(event)

    def begin(self, activity: str, items: int = 0, total_bytes: int = 0) -> None:
        """See :class:`distbackupd.engine.ports.Reporter`."""
        self._reporter.begin(activity, items, total_bytes)

    def advance(self, items: int, done_bytes: int, current: bytes = b"") -> None:
        """See :class:`distbackupd.engine.ports.Reporter`."""
        self._reporter.advance(items, done_bytes, current)

    def end(self) -> None:
        """See :class:`distbackupd.engine.ports.Reporter`."""
        self._reporter.end()
