"""The store on one mounted backup disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from distbackupd.engine.ports import CopyVerdict, Pulse, StagedCopy
from distbackupd.model.disks import FAT_LARGEST_FILE, DiskIdentity, Space
from distbackupd.model.errors import ContentDiffers, DiskReadOnly, Interrupted, SourceChanged, SourceTrouble
from distbackupd.model.text import printable
from distbackupd.store.catalogue_copy import find_copies, replace_copy, write_leaflets
from distbackupd.store.flushing import flush_filesystem, flush_paths, flushes_as_a_whole
from distbackupd.store.identity import FILE_NAME, identity_text, read_identity, write_beside
from distbackupd.store.trouble import disk_trouble, in_words
from distbackupd.streams import CHUNK, hash_descriptor, thread_buffer

OBJECTS = b"distbackup-objects"
UNFINISHED = b"distbackup-tmp"
BAD_OBJECTS = b"bad-objects"
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_OLD_UNFINISHED = re.compile(
    rb"distbackup-tmp\.\d+\.\d+|(distbackup-disk\.json|distbackup\.sqlite|README\.txt|distbackup-restore\.py)\.new"
)
_WRITE_BACK = 8 << 20
"""After so many bytes of a large copy the kernel is asked to write them out."""


class FolderStore:
    """See :class:`distbackupd.engine.ports.DiskStore`. ``root`` is where the layout lies; ``device``: a node in /dev."""

    def __init__(self, root: bytes, filesystem_type: str, device: str = "") -> None:
        self.root = root.rstrip(b"/") or b"/"
        self._device = device
        self._filesystem_type = filesystem_type
        self._objects = self.root + b"/" + OBJECTS
        self._unfinished = self.root + b"/" + UNFINISHED
        self._folders: set[bytes] = set()

    def identity(self) -> DiskIdentity | None:
        """What the disk says it is; None where it says nothing. Raises DiskNotOurs when what it says is unreadable."""
        with in_words(self.root):
            return read_identity(self.root)

    def write_identity(self, identity: DiskIdentity) -> None:
        """Durably make this a backup disk, or rename it."""
        with in_words(self.root):
            write_beside(self.root + b"/" + FILE_NAME, identity_text(identity))

    def prepare(self) -> None:
        """Check that the disk can be written, and make the layout's folders. Raises DiskReadOnly, DiskTrouble."""
        with in_words(self.root):
            if os.statvfs(self.root).f_flag & os.ST_RDONLY:
                raise DiskReadOnly(
                    f"the disk at {printable(self.root)} is read-only; nothing was changed on it: "
                    "look for its write-protect switch, or check its file system"
                )
            for folder in (self._objects, self._unfinished):
                os.makedirs(folder, exist_ok=True)
            self._folders = {name for name in os.listdir(self._objects) if len(name) == 3}

    def space(self) -> Space:
        """Room as the file system tells it now."""
        with in_words(self.root):
            state = os.statvfs(self.root)
        return Space(
            total=state.f_blocks * state.f_frsize,
            free=state.f_bavail * state.f_frsize,
            block_size=max(512, state.f_frsize),
            largest_file=FAT_LARGEST_FILE if self._filesystem_type in ("vfat", "msdos") else 0,
            reserved=max(0, state.f_bfree - state.f_bavail) * state.f_frsize,
        )

    def leftovers(self, sizes: Callable[[Sequence[bytes]], Mapping[bytes, int]], pulse: Pulse) -> list[StagedCopy]:
        """Complete copies that an interrupted session left unfinished; all other leftovers are removed."""
        with in_words(self.root):
            for name in os.listdir(self.root):
                if _OLD_UNFINISHED.fullmatch(name):
                    _unlink(self.root + b"/" + name)
            # A folder is nothing that this program puts there.
            names = [name for name in os.listdir(self._unfinished) if not _is_folder(self._unfinished + b"/" + name)]
            wanted = sizes([bytes.fromhex(name.decode()) for name in names if _DIGEST.fullmatch(name)])
            kept = []
            for name in names:
                path = self._unfinished + b"/" + name
                digest = bytes.fromhex(name.decode()) if _DIGEST.fullmatch(name) else b""
                size = wanted.get(digest)
                if size is not None and _size_of_file(path) == size and self._hash(path, pulse) == digest:
                    kept.append(StagedCopy(digest, size))
                else:
                    _unlink(path)
        return kept

    def stage(self, descriptor: int, digest: bytes, size: int, pulse: Pulse) -> StagedCopy:
        """Copy from ``descriptor`` to a temporary file, hashing on the way. Thread-safe."""
        path = self._unfinished + b"/" + digest.hex().encode()
        if size <= CHUNK:
            content = _read_source(descriptor, size + 1)
            if len(content) != size or hashlib.sha256(content).digest() != digest:
                raise ContentDiffers("its content is not what it was when it was hashed")
            self._write_small(path, content)
            pulse.beat(size)
        else:
            self._stage_large(descriptor, path, digest, size, pulse)
        return StagedCopy(digest, size)

    def commit(self, staged: Sequence[StagedCopy]) -> None:
        """Make staged copies durable under their final names."""
        if not staged:
            return
        with in_words(self.root):
            # By name, so that the folders of the layout are gone through once, in order.
            names = sorted(copy.digest.hex().encode() for copy in staged)
            folders = dict.fromkeys(name[:3] for name in names)
            for folder in folders:
                self._make_folder(folder)
            self._flush(self._unfinished + b"/" + name for name in names)
            for name in names:
                os.rename(self._unfinished + b"/" + name, self._objects + b"/" + name[:3] + b"/" + name)
            self._flush([self._objects, self._unfinished, *(self._objects + b"/" + folder for folder in folders)])

    def discard(self, staged: Sequence[StagedCopy]) -> None:
        """Remove staged copies; never fails."""
        for copy in staged:
            try:
                _unlink(self._unfinished + b"/" + copy.digest.hex().encode())
            except OSError:
                continue

    def remove(self, digests: Iterable[bytes]) -> None:
        """Remove objects; one that is not there is no error."""
        with in_words(self.root):
            for digest in digests:
                _unlink(self._path(digest))

    def size_of(self, digest: bytes) -> int | None:
        """Size of the object file, None where there is none."""
        with in_words(self.root):
            return _size_of_file(self._path(digest))

    def open_object(self, digest: bytes) -> int:
        """A descriptor to read an object from; raises FileNotFoundError, DiskTrouble."""
        try:
            return self._open_object(digest)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise disk_trouble(error, self.root) from error

    def forget_cached(self) -> None:
        """A driver in user space reads through the cache of the block device; the kernel's own drivers do not."""
        if not self._filesystem_type.startswith("fuse"):
            return
        # The daemon's sandbox keeps it from the device; there the cache is as old as the mount, which is one session.
        with contextlib.suppress(OSError):
            descriptor = os.open(self._device, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

    def check(self, digest: bytes, size: int, pulse: Pulse) -> CopyVerdict:
        """Read an object again, past the page cache, and compare. An unreadable file is a bad copy, not disk trouble."""
        try:
            descriptor = self._open_object(digest)
        except OSError as error:
            return self._unreadable(digest, size, error)
        try:
            # Read directly (O_DIRECT) there would be no read-ahead, which is what makes a disk fast. This drops what is
            # clean, and nothing here is dirty: a copy is flushed before it is recorded.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            found = os.fstat(descriptor).st_size
            if found != size:
                return CopyVerdict(digest, size, f"it has {found:,} bytes instead of {size:,}")
            _, actual = hash_descriptor(descriptor, found, pulse)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            return self._unreadable(digest, size, error)
        finally:
            os.close(descriptor)
        return CopyVerdict(digest, size, "" if actual == digest else "its content does not match its name")

    def reading_order(self, digests: Iterable[bytes]) -> list[bytes]:
        """The digests by inode: files that were written one after another lie one after another on the disk."""
        inodes = {}
        for digest in digests:
            try:
                inodes[digest] = os.lstat(self._path(digest)).st_ino
            except OSError:
                # One damaged inode is no reason not to read the others.
                inodes[digest] = 0
        return sorted(inodes, key=lambda digest: inodes[digest])

    def set_aside(self, digest: bytes) -> None:
        """Move a bad object out of the way, into ``bad-objects``; one that is not there is no error."""
        with in_words(self.root):
            folder = self.root + b"/" + BAD_OBJECTS
            os.makedirs(folder, exist_ok=True)
            try:
                os.rename(self._path(digest), folder + b"/" + digest.hex().encode())
            except FileNotFoundError:
                return

    def objects(self) -> Iterator[tuple[bytes, int]]:
        """Digest and size of every object file, by digest."""
        with in_words(self.root):
            folders = sorted(name for name in os.listdir(self._objects) if re.fullmatch(rb"[0-9a-f]{3}", name))
        for folder in folders:
            with in_words(self.root):
                found = []
                with os.scandir(self._objects + b"/" + folder) as items:
                    for item in items:
                        if _DIGEST.fullmatch(item.name) and item.name.startswith(folder):
                            state = item.stat(follow_symlinks=False)
                            if stat.S_ISREG(state.st_mode):
                                found.append((bytes.fromhex(item.name.decode()), state.st_size))
            yield from sorted(found)

    def catalogue_copies(self, kept: bool = True) -> list[bytes]:
        """Paths of the catalogue's copy and, if ``kept``, of those that are kept beside it; there may be none."""
        with in_words(self.root):
            return find_copies(self.root, kept)

    def save_catalogue(
        self, write_copy: Callable[[bytes], None], must_be_kept: Callable[[bytes], bool] = lambda _path: False
    ) -> bytes:
        """Durably replace the disk's copy of the catalogue, its README and its restore script.

        One that is foreign, broken, of a newer program or ``must_be_kept`` is kept under another name: which (empty: none).
        """
        identity = self.identity()
        with in_words(self.root):
            kept = replace_copy(self.root, write_copy, must_be_kept)
            write_leaflets(self.root, identity)
            self._flush([self.root])
        return kept

    def flush(self) -> None:
        """Everything written before survives a power cut when this returns."""
        with in_words(self.root):
            self._flush([self._objects, self.root])

    def _write_small(self, path: bytes, content: bytes) -> None:
        try:
            target = _create(path)
            try:
                written = os.write(target, content)
                while written < len(content):
                    written += os.write(target, content[written:])
            finally:
                os.close(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                _unlink(path)
            raise disk_trouble(error, self.root) from error

    def _stage_large(self, descriptor: int, path: bytes, digest: bytes, size: int, pulse: Pulse) -> None:
        buffer = thread_buffer()
        view = memoryview(buffer)
        state = hashlib.sha256()
        total = begun = 0
        sparse = os.fstat(descriptor).st_blocks * 512 < size
        zeros = bytes(CHUNK) if sparse else b""
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        with in_words(self.root):
            target = _create(path)
        finished = False
        try:
            while count := _read_source_into(descriptor, buffer):
                if pulse.is_set():
                    raise Interrupted("stopped while a file was copied; it will be copied again")
                if total + count > size:
                    raise SourceChanged("it grew while it was copied")
                filled = view[:count]
                state.update(filled)
                with in_words(self.root):
                    # Not the view: memoryviews compare byte by byte.
                    if sparse and buffer.startswith(zeros if count == CHUNK else zeros[:count]):
                        os.lseek(target, count, os.SEEK_CUR)
                    else:
                        _write_all(target, filled)
                total += count
                pulse.beat(count)
                if total - begun >= _WRITE_BACK:
                    # Lets the disk begin while we read on, and keeps a big copy from filling the page cache.
                    os.posix_fadvise(target, begun, total - begun, os.POSIX_FADV_DONTNEED)
                    begun = total
            if total != size or state.digest() != digest:
                raise ContentDiffers("its content is not what it was when it was hashed")
            with in_words(self.root):
                if sparse:
                    os.ftruncate(target, size)
                # What was written out early and failed is told to this descriptor for certain.
                os.fsync(target)
            finished = True
        finally:
            os.close(target)
            if not finished:
                self.discard([StagedCopy(digest, size)])

    def _open_object(self, digest: bytes) -> int:
        return os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def _unreadable(self, digest: bytes, size: int, error: OSError) -> CopyVerdict:
        """A bad or missing copy, if the rest of the disk answers; raises DiskTrouble."""
        # A disk that was pulled out still answers from the page cache: only what is read from the disk itself counts.
        # FAT takes folders that it cannot read for empty ones, so what is missing is no proof of an answer either.
        self.forget_cached()
        with in_words(self.root):
            descriptor = os.open(self.root + b"/" + FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                answers = os.read(descriptor, 1)
            finally:
                os.close(descriptor)
            if self._filesystem_type.startswith("fuse"):
                self._prove_that_it_can_be_written()
        if not answers:
            raise disk_trouble(error, self.root) from error
        missing = isinstance(error, FileNotFoundError)
        return CopyVerdict(digest, size, "it is missing" if missing else f"it cannot be read: {error.strerror}")

    def _prove_that_it_can_be_written(self) -> None:
        """What a driver in user space gives to be read may come from memory; what is flushed goes to the disk."""
        path = self._unfinished + b"/answer"
        try:
            descriptor = _create(path)
        except OSError as error:
            if error.errno == errno.EROFS:
                return
            raise
        try:
            os.write(descriptor, b"?")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            _unlink(path)

    def _path(self, digest: bytes) -> bytes:
        name = digest.hex().encode()
        return self._objects + b"/" + name[:3] + b"/" + name

    def _make_folder(self, name: bytes) -> None:
        if name not in self._folders:
            os.makedirs(self._objects + b"/" + name, exist_ok=True)
            self._folders.add(name)

    def _hash(self, path: bytes, pulse: Pulse) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return hash_descriptor(descriptor, os.fstat(descriptor).st_size, pulse)[1]
        finally:
            os.close(descriptor)

    def _flush(self, paths: Iterable[bytes]) -> None:
        if flushes_as_a_whole(self._filesystem_type):
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                flush_filesystem(descriptor)
            finally:
                os.close(descriptor)
        else:
            flush_paths(paths)


def _is_folder(path: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _size_of_file(path: bytes) -> int | None:
    """None where there is no regular file."""
    try:
        state = os.lstat(path)
    except FileNotFoundError:
        return None
    return state.st_size if stat.S_ISREG(state.st_mode) else None


def _create(path: bytes) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _unlink(path: bytes) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _read_source(descriptor: int, count: int) -> bytes:
    try:
        return os.read(descriptor, count)
    except OSError as error:
        raise SourceTrouble(f"it cannot be read: {error.strerror}") from error


def _read_source_into(descriptor: int, buffer: bytearray) -> int:
    try:
        return os.readv(descriptor, [buffer])
    except OSError as error:
        raise SourceTrouble(f"it cannot be read: {error.strerror}") from error
