"""Entries and disks out of nothing, for the catalogue's tests."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from distbackupd.catalogue.catalogue import Catalogue
from distbackupd.engine.ports import FolderChanges
from distbackupd.model.disks import BackupDisk
from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind, HashedFile

PLAIN = Attributes(0o644, 0, 0)
_inodes = itertools.count(1)


def entry(name: bytes, kind: EntryKind = EntryKind.FILE, **changes: Any) -> Entry:
    """A file of 5 bytes with an inode of its own."""
    size = 5 if kind == EntryKind.FILE else 0
    plain = Entry(name, kind, size, 1_000, 2_000, 1, next(_inodes), EntryFlag.NONE, PLAIN, b"", 1, 0, 0)
    return plain._replace(**changes)


def digest(text: str | bytes) -> bytes:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).digest()


def changes(
    added: Sequence[tuple[Entry, int | None]] = (),
    changed: Sequence[tuple[int, Entry, int | None]] = (),
    touched: Sequence[tuple[int, Entry]] = (),
    gone: Sequence[int] = (),
    waiting: Sequence[tuple[Entry, int | None]] = (),
) -> FolderChanges:
    return FolderChanges(list(added), list(changed), list(touched), list(gone), list(waiting))


def wait_for_hash(catalogue: Catalogue, folder: bytes, *entries: Entry, now: int = 1) -> None:
    """A scan saw these files."""
    catalogue.files.record_folder(folder, changes(waiting=[(item, None) for item in entries]), now)


def hash_all(catalogue: Catalogue, now: int = 2) -> list[bytes]:
    """Everything that waits is hashed: its content is its path, so to say. The paths that were read."""
    waiting = list(catalogue.files.waiting())
    catalogue.files.record_hashes([HashedFile(item.ticket, digest(item.path), True) for item in waiting], now)
    return [item.path for item in waiting]


def add_files(catalogue: Catalogue, folder: bytes, *names: bytes, now: int = 1, **values: Any) -> None:
    """Files with contents of their own, scanned and hashed."""
    catalogue.files.start_scan()
    wait_for_hash(catalogue, folder, *(entry(name, **values) for name in names), now=now)
    hash_all(catalogue, now)
    catalogue.files.finish_scan(now, whole=True)


def add_disk(catalogue: Catalogue, name: str, number: int = 0) -> BackupDisk:
    uuid = f"00000000-0000-4000-8000-{number or len(catalogue.disks.all()) + 1:012d}"
    return catalogue.disks.add(BackupDisk(0, uuid, name, 10**12, b"", None, None, b"/mnt", 0))


def object_id(catalogue: Catalogue, path: bytes) -> int:
    return catalogue.objects.identifiers([digest(path)])[digest(path)]


def holders(catalogue: Catalogue, *paths: bytes) -> list[set[int]]:
    """The disks that hold the content of each file."""
    found = catalogue.objects.holders([object_id(catalogue, path) for path in paths])
    return [set(found[object_id(catalogue, path)]) for path in paths]


def held(catalogue: Catalogue, disk: BackupDisk) -> dict[bytes, int]:
    """Digest and size of all that the catalogue says the disk holds."""
    sets = catalogue.objects.holder_sets()
    objects = [item.id for item in list(catalogue.objects.facts()) if disk.id in sets[item.holders]]
    return dict(catalogue.objects.digests(objects).values())


def living(catalogue: Catalogue) -> dict[bytes, bytes | None]:
    """Every current path with the digest of its content."""
    return {item.path: item.digest for item in catalogue.files.restore_entries(b"/")}


def orphaned_at(catalogue: Catalogue, path: bytes) -> int:
    """Since when the content is an orphan. Only what a disk holds tells that it is one."""
    facts: Iterable[Any] = list(catalogue.objects.facts())
    return next((item.orphaned_at for item in facts if item.id == object_id(catalogue, path)), -1)
