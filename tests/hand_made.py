"""A catalogue and disks made by hand, without scan and backup, for tests of what comes after."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.engine.ports import FolderChanges
from distbackupd.model.disks import BackupDisk
from distbackupd.model.files import EntryKind
from distbackupd.model.sources import RealPath
from distbackupd.sources.paths import open_path
from distbackupd.sources.tree import FolderTree


class ObjectFolder:
    """The part of a DiskStore that a restore needs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self.root / "distbackup-objects" / name[:3] / name

    def open_object(self, digest: bytes) -> int:
        return os.open(self.path(digest), os.O_RDONLY)

    def add(self, content: bytes) -> bytes:
        digest = hashlib.sha256(content).digest()
        self.path(digest).parent.mkdir(parents=True, exist_ok=True)
        self.path(digest).write_bytes(content)
        return digest


class HandMade:
    """A catalogue in ``place``, with disks in folders beside it."""

    def __init__(self, place: Path, catalogue, disk_names: Sequence[str]) -> None:
        self.place = place
        self.catalogue = catalogue
        self.disks: list[BackupDisk] = []
        self.stores: list[ObjectFolder] = []
        for number, name in enumerate(disk_names):
            uuid = f"00000000-0000-4000-8000-{number:012d}"
            disk = BackupDisk(0, uuid, name, 10**12, b"", None, None, b"", 0)
            self.disks.append(catalogue.disks.add(disk))
            self.stores.append(ObjectFolder(place / name))
            (place / name).mkdir(parents=True)

    def back_up(
        self, real: Path, virtual: bytes = b"/", holders: Callable[[int], Sequence[int]] = lambda number: (0,)
    ) -> None:
        """Record the tree as it stands; ``holders`` says on which disks (by index) the n-th content lies."""
        tree = FolderTree()
        files = self.catalogue.files
        held: dict[int, list[int]] = {}
        pending = [(os.fsencode(real), virtual)]
        own = tree.describe_folder(RealPath(os.fsencode(real)))
        files.record_folder(virtual, FolderChanges([(own, None)], [], [], [], []), 1)
        number = 0
        while pending:
            path, folder = pending.pop()
            parts = list(tree.list_folder(RealPath(path), lambda name: 1, follow=False))
            entries = [entry for part in parts for entry in part.entries]
            assert not any(part.problems for part in parts)
            added = []
            for entry in entries:
                content_id = None
                if entry.kind is EntryKind.FILE and entry.size:
                    with open(open_path(path + b"/" + entry.name, os.O_RDONLY), "rb") as file:
                        content = file.read()
                    for index in holders(number):
                        self.stores[index].add(content)
                    content_id = files.claimed_object(hashlib.sha256(content).digest(), len(content))
                    for index in holders(number):
                        held.setdefault(index, []).append(content_id)
                    number += 1
                elif entry.kind is EntryKind.FOLDER:
                    pending.append((path + b"/" + entry.name, folder.rstrip(b"/") + b"/" + entry.name))
                added.append((entry, content_id))
            files.record_folder(folder, FolderChanges(added, [], [], [], []), 1)
        files.finish_scan(1, whole=True)
        files.commit()
        for index, objects in held.items():
            self.catalogue.objects.record_copies(self.disks[index].id, objects)

    def put_catalogues(self) -> None:
        """Give each disk its copy of the catalogue."""
        for store in self.stores:
            self.catalogue.write_copy(os.fsencode(store.root / "distbackup.sqlite"))


@contextlib.contextmanager
def hand_made(place: Path, *disk_names: str) -> Iterator[HandMade]:
    """An empty catalogue and empty disks."""
    with open_catalogue(place / "catalogue") as catalogue:
        yield HandMade(place, catalogue, disk_names or ("photos-01",))
