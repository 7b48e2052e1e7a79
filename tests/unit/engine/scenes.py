"""A bench with a real catalogue and real source files, everything around it faked or watched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.catalogue.database import FILE_NAME
from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore, Pulse, Stop
from distbackupd.engine.scan import ScanOptions, scan
from distbackupd.engine.session import SessionOptions, run_session_at
from distbackupd.engine.timekeeping import SteadyClock, look_at_clock
from distbackupd.engine.verification import VerificationOptions
from distbackupd.model.disks import BackupDisk, DiskIdentity, Mount
from distbackupd.model.events import ScanFinished, SessionFinished
from distbackupd.model.files import HashedContent, WaitingFile
from distbackupd.model.plans import Policy
from distbackupd.model.sources import FolderSettings, RealPath, Source
from distbackupd.sources.clocks import Clock, clock_of_type
from distbackupd.sources.tree import FolderTree
from tests.fakes.clock import FakeClock
from tests.fakes.disk_store import FakeDiskStore
from tests.fakes.mounter import FakeMounter
from tests.fakes.reporter import FakeReporter
from tests.fakes.stopping import Never

NEVER = Never()


HOUR_NS = 3600 * 10**9


class WatchedTree(FolderTree):
    """The real tree; a test sees what is read and may change the world just then.

    ``ahead_ns``: by so much its clock is ahead of that of the files, so that what a test has just written is settled. The
    files lie as on a local disk.
    """

    def __init__(self) -> None:
        super().__init__(now_ns=lambda: time.time_ns() + self.ahead_ns)
        self.ahead_ns = HOUR_NS
        self.filesystem_type = "ext4"
        self.hashed: list[bytes] = []
        self.opened: list[bytes] = []
        self.before_hash: Callable[[bytes], None] = lambda _path: None
        self.after_open: Callable[[bytes], None] = lambda _path: None
        self.before_list: Callable[[bytes], None] = lambda _path: None

        self._describer.clock = self._clock  # type: ignore[method-assign]

    def _clock(self, _device: int) -> Clock:
        return clock_of_type(self.filesystem_type)

    def hash_file(self, place: RealPath, waiting: WaitingFile, pulse: Pulse) -> HashedContent:
        self.before_hash(place.path)
        self.hashed.append(place.path)
        return super().hash_file(place, waiting, pulse)

    def open_file(self, place: RealPath, *told: Any) -> int:
        descriptor = super().open_file(place, *told)
        self.opened.append(place.path)
        self.after_open(place.path)
        return descriptor

    def list_folder(self, place: RealPath, *words: Any) -> Any:
        self.before_list(place.path)
        return super().list_folder(place, *words)


class Scene:
    """``real`` is mapped to ``/``; disks are added by name."""

    def __init__(self, place: Path, catalogue: Any) -> None:
        self.place = place
        self.real = place / "source"
        self.real.mkdir(exist_ok=True)
        self.catalogue = catalogue
        self.tree = WatchedTree()
        self.mounter = FakeMounter(place / "shelf")
        self.reporter = FakeReporter()
        self.clock = FakeClock()
        self.stores: dict[bytes, DiskStore] = {}
        self.bench = Bench(catalogue, self.tree, self.mounter, self._open_store, self.reporter, SteadyClock(self.clock))
        if not catalogue.sources.all():
            catalogue.sources.map(Source(b"/", os.fsencode(self.real)))

    # --- sources

    def write(self, name: str | bytes, content: str | bytes = b"") -> Path:
        """A file below the source, with the folders above it; its content is its name unless given."""
        path = Path(os.fsdecode(os.path.join(os.fsencode(self.real), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        content = content.encode() if isinstance(content, str) else content
        path.write_bytes(content or os.fsencode(name))
        return path

    def map(self, virtual: bytes, real: Path) -> None:
        self.catalogue.sources.map(Source(virtual, os.fsencode(real)))

    def set(self, virtual: bytes, **settings: Any) -> None:
        self.catalogue.sources.set_settings(virtual, FolderSettings(**settings))

    def scan(self, stop: Stop = NEVER, **options: Any) -> ScanFinished:
        """Scan; ``tree.hashed`` then holds only what this scan read."""
        self.tree.hashed.clear()
        self.clock.pass_time(10)
        look_at_clock(self.bench)
        return scan(self.bench, ScanOptions(**options), stop)

    def paths(self) -> set[str]:
        """Current virtual paths, without the source's own folder."""
        entries = self.catalogue.files.restore_entries(b"/")
        return {os.fsdecode(entry.path) for entry in entries} - {"/"}

    def digest(self, path: str) -> bytes | None:
        found = {entry.path: entry.digest for entry in self.catalogue.files.restore_entries(b"/")}
        return found[os.fsencode(path)]

    def rot(self, name: str, content: str) -> None:
        """Another content that leaves no trace: the catalogue's memory is put right instead of the medium put wrong."""
        path = self.real / name
        before = path.stat()
        path.write_text(content)
        assert path.stat().st_size == before.st_size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with contextlib.closing(sqlite3.connect(self.place / "catalogue" / FILE_NAME)) as catalogue, catalogue:
            catalogue.execute(
                "UPDATE file SET ctime_ns = ? WHERE gone = 0 AND inode = ?", (path.stat().st_ctime_ns, before.st_ino)
            )

    # --- disks

    def add_disk(self, name: str, store: DiskStore | None = None, capacity: int = 1 << 40) -> BackupDisk:
        """An enrolled disk whose store is the given one, by default a fake."""
        number = len(self.catalogue.disks.all()) + 1
        root = os.fsencode(self.place / "disks" / name)
        uuid = f"00000000-0000-4000-8000-{number:012d}"
        store = store or FakeDiskStore()
        store.prepare()
        store.write_identity(DiskIdentity(uuid, name))
        self.stores[root] = store
        return self.catalogue.disks.add(BackupDisk(0, uuid, name, capacity, b"", None, None, root, self.clock.now()))

    def store(self, disk: BackupDisk) -> Any:
        return self.stores[disk.last_path]

    def back_up(
        self, disk: BackupDisk, stop: Stop = NEVER, policy: Policy | None = None, share: float = 0
    ) -> SessionFinished:
        """A session on the disk as the catalogue knows it now."""
        self.clock.pass_time(10)
        look_at_clock(self.bench)
        current = self.catalogue.disks.find(disk.uuid)
        options = SessionOptions(policy or Policy(), VerificationOptions(share=share))
        return run_session_at(self.bench, current, current.last_path, self.mount(current), options, stop)

    def mount(self, disk: BackupDisk) -> Mount:
        return Mount(disk.last_path, "/dev/fake", "ext4")

    def held(self, disk: BackupDisk) -> dict[bytes, int]:
        """What the catalogue says the disk holds: size by digest."""
        sets = self.catalogue.objects.holder_sets()
        objects = [item.id for item in list(self.catalogue.objects.facts()) if disk.id in sets[item.holders]]
        return dict(self.catalogue.objects.digests(objects).values())

    def assert_true(self, disk: BackupDisk) -> None:
        """The catalogue says no more than what the disk holds, and what the disk holds is what its name says."""
        store = self.store(disk)
        on_disk = dict(store.objects())
        assert self.held(disk).items() <= on_disk.items()
        for digest, size in on_disk.items():
            assert store.check(digest, size, NEVER).problem == ""

    def assert_complete(self, disk: BackupDisk) -> None:
        """The disk holds exactly the living objects, and nothing unfinished."""
        self.assert_true(disk)
        living = {entry.digest for entry in self.catalogue.files.restore_entries(b"/") if entry.digest}
        assert self.held(disk).keys() == living == dict(self.store(disk).objects()).keys()
        assert self.store(disk).leftovers(lambda digests: dict.fromkeys(digests, 1), NEVER) == []

    def _open_store(self, root: bytes, mount: Mount) -> DiskStore:
        return self.stores[root]


@contextlib.contextmanager
def scene_at(place: Path) -> Iterator[Scene]:
    """A scene, as it was left there before if it was."""
    with open_catalogue(place / "catalogue") as catalogue:
        yield Scene(place, catalogue)


def sha256(content: str | bytes) -> bytes:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).digest()
