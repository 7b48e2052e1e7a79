"""Writing a restored tree below a folder, and never outside of it.

The restore script that lies on each backup disk (``store.stand_alone``) does the same in its own words, on purpose: it
must run on a machine that has none of this.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pickle
import stat
import tempfile
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from distbackupd.engine.ports import BadContent, EntryRefused, Placement, Pulse, TargetTrouble
from distbackupd.model.errors import UsageError
from distbackupd.model.files import EntryKind, RestoreEntry
from distbackupd.model.text import printable
from distbackupd.sources.confined import ConfinedFolders, checked_name
from distbackupd.sources.restored_content import copy_content, open_object
from distbackupd.sources.restored_metadata import give_metadata, give_metadata_to_new_file, same_time
from distbackupd.streams import CHUNK

_FORMATS = {
    EntryKind.FILE: stat.S_IFREG,
    EntryKind.FOLDER: stat.S_IFDIR,
    EntryKind.SYMBOLIC_LINK: stat.S_IFLNK,
    EntryKind.FIFO: stat.S_IFIFO,
    EntryKind.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryKind.BLOCK_DEVICE: stat.S_IFBLK,
}
_KIND_NAMES = {
    EntryKind.SYMBOLIC_LINK: "symbolic link",
    EntryKind.FIFO: "fifo",
    EntryKind.CHARACTER_DEVICE: "device node",
    EntryKind.BLOCK_DEVICE: "device node",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_GONE = (errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.ENOMEM, errno.EMFILE)
_UNABLE = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)


class FolderTarget:
    """See :class:`distbackupd.engine.ports.RestoreTarget`. The folder is made when something is first written.

    Content is written to a temporary name in the same folder and takes its final name when it is complete, hashed and
    has its metadata; an interrupted restore leaves no half files under final names, and the next one replaces what it
    left under temporary names.
    """

    def __init__(self, root: bytes) -> None:
        self._path = root
        self._lock = threading.Lock()
        self._folders: ConfinedFolders | None = None
        self._root_is_new = False
        self._lost: Counter[str] = Counter()
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the target
        self._spooled = array("Q")

    def __enter__(self) -> FolderTarget:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor."""
        self._spool.close()
        if self._folders is not None:
            self._folders.close()
            self._folders = None

    def make_folder(self, entry: RestoreEntry) -> Placement:
        """Make the folder with a mode that lets nobody else in; its metadata comes with :meth:`finish`."""
        with self._in_words():
            if entry.path == b"/":
                return self._take_root(entry)
            try:
                folder, name = self._locate(entry.path, make=True)
                os.mkdir(name, 0o700, dir_fd=folder)
            except FileExistsError:
                state = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISDIR(state.st_mode):
                    return Placement.IN_THE_WAY
                self._let_ourselves_in(folder, name, state)
                self._remember(entry)
                return Placement.LEFT_ALONE
            except NotADirectoryError:
                return Placement.IN_THE_WAY
            self._remember(entry)
        return Placement.RESTORED

    def place(self, entry: RestoreEntry, open_content: Callable[[], int] | None, pulse: Pulse, overwrite: bool) -> Placement:
        """Restore an entry that is no folder, whole or not at all. See the port."""
        try:
            return self._place(entry, open_content, pulse, overwrite)
        except OSError as error:
            raise self._told(error) from error

    def link(self, entry: RestoreEntry, first: bytes, overwrite: bool) -> Placement:
        """Make the entry another name of what was restored at ``first``; NOT_KEPT where that cannot be."""
        with self._in_words():
            try:
                source = self._open_entry(*self._locate(first))
            except (FileNotFoundError, NotADirectoryError):
                return Placement.NOT_KEPT
            try:
                return self._link_descriptor(source, entry, overwrite, relink=True)
            except OSError as error:
                if error.errno not in (*_UNABLE, errno.EMLINK, errno.EXDEV, errno.ENOENT):
                    raise
                self._lose("hard link")
                return Placement.NOT_KEPT
            finally:
                os.close(source)

    def link_content(self, entry: RestoreEntry, open_content: Callable[[], int], overwrite: bool) -> Placement:
        """Make the entry a name of the object's own file, unread. Raises UsageError across file systems, BadContent."""
        with self._in_words():
            source = open_object(open_content)
            try:
                if os.fstat(source).st_size != entry.size:
                    raise BadContent("its size is not what the catalogue says")
                placement = self._link_descriptor(source, entry, overwrite, relink=False)
            except OSError as error:
                if error.errno not in (*_UNABLE, errno.EXDEV):
                    raise
                raise UsageError(
                    f"{printable(self._path)} cannot hold hard links to the disk's objects; nothing more was restored: "
                    "leave --link out, or name a folder on the backup disk itself"
                ) from error
            finally:
                os.close(source)
        self._lose("metadata of a file that is the object itself")
        return placement

    def foresee(self, entry: RestoreEntry, overwrite: bool) -> Placement:
        """What would become of the entry. Changes nothing."""
        if self._folders is None and not os.path.isdir(self._path):
            return Placement.RESTORED
        with self._in_words():
            if entry.path == b"/":
                return Placement.LEFT_ALONE
            try:
                folder, name = self._locate(entry.path)
            except FileNotFoundError:
                return Placement.RESTORED
            except NotADirectoryError:
                return Placement.IN_THE_WAY
            state = _state(folder, name)
            return Placement.RESTORED if state is None else _compare(folder, name, state, entry, overwrite)

    def exists_below(self, folder: bytes, path: bytes) -> bool:
        """Whether anything stands at the virtual ``path`` below another real folder."""
        try:
            os.lstat(folder + path)
        except (OSError, ValueError):
            return False
        return True

    def finish(self) -> Mapping[str, int]:
        """Give all folders their metadata, what was made last first. What could not be kept, and how often."""
        while self._spooled:
            self._spool.seek(self._spooled.pop())
            entry: RestoreEntry = pickle.load(self._spool)  # noqa: S301 - our own file, which has no name
            try:
                with self._in_words():
                    descriptor = self._below().open(entry.path)
                    give_metadata(b"/proc/self/fd/%d" % descriptor, os.fstat(descriptor), entry, self._lose)
            except EntryRefused:
                self._lose("metadata of a folder")
        return dict(self._lost)

    def _place(
        self, entry: RestoreEntry, open_content: Callable[[], int] | None, pulse: Pulse, overwrite: bool
    ) -> Placement:
        try:
            folder, name = self._locate(entry.path, make=True)
        except NotADirectoryError:
            return Placement.IN_THE_WAY
        state = _state(folder, name)
        if state is not None:
            placement = _compare(folder, name, state, entry, overwrite)
            if placement is Placement.LEFT_ALONE:
                self._give_metadata(folder, name, entry)
            if placement is not Placement.RESTORED:
                return placement
        temporary = _temporary(name)
        try:
            if entry.kind is EntryKind.FILE:
                self._write_file(folder, temporary, entry, open_content, pulse)
            elif not self._make_special(folder, temporary, entry):
                return Placement.NOT_KEPT
            if entry.size > CHUNK and state is None and not overwrite and _state(folder, name) is not None:
                # Somebody put it there while the content was copied, which can take hours.
                _discard(folder, temporary)
                return Placement.IN_THE_WAY
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            _discard(folder, temporary)
            raise
        return Placement.RESTORED

    def _below(self) -> ConfinedFolders:
        """The folders below the root; the root is made if it is missing."""
        with self._lock:
            if self._folders is None:
                try:
                    if not os.path.isdir(self._path):
                        os.makedirs(self._path)
                    self._root_is_new = not os.listdir(self._path)
                    self._folders = ConfinedFolders(os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
                except OSError as error:
                    raise TargetTrouble(
                        f"{printable(self._path)} cannot be restored to: {error.strerror}; nothing was restored"
                    ) from error
            return self._folders

    def _locate(self, path: bytes, make: bool = False) -> tuple[int, bytes]:
        """The folder that holds the entry, valid until this thread's next call, and its name."""
        parent, _, name = path.rpartition(b"/")
        checked_name(name)
        return (self._folders or self._below()).open(parent or b"/", make), name

    def _take_root(self, entry: RestoreEntry) -> Placement:
        """A source mapped to '/' describes the destination itself, but nobody wants their home's mode changed by that."""
        root = self._below().open(b"/")
        state = os.fstat(root)
        present = (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode))
        if self._root_is_new or present == (entry.attributes.uid, entry.attributes.gid, entry.attributes.mode):
            self._remember(entry)
        return Placement.LEFT_ALONE

    def _remember(self, entry: RestoreEntry) -> None:
        """Keep the folder's metadata for :meth:`finish` in a file: there may be a million folders."""
        self._spooled.append(self._spool.seek(0, os.SEEK_END))
        pickle.dump(entry, self._spool, pickle.HIGHEST_PROTOCOL)

    def _let_ourselves_in(self, folder: int, name: bytes, state: os.stat_result) -> None:
        """An ordinary user cannot write into a folder that was restored read-only from an earlier disk."""
        if state.st_mode & 0o700 != 0o700 and state.st_uid == os.geteuid():
            with self._opened(folder, name) as descriptor, contextlib.suppress(OSError):
                os.chmod(b"/proc/self/fd/%d" % descriptor, stat.S_IMODE(state.st_mode) | 0o700)

    def _write_file(
        self, folder: int, temporary: bytes, entry: RestoreEntry, open_content: Callable[[], int] | None, pulse: Pulse
    ) -> None:
        content = open_object(open_content) if open_content is not None else None
        try:
            descriptor = _create(folder, temporary)
            try:
                if content is not None:
                    copy_content(content, descriptor, entry, pulse)
                give_metadata_to_new_file(descriptor, entry, self._lose)
            finally:
                os.close(descriptor)
        finally:
            if content is not None:
                os.close(content)

    def _make_special(self, folder: int, temporary: bytes, entry: RestoreEntry) -> bool:
        """Make a link, fifo or device node; whether the destination can hold it."""
        _discard(folder, temporary)
        try:
            if entry.kind is EntryKind.SYMBOLIC_LINK:
                os.symlink(entry.target, temporary, dir_fd=folder)
            else:
                os.mknod(temporary, 0o600 | _FORMATS[entry.kind], entry.attributes.rdev, dir_fd=folder)
        except (OSError, ValueError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno not in _UNABLE:
                raise
            self._lose(_KIND_NAMES[entry.kind])
            return False
        self._give_metadata(folder, temporary, entry)
        return True

    def _give_metadata(self, folder: int, name: bytes, entry: RestoreEntry) -> None:
        """Give metadata to what stands there now, never through a symbolic link."""
        if entry.kind is EntryKind.SYMBOLIC_LINK:
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            give_metadata(b"/proc/self/fd/%d/%s" % (folder, name), state, entry, self._lose)
            return
        with self._opened(folder, name) as descriptor:
            give_metadata(b"/proc/self/fd/%d" % descriptor, os.fstat(descriptor), entry, self._lose)

    def _link_descriptor(self, source: int, entry: RestoreEntry, overwrite: bool, relink: bool) -> Placement:
        """``relink``: a right file of its own that stands there becomes the link too."""
        try:
            folder, name = self._locate(entry.path, make=True)
        except NotADirectoryError:
            return Placement.IN_THE_WAY
        state = _state(folder, name)
        original = b"/proc/self/fd/%d" % source
        if state is None:
            os.link(original, name, dst_dir_fd=folder, follow_symlinks=True)
            return Placement.RESTORED
        if os.path.samestat(state, os.fstat(source)):
            return Placement.LEFT_ALONE
        placement = _compare(folder, name, state, entry, overwrite)
        if placement is Placement.IN_THE_WAY or (placement is Placement.LEFT_ALONE and not relink):
            return placement
        temporary = _temporary(name)
        _discard(folder, temporary)
        os.link(original, temporary, dst_dir_fd=folder, follow_symlinks=True)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        return Placement.RESTORED

    @contextlib.contextmanager
    def _opened(self, folder: int, name: bytes) -> Iterator[int]:
        descriptor = self._open_entry(folder, name)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_entry(self, folder: int, name: bytes) -> int:
        """A descriptor that stands for the entry itself, whatever kind it is."""
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)

    def _lose(self, kind: str) -> None:
        with self._lock:
            self._lost[kind] += 1

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._told(error) from error

    def _told(self, error: OSError) -> TargetTrouble | EntryRefused:
        place = printable(self._path)
        if error.errno in _FULL:
            return TargetTrouble(
                f"{place} is full; what was restored stays: make room and restore again, what is right is left alone"
            )
        if error.errno in _GONE:
            return TargetTrouble(f"{place} cannot be written: {error.strerror}; what was restored stays")
        return EntryRefused(f"it cannot be written: {error.strerror}")


def _state(folder: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _compare(folder: int, name: bytes, state: os.stat_result, entry: RestoreEntry, overwrite: bool) -> Placement:
    """What is to become of an entry where something stands already; RESTORED: it is to be replaced."""
    right = stat.S_IFMT(state.st_mode) == _FORMATS[entry.kind]
    if right and entry.kind is EntryKind.FILE:
        right = state.st_size == entry.size and same_time(state.st_mtime_ns, entry.mtime_ns)
    elif right and entry.kind is EntryKind.SYMBOLIC_LINK:
        right = os.readlink(name, dir_fd=folder) == entry.target
    elif right and entry.kind in (EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE):
        right = state.st_rdev == entry.attributes.rdev
    if right:
        return Placement.LEFT_ALONE
    if overwrite and not stat.S_ISDIR(state.st_mode) and entry.kind is not EntryKind.FOLDER:
        return Placement.RESTORED
    return Placement.IN_THE_WAY


def _temporary(name: bytes) -> bytes:
    """Always the same for a name, so that the next restore replaces what an interrupted one left."""
    return b".dbtmp~" + hashlib.blake2b(name, digest_size=10).hexdigest().encode()


def _create(folder: int, temporary: bytes) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(temporary, flags, 0o600, dir_fd=folder)
    except FileExistsError:
        os.unlink(temporary, dir_fd=folder)
        return os.open(temporary, flags, 0o600, dir_fd=folder)


def _discard(folder: int, temporary: bytes) -> None:
    with contextlib.suppress(OSError):
        os.unlink(temporary, dir_fd=folder)
