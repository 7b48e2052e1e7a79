"""Writing a restored tree below a folder, and never outside of it.

The restore script that lies on each backup disk (``store.stand_alone``) does the same in its own words, on purpose: it
must run on a machine that has none of this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from distbackupd.engine.ports import BadContent, EntryRefused, NameTaken, Placement, Pulse, TargetTrouble
from distbackupd.model.errors import UsageError
from distbackupd.model.files import EntryKind, InodeFlag, RestoreEntry
from distbackupd.model.text import printable
from distbackupd.sources.confined import ConfinedFolders, checked_name
from distbackupd.sources.restored_content import copy_content, open_object
from distbackupd.sources.restored_flags import give_before_content, give_flags, is_locked_later, unlock
from distbackupd.sources.restored_later import Later
from distbackupd.sources.restored_listings import Listings, Presence
from distbackupd.sources.restored_mark import MARK_NAME, RestoreMark
from distbackupd.sources.restored_metadata import give_metadata, give_metadata_to_new_file
from distbackupd.sources.restored_names import (
    FORMATS,
    Compared,
    compare,
    create,
    discard,
    is_temporary,
    state_of,
    temporary_name,
)
from distbackupd.sources.restored_trouble import UNABLE, answers, may_be_dead, told

_FLAGS = "flag of chattr"
_KIND_NAMES = {
    EntryKind.SYMBOLIC_LINK: "symbolic link",
    EntryKind.FIFO: "fifo",
    EntryKind.CHARACTER_DEVICE: "device node",
    EntryKind.BLOCK_DEVICE: "device node",
}


class FolderTarget:
    """See :class:`distbackupd.engine.ports.RestoreTarget`. The folder is made when something is first written.

    Content is written to a temporary name in the same folder and takes its final name when it is complete, hashed and
    has its metadata; an interrupted restore leaves no half files under final names, and the next one replaces or removes
    what it left under temporary names. What a power cut took back is found by :class:`RestoreMark`.
    """

    def __init__(self, root: bytes) -> None:
        self._path = root
        self._lock = threading.Lock()
        self._folders: ConfinedFolders | None = None
        self._mark: RestoreMark | None = None
        self._root_is_new = False
        self._lost: Counter[str] = Counter()
        self._folders_told: set[int] = set()
        self._genuine: set[bytes] = set()
        self._listings = Listings()
        self._presence = Presence()
        self._compared = Compared()
        self._renaming = tuple(threading.Lock() for _ in range(16))
        self._later = Later()

    def __enter__(self) -> FolderTarget:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor."""
        self._later.close()
        if self._mark is not None:
            self._mark.close()
        if self._folders is not None:
            self._folders.close()
            self._folders = None

    def is_empty(self) -> bool:
        """Whether nothing stands there yet."""
        try:
            with os.scandir(self._path) as names:
                return all(item.name == MARK_NAME for item in names)
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def make_folder(self, entry: RestoreEntry) -> Placement:
        """Make the folder with a mode that lets nobody else in; its metadata comes with :meth:`finish`."""
        with self._in_words():
            if entry.path == b"/":
                return self._take_root(entry)
            try:
                folder, name = self._locate(entry.path, make=True)
                self._begin()
                os.mkdir(name, 0o700, dir_fd=folder)
            except FileExistsError:
                state = os.stat(name, dir_fd=folder, follow_symlinks=False)
                self._refuse_twin(folder, name, state, entry.path)
                if not stat.S_ISDIR(state.st_mode):
                    return Placement.IN_THE_WAY
                self._let_ourselves_in(folder, name, state, entry)
                self._later.add(entry)
                return Placement.LEFT_ALONE
            except NotADirectoryError:
                return Placement.IN_THE_WAY
            self._later.add(entry)
        return Placement.RESTORED

    def place(
        self,
        entry: RestoreEntry,
        open_content: Callable[[], int] | None,
        pulse: Pulse,
        overwrite: bool,
        mend: bool = True,
    ) -> Placement:
        """Restore an entry that is no folder, whole or not at all. See the port."""
        try:
            return self._place(entry, open_content, pulse, overwrite, mend)
        except OSError as error:
            raise told(error, self._path, self._is_alive) from error

    def link(self, entry: RestoreEntry, first: bytes, overwrite: bool) -> Placement:
        """Make the entry another name of what was restored at ``first``; NOT_KEPT where that cannot be."""
        with self._in_words():
            try:
                source = self._open_entry(*self._locate(first))
            except (FileNotFoundError, NotADirectoryError):
                return Placement.NOT_KEPT
            try:
                try:
                    return self._link_descriptor(source, entry, overwrite, relink=True)
                except PermissionError:
                    if not unlock(*self._locate(first), entry):
                        raise
                    self._later.add(entry._replace(path=first))
                    return self._link_descriptor(source, entry, overwrite, relink=True)
            except OSError as error:
                if error.errno not in (errno.EMLINK, errno.EXDEV, errno.ENOENT) and not self._is_unable(error):
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
                if error.errno not in (*UNABLE, errno.EXDEV):
                    raise
                raise UsageError(
                    f"{printable(self._path)} cannot hold hard links to the disk's objects; nothing more was restored: "
                    "leave --link out, or name a folder on the backup disk itself"
                ) from error
            finally:
                os.close(source)
        self._lose("metadata of a file that is the object itself")
        return placement

    def foresee(self, entry: RestoreEntry, overwrite: bool, pulse: Pulse | None = None) -> Placement:
        """What would become of the entry. Changes nothing. See the port."""
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
            state = self._standing(folder, name, entry.path)
            if state is None:
                return Placement.RESTORED
            return compare(folder, name, state, entry, overwrite, self._mark, self._compared, pulse)

    def exists_below(self, folder: bytes, path: bytes) -> bool:
        """Whether anything stands at the virtual ``path``, under just these names, below another real folder."""
        return self._presence.has(folder, path)

    def settle(self) -> None:
        """Now and then, see to it that what was restored so far survives a power cut."""
        if self._mark is not None:
            try:
                self._mark.settle()
            except OSError as error:
                raise told(error, self._path) from error

    def finish(self) -> Mapping[str, int]:
        """Give all folders their metadata, what was made last first. What could not be kept, and how often.

        Locks that ``chattr`` had set come here too, those of files as well: what is locked takes no name and no link.
        """
        self._listings.forget()
        root: RestoreEntry | None = None
        for entry in self._later.take():
            if entry.path == b"/":
                root = entry
            elif entry.kind is EntryKind.FOLDER:
                self._finish_folder(entry)
            else:
                self._lock_file(entry)
        if self._mark is not None:
            try:
                self._mark.end()
            except OSError as error:
                raise told(error, self._path) from error  # what could not be flushed may be lost: no single entry's matter
        if root is not None:
            self._finish_folder(root)
        return dict(self._lost)

    def _finish_folder(self, entry: RestoreEntry) -> None:
        lost: list[str] = []
        try:
            with self._in_words():
                descriptor = self._below().open(entry.path)
                if self._mark is not None and self._mark.was_left:
                    self._remove_leftovers(descriptor, entry.path)
                give_metadata(b"/proc/self/fd/%d" % descriptor, os.fstat(descriptor), entry, lost.append)
                if entry.inode_flags and not give_flags(descriptor, b".", entry.inode_flags):
                    lost.append(_FLAGS)
        except EntryRefused:
            lost.append("metadata of a folder")
        # A folder that several disks fill is finished several times, and told once.
        if lost and hash(entry.path) not in self._folders_told:
            self._folders_told.add(hash(entry.path))
            for kind in lost:
                self._lose(kind)

    def _remove_leftovers(self, folder: int, path: bytes) -> None:
        for name in os.listdir(b"/proc/self/fd/%d" % folder):
            if is_temporary(name) and path.rstrip(b"/") + b"/" + name not in self._genuine:
                discard(folder, name)

    def _begin(self) -> None:
        if self._mark is not None and not self._mark.begun:
            with self._lock:
                self._mark.begin()

    def _place(
        self, entry: RestoreEntry, open_content: Callable[[], int] | None, pulse: Pulse, overwrite: bool, mend: bool
    ) -> Placement:
        try:
            folder, name = self._locate(entry.path, make=True)
        except NotADirectoryError:
            return Placement.IN_THE_WAY
        state = self._standing(folder, name, entry.path)
        if state is not None:
            placement = compare(folder, name, state, entry, overwrite, self._mark, self._compared, pulse)
            if placement is Placement.LEFT_ALONE and mend:
                self._mend(folder, name, entry)
            if placement is not Placement.RESTORED:
                return placement
            unlock(folder, name, entry)
        self._begin()
        if is_temporary(name):
            self._genuine.add(entry.path)
        temporary = temporary_name(name)
        try:
            if entry.kind is EntryKind.FILE:
                self._write_file(folder, temporary, entry, open_content, pulse)
            elif not self._make_special(folder, temporary, entry):
                return Placement.NOT_KEPT
            with self._renaming[hash(entry.path.rpartition(b"/")[0]) % len(self._renaming)]:
                # Somebody may have put it there while the content was copied, which can take hours; or another thread
                # a twin, which this name would replace.
                if state is None and self._standing(folder, name, entry.path) is not None and not overwrite:
                    discard(folder, temporary)
                    return Placement.IN_THE_WAY
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            self._listings.wrote(entry.path.rpartition(b"/")[0], name)
        except BaseException:
            discard(folder, temporary)
            raise
        if entry.inode_flags:
            self._give_file_flags(folder, name, entry)
        return Placement.RESTORED

    def _standing(self, folder: int, name: bytes, path: bytes) -> os.stat_result | None:
        """How the entry stands, under just this name; None: there is none. Raises NameTaken."""
        state = state_of(folder, name)
        if state is not None:
            self._refuse_twin(folder, name, state, path)
        return state

    def _refuse_twin(self, folder: int, name: bytes, state: os.stat_result, path: bytes) -> None:
        stored = self._listings.stored(path.rpartition(b"/")[0], folder, name, state)
        if stored is None:
            again = state_of(folder, name)
            if again is None or not os.path.samestat(again, state):
                return  # somebody else renames things just now
        if stored != name:
            raise NameTaken(stored)

    def _below(self) -> ConfinedFolders:
        """The folders below the root; the root is made if it is missing."""
        with self._lock:
            if self._folders is None:
                try:
                    if not os.path.isdir(self._path):
                        os.makedirs(self._path)
                    self._root_is_new = not os.listdir(self._path)
                    descriptor = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                    self._mark = RestoreMark(descriptor)
                    self._folders = ConfinedFolders(descriptor)
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
            self._later.add(entry)
        return Placement.LEFT_ALONE

    def _let_ourselves_in(self, folder: int, name: bytes, state: os.stat_result, entry: RestoreEntry) -> None:
        """An ordinary user cannot write into a folder that was restored read-only from an earlier disk.

        Nobody can into an immutable one; and what a folder's flags are, they give to what is made in it.
        """
        if entry.inode_flags:
            give_flags(folder, name, InodeFlag.NONE)
        if state.st_mode & 0o700 != 0o700 and state.st_uid == os.geteuid():
            with self._opened(folder, name) as descriptor, contextlib.suppress(OSError):
                os.chmod(b"/proc/self/fd/%d" % descriptor, stat.S_IMODE(state.st_mode) | 0o700)

    def _write_file(
        self, folder: int, temporary: bytes, entry: RestoreEntry, open_content: Callable[[], int] | None, pulse: Pulse
    ) -> None:
        content = open_object(open_content) if open_content is not None else None
        try:
            descriptor = create(folder, temporary)
            try:
                give_before_content(descriptor, entry)
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
        discard(folder, temporary)
        try:
            if entry.kind is EntryKind.SYMBOLIC_LINK:
                os.symlink(entry.target, temporary, dir_fd=folder)
            else:
                os.mknod(temporary, 0o600 | FORMATS[entry.kind], entry.attributes.rdev, dir_fd=folder)
        except (OSError, ValueError, OverflowError) as error:
            if isinstance(error, OSError) and not self._is_unable(error):
                raise
            discard(folder, temporary)  # exfat-fuse says no, and leaves an empty file
            self._lose(_KIND_NAMES[entry.kind])
            return False
        self._give_metadata(folder, temporary, entry)
        return True

    def _give_metadata(
        self, folder: int, name: bytes, entry: RestoreEntry, lose: Callable[[str], None] | None = None
    ) -> None:
        """Give metadata to what stands there now, never through a symbolic link."""
        lose = lose or self._lose
        if entry.kind is EntryKind.SYMBOLIC_LINK:
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
            give_metadata(b"/proc/self/fd/%d/%s" % (folder, name), state, entry, lose)
            return
        with self._opened(folder, name) as descriptor:
            give_metadata(b"/proc/self/fd/%d" % descriptor, os.fstat(descriptor), entry, lose)

    def _mend(self, folder: int, name: bytes, entry: RestoreEntry) -> None:
        """Give what is right its metadata, where it is locked too."""
        if not entry.inode_flags:
            self._give_metadata(folder, name, entry)
            return
        lost: list[str] = []
        self._give_metadata(folder, name, entry, lost.append)
        if lost and unlock(folder, name, entry):
            self._give_metadata(folder, name, entry)
        elif lost:
            for kind in lost:
                self._lose(kind)
        self._give_file_flags(folder, name, entry)

    def _give_file_flags(self, folder: int, name: bytes, entry: RestoreEntry) -> None:
        if is_locked_later(entry):
            self._later.add(entry)
        elif entry.kind is EntryKind.FILE and not give_flags(folder, name, entry.inode_flags):
            self._lose(_FLAGS)

    def _lock_file(self, entry: RestoreEntry) -> None:
        try:
            with self._in_words():
                locked = give_flags(*self._locate(entry.path), entry.inode_flags)
        except EntryRefused:
            locked = False
        if not locked:
            self._lose(_FLAGS)

    def _link_descriptor(self, source: int, entry: RestoreEntry, overwrite: bool, relink: bool) -> Placement:
        """``relink``: a right file of its own that stands there becomes the link too."""
        try:
            folder, name = self._locate(entry.path, make=True)
        except NotADirectoryError:
            return Placement.IN_THE_WAY
        state = self._standing(folder, name, entry.path)
        self._begin()
        original = b"/proc/self/fd/%d" % source
        if state is None:
            try:
                os.link(original, name, dst_dir_fd=folder, follow_symlinks=True)
            except FileExistsError:
                # Another thread's, which the destination takes for this one; or somebody else's.
                self._standing(folder, name, entry.path)
                return Placement.IN_THE_WAY
            self._listings.wrote(entry.path.rpartition(b"/")[0], name)
            return Placement.RESTORED
        if os.path.samestat(state, os.fstat(source)):
            return Placement.LEFT_ALONE
        placement = compare(folder, name, state, entry, overwrite, self._mark, self._compared)
        if placement is Placement.IN_THE_WAY or (placement is Placement.LEFT_ALONE and not relink):
            return placement
        if relink:
            unlock(folder, name, entry)
        temporary = temporary_name(name)
        discard(folder, temporary)
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
            raise told(error, self._path, self._is_alive) from error

    def _is_unable(self, error: OSError) -> bool:
        """Whether the destination, or this user, just cannot do such a thing. exfat-fuse says EIO to mknod."""
        return error.errno in UNABLE or (may_be_dead(error) and self._is_alive())

    def _is_alive(self) -> bool:
        """Whether the destination answers to a plain write of our own."""
        return self._folders is not None and answers(self._folders.open(b"/"), temporary_name(b"/"))
