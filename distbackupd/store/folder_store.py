"""The store on one mounted backup disk."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from distbackupd.beneath import mount_of
from distbackupd.engine.ports import CopyVerdict, FolderDifference, Pulse, StagedCopy
from distbackupd.model.disks import DiskIdentity, Footing, Space
from distbackupd.model.errors import DiskFull
from distbackupd.store import staging
from distbackupd.store.answering import read_something, write_something
from distbackupd.store.catalogue_copy import (
    CATALOGUE,
    README,
    RESTORE_SCRIPT,
    find_copies,
    open_copy,
    replace_copy,
    size_of_copy,
    write_leaflets,
)
from distbackupd.store.flushing import flush_device, flush_file, flush_filesystem, is_in_user_space
from distbackupd.store.folders import Folder
from distbackupd.store.identity import FILE_NAME, identity_text, read_identity, write_beside
from distbackupd.store.layout import Layout
from distbackupd.store.plain_files import (
    beside,
    close_file_to_others,
    close_to_others,
    is_file,
    is_folder,
    is_open_to_others,
    make_folder,
    open_file,
    remove_file,
)
from distbackupd.store.room import space_on
from distbackupd.store.session_token import FILE_NAME as TOKEN
from distbackupd.store.session_token import read_token, write_token
from distbackupd.store.trouble import concerns_the_whole_disk, disk_trouble, in_words, is_full, read_only
from distbackupd.streams import hash_descriptor

_DIGEST = re.compile(rb"[0-9a-f]{64}")
_REPLACED = (FILE_NAME, TOKEN, CATALOGUE, README, RESTORE_SCRIPT)
_MISSING = (FileNotFoundError, NotADirectoryError)
_OLD_UNFINISHED = re.compile(rb"distbackup-tmp\.\d+\.\d+")


class FolderStore:
    """See :class:`distbackupd.engine.ports.DiskStore`. ``root`` is where the layout lies; ``device``: a node in /dev.

    The root is opened when it is first needed, and everything is reached beneath it until :meth:`close`.
    """

    def __init__(self, root: bytes, filesystem_type: str, device: str = "", in_user_space: bool | None = None) -> None:
        """``in_user_space``: whether its driver is there; None: the file system is asked when it matters."""
        self.root = root.rstrip(b"/") or b"/"
        self._device = device
        self._filesystem_type = filesystem_type
        self._driver_in_user_space = in_user_space
        self._layout = Layout(self.root)
        self._desk: staging.Desk | None = None
        self._changed = False
        """Whether anything was written, or tried to be, since this was made."""

    def close(self) -> None:
        """Let go of the disk, so that it can be unmounted."""
        self._desk = None
        self._layout.close()

    def footing(self) -> Footing | None:
        """Its top folder, as it is held open; None: there is no folder."""
        with in_words(self.root):
            try:
                root = self._layout.root
            except (FileNotFoundError, NotADirectoryError):
                return None
            return Footing(root.state.st_uid, root.state.st_mode, root.inode, mount_of(root.descriptor))

    def identity(self) -> DiskIdentity | None:
        """What the disk says it is; None where it says nothing. Raises DiskNotOurs when what it says is unreadable."""
        with in_words(self.root):
            try:
                root = self._layout.root
            except (FileNotFoundError, NotADirectoryError):
                return None
            return read_identity(root, self.root)

    def write_identity(self, identity: DiskIdentity) -> None:
        """Durably make this a backup disk, or rename it."""
        with in_words(self.root):
            self._must_be_writable()
            write_beside(self._layout.root, FILE_NAME, identity_text(identity), self._layout.aside)

    def token(self) -> str:
        """What the last session left on the disk; empty where there is none that can be read."""
        with in_words(self.root):
            return read_token(self._layout.root)

    def leave_token(self, token: str) -> None:
        """Leave another token, durably."""
        with in_words(self.root):
            write_token(self._layout.root, token, self._layout.aside)

    def prepare(self) -> None:
        """Check that the disk can be written, and make the layout's folders, for nobody else to use.

        What a process that died was about to put in the place of one of our files goes.

        Raises DiskReadOnly, DiskTrouble.
        """
        with in_words(self.root):
            self._must_be_writable()
            self._desk = None
            self._layout.prepare()
            root = self._layout.root
            for name in _REPLACED:
                remove_file(root, beside(name), self._layout.aside)
            for name in (FILE_NAME, *find_copies(root, kept=True)):
                with contextlib.suppress(OSError):
                    close_file_to_others(root, name)

    def space(self) -> Space:
        """Room as the file system tells it now."""
        with in_words(self.root):
            root = self._layout.root
            return space_on(root.descriptor, self._filesystem_type, self._layout.count_folders(), size_of_copy(root))

    def leftovers(self, sizes: Callable[[Sequence[bytes]], Mapping[bytes, int]], pulse: Pulse) -> list[StagedCopy]:
        """Complete copies that an interrupted session left unfinished; all other leftovers are removed."""
        with in_words(self.root):
            root, unfinished = self._layout.root, self._layout.unfinished
            old = [(root, name) for name in root.names() if _OLD_UNFINISHED.fullmatch(name)]
            # A folder is nothing that this program puts there.
            names = [name for name in unfinished.names() if not is_folder(unfinished, name)]
        wanted = sizes([bytes.fromhex(name.decode()) for name in names if _DIGEST.fullmatch(name)])
        self._settle((unfinished, name) for name in names if _DIGEST.fullmatch(name))
        kept = []
        for name in names:
            digest = bytes.fromhex(name.decode()) if _DIGEST.fullmatch(name) else b""
            size = wanted.get(digest)
            if size is not None and self._is_whole(unfinished, name, size, pulse):
                kept.append(StagedCopy(digest, size))
            else:
                old.append((unfinished, name))
        self._remove(old)
        return kept

    def stage_as_it_is(self, descriptor: int, size: int, pulse: Pulse) -> StagedCopy:
        """Copy at the most ``size`` bytes, whatever they are, hashing on the way. Thread-safe."""
        name, desk = b"restless-%d" % threading.get_ident(), self._where_to_write()
        digest, size = staging.stage_as_it_is(descriptor, desk, name, size, pulse)
        with in_words(self.root):
            here = desk.folder.descriptor
            os.rename(name, digest.hex(), src_dir_fd=here, dst_dir_fd=here)
        return StagedCopy(digest, size)

    def stage(self, descriptor: int, digest: bytes, size: int, pulse: Pulse) -> StagedCopy:
        """Copy from ``descriptor`` to a temporary file, hashing on the way. Thread-safe."""
        staging.stage(descriptor, self._where_to_write(), digest, size, pulse)
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
        used: list[Folder] = []
        with in_words(self.root):
            self._layout.must_stand()
            unfinished = self._layout.unfinished
            self._flush(files=[(unfinished, name) for name in names])
        for number, group in groupby(names, lambda name: name[:3]):
            members = list(group)
            try:
                folder = self._layout.make_folder(number)
            except OSError as error:
                errors.append(error)
                refused.update(members)
                continue
            used.append(folder)
            for name in members:
                try:
                    used[-1] = folder = self._place(name, folder)
                except OSError as error:
                    errors.append(error)
                    refused.add(name)
        full = next((error for error in errors if is_full(error)), None)
        if full is None:
            self._only_these(errors)
        with in_words(self.root):
            self._flush([self._layout.objects, unfinished, *used])
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
                remove_file(self._layout.unfinished, copy.digest.hex().encode(), self._layout.aside)

    def remove(self, digests: Iterable[bytes]) -> None:
        """Remove objects; one that is not there is no error, and one that cannot be removed stays."""
        names = sorted(digest.hex().encode() for digest in digests)
        for number, group in groupby(names, lambda name: name[:3]):
            try:
                folder = self._layout.folder(number)
            except OSError as error:
                self._only_these([] if isinstance(error, _MISSING) else [error])
                continue
            self._remove((folder, name) for name in group)
            # A folder takes an inode and blocks too, and the disk may have few of either.
            self._layout.remove_if_empty(number)

    def size_of(self, digest: bytes) -> int | None:
        """Size of the object file, None where there is none, or nothing that could be one."""
        state = self._state_of_file(digest)
        return None if state is None else state.st_size

    def open_object(self, digest: bytes) -> int:
        """A descriptor to read an object from; raises OSError where this one cannot be opened, DiskTrouble."""
        try:
            return self._open(digest)
        except _MISSING:
            raise
        except OSError:
            self.must_answer()
            raise

    def must_answer(self, by_writing: bool = False) -> None:
        """Make sure that the disk itself still answers. Raises DiskTrouble."""
        # FAT takes folders that it cannot read for empty ones, so what is missing is no proof of an answer.
        self.forget_cached()
        with in_words(self.root):
            read_something(self._layout.root)
            if by_writing:
                write_something(self._layout.unfinished, self._layout.aside)

    def settle(self, digests: Sequence[bytes]) -> None:
        """What lies under these objects' names survives a power cut from now on, and is read from the disk itself."""
        files = []
        for name in sorted(digest.hex().encode() for digest in digests):
            with contextlib.suppress(OSError):  # where it cannot be reached it cannot be read either
                files.append((self._layout.folder(name[:3]), name))
        self._settle(files)

    def holds_unfinished(self) -> bool:
        """Whether a session left something unfinished there."""
        with in_words(self.root):
            try:
                return bool(self._layout.unfinished.names())
            except _MISSING:
                return False

    def forget_cached(self) -> None:
        """A driver in user space reads through the cache of the block device; the kernel's own drivers do not."""
        if not self._in_user_space:
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
            # clean, and nothing here is dirty: a copy is flushed before it is recorded, and others are settled first.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            state = os.fstat(descriptor)
            close_to_others(descriptor, state)
            found = state.st_size
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
                inodes[digest] = self._state_of(digest).st_ino
            except OSError:
                # One damaged inode is no reason not to read the others.
                inodes[digest] = 0
        return sorted(inodes, key=lambda digest: inodes[digest])

    def set_aside(self, digest: bytes) -> None:
        """Move a bad object out of the way, into ``bad-objects``; one that is not there, or cannot be moved, stays."""
        name = digest.hex().encode()
        self._changed = True
        try:
            self._layout.aside.take(self._layout.folder(name[:3]), name)
        except _MISSING:
            return
        except OSError as error:
            # Where it stays on a full disk, a good copy takes its place.
            self._only_these([] if is_full(error) else [error])

    def objects(self) -> Iterator[tuple[bytes, int]]:
        """Digest and size of every object file, by digest. What cannot be looked at is left out.

        What older programs left for others to read is for its owner alone from then on.
        """
        with in_words(self.root):
            folders = sorted(name for name, _ in self._layout.folders())
        for folder in folders:
            found = []
            # One folder or file that cannot be looked at is no reason not to see the others.
            with contextlib.suppress(OSError):
                held = self._layout.folder(folder)
                for name in held.names():
                    if _DIGEST.fullmatch(name) and name.startswith(folder):
                        state = self._state_of_file(digest := bytes.fromhex(name.decode()))
                        if state is not None:
                            found.append((digest, state.st_size))
                            if is_open_to_others(state):
                                with contextlib.suppress(OSError):
                                    close_file_to_others(held, name)
            yield from sorted(found)

    def folder_times(self) -> dict[int, int]:
        """When each of the layout's folders (0 to 4095) was changed, in nanoseconds; those that are no folders are not."""
        times = {}
        with in_words(self.root):
            folders = sorted(self._layout.folders(), key=lambda folder: folder[1])
            objects = self._layout.objects if folders else None
        for name, _ in folders:
            assert objects is not None
            with contextlib.suppress(OSError):
                state = os.stat(name, dir_fd=objects.descriptor, follow_symlinks=False)
                if stat.S_ISDIR(state.st_mode):
                    times[int(name, 16)] = state.st_mtime_ns
        return times

    def differences_in(self, folder: int, digests: Collection[bytes]) -> FolderDifference:
        """What of these objects of one folder (0 to 4095) has no file there, and which others have one."""
        number = b"%03x" % folder
        wanted = {digest.hex().encode(): digest for digest in digests}
        strays = []
        try:
            with self._layout.folder(number).listed() as items:
                for item in items:
                    name = os.fsencode(item.name)
                    if name in wanted:
                        if item.is_file(follow_symlinks=False):
                            del wanted[name]
                    elif _DIGEST.fullmatch(name) and name.startswith(number) and item.is_file(follow_symlinks=False):
                        strays.append(bytes.fromhex(item.name))
        except _MISSING:
            pass
        except OSError:
            # Where a folder cannot be listed, files that are asked for by name may be there all the same.
            return FolderDifference([digest for digest in wanted.values() if self.size_of(digest) is None], [])
        return FolderDifference(list(wanted.values()), strays)

    def catalogue_copies(self, kept: bool = True) -> list[bytes]:
        """Names of the catalogue's copy and, if ``kept``, of those that are kept beside it; there may be none."""
        with in_words(self.root):
            return find_copies(self._layout.root, kept)

    def open_catalogue_copy(self, name: bytes) -> int:
        """A descriptor to read one of them from; raises OSError where that one cannot be opened."""
        return open_copy(self._layout.root, name)

    def save_catalogue(
        self,
        write_copy: Callable[[bytes], None],
        must_be_kept: Callable[[int], bool] = lambda _descriptor: False,
        spare: bytes = b"",
        assure: Callable[[], object] = lambda: None,
    ) -> bytes:
        """Durably replace the disk's copy of the catalogue, its README and its restore script. See the port."""
        identity = self.identity()
        with in_words(self.root):
            root, aside = self._layout.root, self._layout.aside
            kept = replace_copy(root, write_copy, must_be_kept, aside, spare, assure, lambda: self._flush([root]))
            write_leaflets(root, identity, aside)
            self._flush([root])
        return self.root.rstrip(b"/") + b"/" + kept if kept else b""

    def flush(self) -> None:
        """Everything written before survives a power cut when this returns."""
        with in_words(self.root):
            self._flush([self._layout.objects, self._layout.root])

    def _must_be_writable(self) -> None:
        """Before the first write, and where it may be one. Raises DiskReadOnly."""
        if os.fstatvfs(self._layout.root.descriptor).f_flag & os.ST_RDONLY:
            raise read_only(self.root, self._changed)
        self._changed = True

    def _where_to_write(self) -> staging.Desk:
        if self._desk is None:
            with in_words(self.root):
                self._desk = staging.Desk(self._layout.unfinished, self._layout.aside, self.root)
        return self._desk

    def _open(self, digest: bytes) -> int:
        name = digest.hex().encode()
        return open_file(self._layout.folder(name[:3]), name)

    def _state_of_file(self, digest: bytes) -> os.stat_result | None:
        """None where there is no file. Raises DiskTrouble."""
        try:
            state = self._state_of(digest)
        except _MISSING:
            return None
        except OSError:
            self.must_answer()
            return None
        return state if stat.S_ISREG(state.st_mode) else None

    def _state_of(self, digest: bytes) -> os.stat_result:
        name = digest.hex()
        folder = self._layout.folder(name[:3].encode())
        return os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)

    def _is_whole(self, folder: Folder, name: bytes, size: int, pulse: Pulse) -> bool:
        try:
            descriptor = open_file(folder, name)
        except OSError:
            return False
        try:
            # A write that failed leaves pages behind that are clean and look good.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            found = os.fstat(descriptor).st_size
            return found == size and hash_descriptor(descriptor, size, pulse)[1].hex().encode() == name
        except OSError as error:
            self._only_these([error])
            return False
        finally:
            os.close(descriptor)

    def _unreadable(self, digest: bytes, size: int, error: OSError) -> CopyVerdict:
        """A bad or missing copy, if the rest of the disk answers; raises DiskTrouble."""
        # What a driver in user space gives to be read may come from memory; what is flushed goes to the disk.
        self.must_answer(by_writing=self._in_user_space)
        missing = isinstance(error, FileNotFoundError)
        return CopyVerdict(digest, size, "it is missing" if missing else f"it cannot be read: {error.strerror}")

    def _remove(self, files: Iterable[tuple[Folder, bytes]]) -> None:
        errors = []
        for folder, name in files:
            self._changed = True
            try:
                remove_file(folder, name, self._layout.aside)
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

    def _place(self, name: bytes, folder: Folder) -> Folder:
        """Give a flushed copy its final name in its folder, or in the new one that had to be made. Raises OSError."""
        old = self._layout.unfinished.descriptor
        try:
            os.rename(name, name, src_dir_fd=old, dst_dir_fd=folder.descriptor)
        except OSError:
            # A folder in the object's place, or something else in the place of its folder since that was looked at.
            folder = make_folder(self._layout.objects, name[:3], self._layout.aside)
            if is_folder(folder, name):
                self._layout.aside.take(folder, name)
            os.rename(name, name, src_dir_fd=old, dst_dir_fd=folder.descriptor)
        return folder

    @property
    def _in_user_space(self) -> bool:
        if self._driver_in_user_space is None:
            with in_words(self.root):
                self._driver_in_user_space = is_in_user_space(self._layout.root.descriptor)
        return self._driver_in_user_space

    def _settle(self, files: Iterable[tuple[Folder, bytes]]) -> None:
        """These files and their folders survive a power cut, as far as they can, and what is read of them is no memory."""
        folders, errors = {self._layout.root}, []
        for folder, name in files:
            folders.add(folder)
            if self._in_user_space and is_file(folder, name):
                try:
                    flush_file(folder, name)
                except OSError as error:
                    errors.append(error)
        self._only_these(errors)
        with in_words(self.root):
            self._flush(folders)
        self.forget_cached()

    def _flush(self, folders: Iterable[Folder] = (), files: Iterable[tuple[Folder, bytes]] = ()) -> None:
        if not self._in_user_space:
            flush_filesystem(self._layout.root.descriptor, self._filesystem_type)
            return
        for folder, name in files:
            flush_file(folder, name)
        for folder in folders:
            os.fsync(folder.descriptor)
        flush_device(self._device)
