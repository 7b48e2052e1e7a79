"""The store on one mounted backup disk."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from distbackupd.engine.ports import CopyVerdict, Pulse, StagedCopy
from distbackupd.model.disks import DiskIdentity, Space
from distbackupd.model.errors import DiskFull, DiskReadOnly
from distbackupd.model.text import printable
from distbackupd.store import staging
from distbackupd.store.answering import read_something, write_something
from distbackupd.store.catalogue_copy import find_copies, replace_copy, size_of_copy, write_leaflets
from distbackupd.store.flushing import flush_filesystem, flush_paths, flushes_as_a_whole
from distbackupd.store.identity import FILE_NAME, identity_text, read_identity, write_beside
from distbackupd.store.plain_files import is_folder, make_folder, move_aside, open_file, remove_file
from distbackupd.store.room import space_on
from distbackupd.store.session_token import read_token, write_token
from distbackupd.store.trouble import concerns_the_whole_disk, disk_trouble, in_words, is_full
from distbackupd.streams import hash_descriptor

OBJECTS = b"distbackup-objects"
UNFINISHED = b"distbackup-tmp"
BAD_OBJECTS = b"bad-objects"
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_FOLDER = re.compile(rb"[0-9a-f]{3}")
_OLD_UNFINISHED = re.compile(
    rb"distbackup-tmp\.\d+\.\d+|"
    rb"(distbackup-(disk|session)\.json|distbackup\.sqlite|README\.txt|distbackup-restore\.py)\.new"
)


class FolderStore:
    """See :class:`distbackupd.engine.ports.DiskStore`. ``root`` is where the layout lies; ``device``: a node in /dev."""

    def __init__(self, root: bytes, filesystem_type: str, device: str = "") -> None:
        self.root = root.rstrip(b"/") or b"/"
        self._device = device
        self._filesystem_type = filesystem_type
        self._objects = self.root + b"/" + OBJECTS
        self._unfinished = self.root + b"/" + UNFINISHED
        self._bad = self.root + b"/" + BAD_OBJECTS
        self._folders: set[bytes] = set()
        """Those of the 4096 folders that are surely there."""

    def identity(self) -> DiskIdentity | None:
        """What the disk says it is; None where it says nothing. Raises DiskNotOurs when what it says is unreadable."""
        with in_words(self.root):
            return read_identity(self.root)

    def write_identity(self, identity: DiskIdentity) -> None:
        """Durably make this a backup disk, or rename it."""
        with in_words(self.root):
            write_beside(self.root + b"/" + FILE_NAME, identity_text(identity), self._bad)

    def token(self) -> str:
        """What the last session left on the disk; empty where there is none that can be read."""
        return read_token(self.root)

    def leave_token(self, token: str) -> None:
        """Leave another token, durably."""
        with in_words(self.root):
            write_token(self.root, token, self._bad)

    def prepare(self) -> None:
        """Check that the disk can be written, and make the layout's folders. Raises DiskReadOnly, DiskTrouble."""
        with in_words(self.root):
            if os.statvfs(self.root).f_flag & os.ST_RDONLY:
                raise DiskReadOnly(
                    f"the disk at {printable(self.root)} is read-only; nothing was changed on it: "
                    "look for its write-protect switch, or check its file system"
                )
            for folder in (self._objects, self._unfinished):
                make_folder(folder, self._bad)
            self._folders = {name for name, _ in self._real_folders()}

    def space(self) -> Space:
        """Room as the file system tells it now."""
        with in_words(self.root):
            folders = len(self._folders) or sum(1 for _ in self._real_folders())
            return space_on(self.root, self._filesystem_type, folders, size_of_copy(self.root))

    def leftovers(self, sizes: Callable[[Sequence[bytes]], Mapping[bytes, int]], pulse: Pulse) -> list[StagedCopy]:
        """Complete copies that an interrupted session left unfinished; all other leftovers are removed."""
        with in_words(self.root):
            old = [self.root + b"/" + name for name in os.listdir(self.root) if _OLD_UNFINISHED.fullmatch(name)]
            # A folder is nothing that this program puts there.
            names = [name for name in os.listdir(self._unfinished) if not is_folder(self._unfinished + b"/" + name)]
        wanted = sizes([bytes.fromhex(name.decode()) for name in names if _DIGEST.fullmatch(name)])
        kept = []
        for name in names:
            digest = bytes.fromhex(name.decode()) if _DIGEST.fullmatch(name) else b""
            size = wanted.get(digest)
            if size is not None and self._is_whole(self._unfinished + b"/" + name, digest, size, pulse):
                kept.append(StagedCopy(digest, size))
            else:
                old.append(self._unfinished + b"/" + name)
        self._remove(old)
        return kept

    def stage_as_it_is(self, descriptor: int, size: int, pulse: Pulse) -> StagedCopy:
        """Copy at the most ``size`` bytes, whatever they are, hashing on the way. Thread-safe."""
        path = self._unfinished + b"/restless-%d" % threading.get_ident()
        digest, size = staging.stage_as_it_is(descriptor, path, self._bad, self.root, size, pulse)
        with in_words(self.root):
            os.rename(path, self._unfinished_path(digest))
        return StagedCopy(digest, size)

    def stage(self, descriptor: int, digest: bytes, size: int, pulse: Pulse) -> StagedCopy:
        """Copy from ``descriptor`` to a temporary file, hashing on the way. Thread-safe."""
        staging.stage(descriptor, self._unfinished_path(digest), self._bad, self.root, digest, size, pulse)
        return StagedCopy(digest, size)

    def commit(self, staged: Sequence[StagedCopy]) -> frozenset[bytes]:
        """Make staged copies durable under their final names; the digests of those whose place is damaged.

        Raises DiskFull when some found no room; the others are durable then too.
        """
        if not staged:
            return frozenset()
        # By name, so that the folders of the layout are gone through once, in order.
        names = sorted(copy.digest.hex().encode() for copy in staged)
        refused: set[bytes] = set()
        errors: list[OSError] = []
        used = []
        with in_words(self.root):
            self._flush(self._unfinished + b"/" + name for name in names)
        for folder, group in groupby(names, lambda name: name[:3]):
            members = list(group)
            try:
                self._make_folder(folder)
            except OSError as error:
                errors.append(error)
                refused.update(members)
                continue
            used.append(self._objects + b"/" + folder)
            for name in members:
                try:
                    self._place(name)
                except OSError as error:
                    errors.append(error)
                    refused.add(name)
        full = next((error for error in errors if is_full(error)), None)
        if full is None:
            self._only_these(errors)
        with in_words(self.root):
            self._flush([self._objects, self._unfinished, *used])
        unplaced = frozenset(bytes.fromhex(name.decode()) for name in refused)
        self.discard([copy for copy in staged if copy.digest in unplaced])
        if full is not None:
            trouble = disk_trouble(full, self.root)
            assert isinstance(trouble, DiskFull)
            trouble.unplaced = unplaced
            raise trouble from full
        return unplaced

    def discard(self, staged: Sequence[StagedCopy]) -> None:
        """Remove staged copies; never fails."""
        for copy in staged:
            with contextlib.suppress(OSError):
                remove_file(self._unfinished_path(copy.digest), self._bad)

    def remove(self, digests: Iterable[bytes]) -> None:
        """Remove objects; one that is not there is no error, and one that cannot be removed stays."""
        paths = [self._path(digest) for digest in digests]
        self._remove(paths)
        # A folder takes an inode and blocks too, and the disk may have few of either.
        for folder in {os.path.dirname(path) for path in paths}:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
                self._folders.discard(os.path.basename(folder))

    def size_of(self, digest: bytes) -> int | None:
        """Size of the object file, None where there is none, or nothing that could be one."""
        try:
            state = os.lstat(self._path(digest))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            self.must_answer()
            return None
        return state.st_size if stat.S_ISREG(state.st_mode) else None

    def open_object(self, digest: bytes) -> int:
        """A descriptor to read an object from; raises OSError where this one cannot be opened, DiskTrouble."""
        try:
            return self._open(digest)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError:
            self.must_answer()
            raise

    def must_answer(self, by_writing: bool = False) -> None:
        """Make sure that the disk itself still answers. Raises DiskTrouble."""
        # FAT takes folders that it cannot read for empty ones, so what is missing is no proof of an answer.
        self.forget_cached()
        with in_words(self.root):
            read_something(self.root)
            if by_writing:
                write_something(self._unfinished, self._bad)

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
            descriptor = self._open(digest)
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
        """Move a bad object out of the way, into ``bad-objects``; one that is not there, or cannot be moved, stays."""
        try:
            move_aside(self._path(digest), self._bad)
        except OSError as error:
            self._only_these([error])

    def objects(self) -> Iterator[tuple[bytes, int]]:
        """Digest and size of every object file, by digest. What cannot be looked at is left out."""
        with in_words(self.root):
            folders = sorted(name for name, _ in self._real_folders())
        for folder in folders:
            found = []
            # One folder or file that cannot be looked at is no reason not to see the others.
            with contextlib.suppress(OSError), os.scandir(self._objects + b"/" + folder) as items:
                for item in items:
                    if _DIGEST.fullmatch(item.name) and item.name.startswith(folder):
                        size = self.size_of(digest := bytes.fromhex(item.name.decode()))
                        if size is not None:
                            found.append((digest, size))
            yield from sorted(found)

    def folder_times(self) -> dict[int, int]:
        """When each of the layout's folders (0 to 4095) was changed, in nanoseconds; those that are no folders are not."""
        times = {}
        with in_words(self.root):
            folders = sorted(self._real_folders(), key=lambda folder: folder[1])
        for name, _ in folders:
            with contextlib.suppress(OSError):
                state = os.lstat(self._objects + b"/" + name)
                if stat.S_ISDIR(state.st_mode):
                    times[int(name, 16)] = state.st_mtime_ns
        return times

    def missing_in(self, folder: int, digests: Collection[bytes]) -> list[bytes]:
        """Of these objects of one folder (0 to 4095) those whose files are not there, or are no files."""
        name = b"%03x" % folder
        wanted = {digest.hex().encode(): digest for digest in digests}
        try:
            self._look_at_folder(name)
            with os.scandir(self._objects + b"/" + name) as items:
                for item in items:
                    if item.name in wanted and item.is_file(follow_symlinks=False):
                        del wanted[item.name]
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            # Where a folder cannot be listed, files that are asked for by name may be there all the same.
            return [digest for digest in wanted.values() if self.size_of(digest) is None]
        return list(wanted.values())

    def catalogue_copies(self, kept: bool = True) -> list[bytes]:
        """Paths of the catalogue's copy and, if ``kept``, of those that are kept beside it; there may be none."""
        with in_words(self.root):
            return find_copies(self.root, kept)

    def save_catalogue(
        self,
        write_copy: Callable[[bytes], None],
        must_be_kept: Callable[[bytes], bool] = lambda _path: False,
        spare: bytes = b"",
    ) -> bytes:
        """Durably replace the disk's copy of the catalogue, its README and its restore script.

        One that is foreign, broken, of a newer program or ``must_be_kept`` is kept under another name: which (empty: none).
        ``spare``: a path elsewhere for the new one while there is no room for both.
        """
        identity = self.identity()
        with in_words(self.root):
            kept = replace_copy(self.root, write_copy, must_be_kept, self._bad, spare)
            write_leaflets(self.root, identity, self._bad)
            self._flush([self.root])
        return kept

    def flush(self) -> None:
        """Everything written before survives a power cut when this returns."""
        with in_words(self.root):
            self._flush([self._objects, self.root])

    def _real_folders(self) -> Iterator[tuple[bytes, int]]:
        """Names and inodes of those of the layout's folders that are folders. Raises OSError."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._objects) as items:
            for item in items:
                if _FOLDER.fullmatch(item.name) and item.is_dir(follow_symlinks=False):
                    yield item.name, item.inode()

    def _open(self, digest: bytes) -> int:
        path = self._path(digest)
        self._look_at_folder(digest.hex()[:3].encode())
        return open_file(path)

    def _look_at_folder(self, name: bytes) -> None:
        """Raises OSError unless it is a real folder: not through a link to somewhere else."""
        if name not in self._folders:
            if not stat.S_ISDIR(os.lstat(self._objects + b"/" + name).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self._folders.add(name)

    def _is_whole(self, path: bytes, digest: bytes, size: int, pulse: Pulse) -> bool:
        try:
            descriptor = open_file(path)
        except OSError:
            return False
        try:
            return os.fstat(descriptor).st_size == size and hash_descriptor(descriptor, size, pulse)[1] == digest
        except OSError as error:
            self._only_these([error])
            return False
        finally:
            os.close(descriptor)

    def _unreadable(self, digest: bytes, size: int, error: OSError) -> CopyVerdict:
        """A bad or missing copy, if the rest of the disk answers; raises DiskTrouble."""
        # What a driver in user space gives to be read may come from memory; what is flushed goes to the disk.
        self.must_answer(by_writing=self._filesystem_type.startswith("fuse"))
        missing = isinstance(error, FileNotFoundError)
        return CopyVerdict(digest, size, "it is missing" if missing else f"it cannot be read: {error.strerror}")

    def _remove(self, paths: Iterable[bytes]) -> None:
        errors = []
        for path in paths:
            try:
                remove_file(path, self._bad)
            except OSError as error:
                errors.append(error)
        self._only_these(errors)

    def _only_these(self, errors: Sequence[OSError]) -> None:
        """Make sure that the errors concern single files and folders, and the disk is well but for those.

        Raises DiskTrouble.
        """
        for error in errors:
            if concerns_the_whole_disk(error):
                raise disk_trouble(error, self.root) from error
        if errors:
            self.must_answer(by_writing=True)

    def _make_folder(self, name: bytes) -> None:
        """See to it that the folder is there; what is no folder in its place is moved to ``bad-objects``. Raises OSError."""
        if name not in self._folders:
            make_folder(self._objects + b"/" + name, self._bad)
            self._folders.add(name)

    def _place(self, name: bytes) -> None:
        """Give a flushed copy its final name. Raises OSError."""
        old, new = self._unfinished + b"/" + name, self._objects + b"/" + name[:3] + b"/" + name
        try:
            os.rename(old, new)
        except OSError:
            # A folder in the object's place, or something else in the place of its folder since that was looked at.
            make_folder(os.path.dirname(new), self._bad)
            if is_folder(new):
                move_aside(new, self._bad)
            os.rename(old, new)

    def _path(self, digest: bytes) -> bytes:
        name = digest.hex().encode()
        return self._objects + b"/" + name[:3] + b"/" + name

    def _unfinished_path(self, digest: bytes) -> bytes:
        return self._unfinished + b"/" + digest.hex().encode()

    def _flush(self, paths: Iterable[bytes]) -> None:
        if flushes_as_a_whole(self._filesystem_type):
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                flush_filesystem(descriptor)
            finally:
                os.close(descriptor)
        else:
            flush_paths(paths)
