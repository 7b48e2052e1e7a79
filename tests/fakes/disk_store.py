"""A ``DiskStore`` in memory that fails where a test wants it, and forgets in a power cut what was not made durable."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from distbackupd.engine.ports import CopyVerdict, FolderDifference, Pulse, StagedCopy
from distbackupd.model.disks import DiskIdentity, Footing, Space, footprint
from distbackupd.model.errors import ContentDiffers, DiskFull, DiskGone, DiskReadOnly, Interrupted

BLOCK = 4096
TABLES = 64 << 20
"""Room that the fake's file system has beside its objects, so that a session finds room for the catalogue."""


class Killed(BaseException):
    """The program is killed here: nothing that it would do afterwards is done."""


class FakeDiskStore:
    """``objects_`` and ``unfinished`` are content by digest. ``operations`` counts what was asked of the disk.

    ``fail_at``: the operation (from 1) with which the disk goes away for good, until :meth:`mend`. ``lose_writes_at``: the
    one after which the next flush fails, once: what was not flushed before is in memory only then, and looks good.
    ``kill_at``: the one with which the program dies; :meth:`after_kill` shows what that left. ``room``: bytes of
    footprint that fit on it; ``slack``: how many more before it is really full; ``others``: bytes that something else takes;
    ``files``: so many objects more there are inodes for. ``damaged``: digests whose places are so.
    ``listed``: folders that were listed; ``times``: what was done to which folder behind the program's back.
    """

    def __init__(self, room: int = 1 << 40, block_size: int = BLOCK, largest_file: int = 0) -> None:
        self.room = room
        self.slack = TABLES
        self.others = 0
        self.files: int | None = None
        self.block_size = block_size
        self.largest_file = largest_file
        self.read_only = False
        self.operations = 0
        self.fail_at: int | None = None
        self.lose_writes_at: int | None = None
        self.hollow: set[bytes] = set()
        self.kill_at: int | None = None
        self._as_killed: tuple[dict[bytes, bytes], dict[bytes, bytes], set[bytes]] | None = None
        self.who: DiskIdentity | None = None
        self.objects_: dict[bytes, bytes] = {}
        self.unfinished: dict[bytes, bytes] = {}
        self.bad: dict[bytes, bytes] = {}
        self.token_ = ""
        self.damaged: set[bytes] = set()
        self.listed: list[int] = []
        self.times: dict[int, int] = {}
        self.catalogue: bytes | None = None
        self.staged_count = 0
        self._durable: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
        self._lock = threading.Lock()

    def mend(self) -> None:
        """The disk works again."""
        self.fail_at = None

    def kill(self) -> None:
        """The program dies now. Raises Killed."""
        self._as_killed = self._as_killed or (dict(self.objects_), dict(self.unfinished), set(self.hollow))
        raise Killed

    def after_kill(self) -> None:
        """What the disk is like when somebody looks at it after the program was killed; nothing is changed if it was not."""
        self.kill_at = None
        if self._as_killed is not None:
            self.objects_, self.unfinished, self.hollow = self._as_killed
            self._as_killed = None

    def power_cut(self) -> None:
        """What was not flushed is as it was at the last flush."""
        self.objects_, self.unfinished = dict(self._durable[0]), dict(self._durable[1])
        self.lose_memory()

    def lose_memory(self) -> None:
        """The disk was unmounted and mounted again: what was in memory only is seen as it lies on the disk."""
        for held in (self.objects_, self.unfinished):
            held.update({digest: bytes(len(content)) for digest, content in held.items() if digest in self.hollow})
        self.hollow.clear()

    def close(self) -> None:
        pass

    def footing(self) -> Footing:
        return Footing(os.geteuid(), 0o40700, 1)

    def identity(self) -> DiskIdentity | None:
        self._work(counts=False)
        return self.who

    def write_identity(self, identity: DiskIdentity) -> None:
        self._work()
        self.who = identity

    def token(self) -> str:
        self._work(counts=False)
        return self.token_

    def leave_token(self, token: str) -> None:
        self._work()
        self.token_ = token

    def prepare(self) -> None:
        self._work()
        if self.read_only:
            raise DiskReadOnly("the fake disk is read-only; nothing was changed on it")

    def space(self) -> Space:
        self._work(counts=False)
        total = self.room + 2 * TABLES
        free_files = None if self.files is None else self.files - len(self.objects_) - len(self.unfinished)
        free = total - self.others - self._used()
        return Space(total, free, self.block_size, self.largest_file, free_files=free_files, folders=4096)

    def leftovers(self, sizes: Callable[[Sequence[bytes]], Mapping[bytes, int]], pulse: Pulse) -> list[StagedCopy]:
        self._work()
        wanted = sizes(list(self.unfinished))
        for digest, content in list(self.unfinished.items()):
            if wanted.get(digest) != len(content) or self._on_disk(digest, content) != digest:
                del self.unfinished[digest]
        return [StagedCopy(digest, len(content)) for digest, content in self.unfinished.items()]

    def stage(self, descriptor: int, digest: bytes, size: int, pulse: Pulse) -> StagedCopy:
        self._work()
        content = b""
        while len(content) <= size and (chunk := os.read(descriptor, 1 << 20)):
            if pulse.is_set():
                raise Interrupted("stopped while a file was copied; it will be copied again")
            content += chunk
            pulse.beat(len(chunk))
        if len(content) != size or hashlib.sha256(content).digest() != digest:
            raise ContentDiffers("its content is not what it was when it was hashed")
        with self._lock:
            if self._used() + footprint(size, self.block_size) > self.room + self.slack:
                raise DiskFull("the fake disk is full; what was copied is recorded")
            if self.files is not None and len(self.objects_) + len(self.unfinished) >= self.files:
                raise DiskFull("the fake disk has no inodes left; what was copied is recorded")
            self.unfinished[digest] = content
            self.hollow.discard(digest)
            self.staged_count += 1
        return StagedCopy(digest, size)

    def stage_as_it_is(self, descriptor: int, size: int, pulse: Pulse) -> StagedCopy:
        content = os.read(descriptor, size)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            return self.stage(file.fileno(), hashlib.sha256(content).digest(), len(content), pulse)

    def commit(self, staged: Sequence[StagedCopy]) -> frozenset[bytes]:
        for copy in staged:
            self._work()
            content = self.unfinished.pop(copy.digest)
            if copy.digest not in self.damaged:
                self.objects_[copy.digest] = content
        self.flush()
        return frozenset(self.damaged & {copy.digest for copy in staged})

    def discard(self, staged: Sequence[StagedCopy]) -> None:
        for copy in staged:
            self.unfinished.pop(copy.digest, None)

    def remove(self, digests: Iterable[bytes]) -> None:
        for digest in digests:
            self._work()
            self.objects_.pop(digest, None)

    def size_of(self, digest: bytes) -> int | None:
        self._work(counts=False)
        return len(self.objects_[digest]) if digest in self.objects_ else None

    def open_object(self, digest: bytes) -> int:
        self._work(counts=False)
        if digest not in self.objects_:
            raise FileNotFoundError(digest.hex())
        with tempfile.TemporaryFile() as file:
            file.write(self.objects_[digest])
            file.seek(0)
            return os.dup(file.fileno())

    def must_answer(self, by_writing: bool = False) -> None:
        self._work(counts=False)

    def settle(self, digests: Sequence[bytes]) -> None:
        self.flush()

    def holds_unfinished(self) -> bool:
        return bool(self.unfinished)

    def forget_cached(self) -> None:
        pass

    def check(self, digest: bytes, size: int, pulse: Pulse) -> CopyVerdict:
        self._work(counts=False)
        content = self.objects_.get(digest)
        if content is None:
            return CopyVerdict(digest, size, "it is missing")
        if len(content) != size:
            return CopyVerdict(digest, size, f"it has {len(content):,} bytes instead of {size:,}")
        good = self._on_disk(digest, content) == digest
        return CopyVerdict(digest, size, "" if good else "its content does not match its name")

    def reading_order(self, digests: Iterable[bytes]) -> list[bytes]:
        return sorted(digests, key=lambda digest: digest in self.objects_)

    def set_aside(self, digest: bytes) -> None:
        self._work()
        if digest in self.objects_:
            self.bad[digest] = self.objects_.pop(digest)

    def objects(self) -> Iterator[tuple[bytes, int]]:
        self._work(counts=False)
        yield from sorted((digest, len(content)) for digest, content in self.objects_.items())

    def folder_times(self) -> dict[int, int]:
        self._work(counts=False)
        # In memory a folder's time tells which names it holds.
        held: dict[int, int] = {}
        for digest in self.objects_:
            folder = int.from_bytes(digest[:2], "big") >> 4
            held[folder] = held.get(folder, 0) ^ int.from_bytes(digest[:7], "big")
        return held | self.times

    def differences_in(self, folder: int, digests: Collection[bytes]) -> FolderDifference:
        self._work(counts=False)
        self.listed.append(folder)
        here = [digest for digest in self.objects_ if int.from_bytes(digest[:2], "big") >> 4 == folder]
        return FolderDifference(
            [digest for digest in digests if digest not in self.objects_],
            [digest for digest in here if digest not in digests],
        )

    def catalogue_copies(self, kept: bool = True) -> list[bytes]:
        return [b"distbackup.sqlite"] if self.catalogue else []

    def open_catalogue_copy(self, name: bytes) -> int:
        raise FileNotFoundError(name)

    def save_catalogue(
        self,
        write_copy: Callable[[bytes], None],
        must_be_kept: Callable[[int], bool] = lambda _descriptor: False,
        spare: bytes = b"",
        assure: Callable[[], object] = lambda: None,
    ) -> bytes:
        self._work()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "copy"
            write_copy(os.fsencode(path))
            assure()
            self.catalogue = path.read_bytes()
        return b""

    def flush(self) -> None:
        self._work()
        if self.lose_writes_at is not None and self.operations >= self.lose_writes_at:
            self.lose_writes_at = None
            for held, durable in zip((self.objects_, self.unfinished), self._durable, strict=True):
                self.hollow.update(digest for digest in held if digest not in durable)
            # A name that was given to what had been flushed before is on the disk when the next flush succeeds.
            self.hollow -= self._durable[0].keys() | self._durable[1].keys()
            raise DiskGone("the fake disk met an error while it wrote; what was recorded before is safe")
        self._durable = (dict(self.objects_), dict(self.unfinished))

    def _on_disk(self, digest: bytes, content: bytes) -> bytes:
        """The hash of what the disk itself gives back."""
        return hashlib.sha256(bytes(len(content)) if digest in self.hollow else content).digest()

    def _used(self) -> int:
        held = [*self.objects_.values(), *self.unfinished.values()]
        return sum(footprint(len(content), self.block_size) for content in held)

    def _work(self, counts: bool = True) -> None:
        with self._lock:
            self.operations += counts
            if self.kill_at is not None and self.operations >= self.kill_at:
                self.kill()
            if self.fail_at is not None and self.operations >= self.fail_at:
                raise DiskGone("the fake disk does not answer any more; what was recorded before is safe")
