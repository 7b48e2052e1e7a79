"""Entries and disks out of nothing, for the catalogue's tests."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distbackupd.catalogue.catalogue import Catalogue, open_catalogue
from distbackupd.engine.brake_memory import BrakeMemory
from distbackupd.engine.ports import FolderChanges
from distbackupd.model.disks import BackupDisk
from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind, HashedFile
from distbackupd.model.owners import OwnerNames
from distbackupd.model.sources import FolderSettings, Source
from distbackupd.planning.brake import Share
from distbackupd.planning.listing import LeftFolder
from distbackupd.planning.timekeeping import Timeline

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


def catalogue_of_everything(copy: Path) -> None:
    """Write a copy of a catalogue to ``copy`` that has rows in nearly every table."""
    with open_catalogue(copy.with_name("catalogue")) as catalogue:
        catalogue.sources.map(Source(b"/", b"/srv"))
        catalogue.sources.set_settings(b"/a", FolderSettings(follow_symlinks=True, rules=("*.tmp",)))
        disk = add_disk(catalogue, "one")
        add_files(catalogue, b"/a", b"one", b"two", b"\xff no UTF-8", inode=7)
        attributes = Attributes(0o4755, 0, 0, 0, ((b"user.a", b"value"),))
        link = entry(b"link", EntryKind.SYMBOLIC_LINK, target=b"/etc", attributes=attributes)
        catalogue.files.record_folder(b"/a", changes(added=[(link, None)], gone=[catalogue.files.folder(b"/a")[0].row]), 5)
        catalogue.files.commit()
        digests = [digest(b"/a/" + name) for name in (b"one", b"two")]
        catalogue.objects.replace_holdings(disk.id, [(item, 5) for item in digests], 100)
        catalogue.disks.record_verified(disk.id, [1, 2], 100)
        catalogue.disks.note_left(disk.id, {3: LeftFolder(5, 6)})
        catalogue.disks.record_token(disk.id, "token", "")
        catalogue.accounts.record(OwnerNames({0: "root"}, {0: "root"}), 5)
        catalogue.problems.close_off(b"/b", "Input/output error", 5)
        catalogue.sessions.start(disk, 100)
        catalogue.sessions.remember("last_scan", "100")
        catalogue.sessions.remember("brake", json.dumps(asdict(BrakeMemory(("much vanished",), 5, known=Share(3, 15)))))
        catalogue.sessions.remember("clock", json.dumps(Timeline(100, "boot", 1.5)._asdict()))
        catalogue.files.commit()
        catalogue.write_copy(bytes(copy))
