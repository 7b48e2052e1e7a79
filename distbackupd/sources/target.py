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
from distbackupd.model.files import EntryFlag, EntryKind, RestoreEntry
from distbackupd.model.text import printable
from distbackupd.planning.completing import Step, step_for
from distbackupd.sources.confined import ConfinedFolders, checked_name
from distbackupd.sources.restored_content import open_object
from distbackupd.sources.restored_flags import give_flags, has_flags, is_locked_later, unlock
from distbackupd.sources.restored_folders import is_shared, let_go, take_new, take_present
from distbackupd.sources.restored_later import Later, Postponed
from distbackupd.sources.restored_listings import Listings, Presence
from distbackupd.sources.restored_making import FLAGS, Maker
from distbackupd.sources.restored_mark import MARK_NAME, RestoreMark
from distbackupd.sources.restored_metadata import (
    complete_metadata,
    complete_time,
    give_metadata,
    looks_of,
    looks_wanted,
)
from distbackupd.sources.restored_names import (
    Compared,
    Standing,
    compare,
    discard,
    hold,
    is_temporary,
    temporary_name,
)
from distbackupd.sources.restored_root import open_destination
from distbackupd.sources.restored_trouble import UNABLE, answers, may_be_dead, told


class FolderTarget:
    """See :class:`distbackupd.engine.ports.RestoreTarget`. The folder is made when something is first written.

    Content is written to a temporary name in the same folder and takes its final name when it is complete, hashed and
    has its metadata; an interrupted restore leaves no half files under final names, and the next one replaces or removes
    what it left under temporary names. What a power cut took back is found by :class:`RestoreMark`.

    Others may write at the destination too, and be hostile. So what stands there is judged, and completed, as the one file
    that is held open; and owners, privileges or more readers are given only to what this restore wrote itself: a file that
    lacks them is replaced by a copy, which is hashed while it is made (see :mod:`distbackupd.planning.completing`).
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
        self._maker = Maker(self._is_unable)
        self._false: set[int] = set()
        """Hashes of paths where something stands that only looks right, until it is replaced."""
        self._closed: set[bytes] = set()
        """Folders that are somebody else's: nothing is put into them."""
        self._made: dict[int, tuple[int, int]] = {}
        """Device and inode of folders that were made where others may rename things, by a hash of the path."""
        self._placed: dict[int, tuple[int, int]] = {}
        """Device and inode of what has several names, by a hash of the path that it was placed at."""

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
            except NotADirectoryError:
                return Placement.IN_THE_WAY
            self._begin()
            shared = is_shared(folder)
            try:
                os.mkdir(name, 0o700, dir_fd=folder)
            except FileExistsError:
                return self._take_folder(folder, name, entry, shared)
            self._take_new_folder(folder, name, entry, shared)
        return Placement.RESTORED

    def _take_new_folder(self, folder: int, name: bytes, entry: RestoreEntry, shared: bool) -> None:
        identity = None
        if shared:
            state = take_new(folder, name, entry, lambda: self._owner_here(folder, name, entry))
            identity = state.st_dev, state.st_ino
            self._below().must_stay(entry.path, state)
            self._made[hash(entry.path)] = identity
        self._later.add(Postponed(entry, identity))

    def _owner_here(self, folder: int, name: bytes, entry: RestoreEntry) -> int:
        """Whose a thing becomes that is given to the entry's owner."""
        as_file = entry._replace(kind=EntryKind.FILE, flags=EntryFlag.NONE)
        return self._maker.outcome(folder, temporary_name(name), as_file, None).uid

    def _take_folder(self, folder: int, name: bytes, entry: RestoreEntry, shared: bool) -> Placement:
        found = self._hold(folder, name, entry.path)
        if found is None:
            raise EntryRefused("somebody removed it just now")
        with found:
            if not stat.S_ISDIR(found.state.st_mode):
                return Placement.IN_THE_WAY
            made = self._made.get(hash(entry.path)) == found.identity
            owner = entry.attributes.uid
            if shared and found.state.st_uid != owner:
                owner = self._owner_here(folder, name, entry)
            try:
                postponed = take_present(found, entry, shared, made, owner, folder)
            except EntryRefused:
                # An empty one is no loss.
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=folder)
                    os.mkdir(name, 0o700, dir_fd=folder)
                    self._take_new_folder(folder, name, entry, shared)
                    return Placement.RESTORED
                self._closed.add(entry.path)
                raise
            if shared:
                self._below().must_stay(entry.path, found.state)
        self._later.add(postponed)
        return Placement.LEFT_ALONE

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
                source = hold(*self._locate(first))
            except NotADirectoryError:
                source = None
            if source is None:
                return Placement.NOT_KEPT
            with source:
                if not self._is_placed(source, entry, first):
                    return Placement.NOT_KEPT
                try:
                    return self._link_or_unlock(source, entry, first, overwrite)
                except OSError as error:
                    if error.errno not in (errno.EMLINK, errno.EXDEV, errno.ENOENT) and not self._is_unable(error):
                        raise
                    self._lose("hard link")
                    return Placement.NOT_KEPT

    def _is_placed(self, source: Standing, entry: RestoreEntry, first: bytes) -> bool:
        """Whether it is what was placed there, or what an earlier restore had brought."""
        known = self._placed.get(hash(first))
        if known is not None:
            return known == source.identity
        first_entry = entry._replace(path=first)
        if compare(source, first_entry, False, self._mark, self._compared) is not Placement.LEFT_ALONE:
            return False
        folder, name = self._locate(first)
        present = looks_of(source.handle, source.state, entry)
        return present == looks_wanted(entry) or present == self._maker.outcome(
            folder, temporary_name(name), first_entry, present
        )

    def _link_or_unlock(self, source: Standing, entry: RestoreEntry, first: bytes, overwrite: bool) -> Placement:
        try:
            return self._link_descriptor(source.descriptor, entry, overwrite, relink=True)
        except PermissionError:
            if not unlock(source.handle, entry):
                raise
            self._later.add(Postponed(entry._replace(path=first), source.identity))
            return self._link_descriptor(source.descriptor, entry, overwrite, relink=True)

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
            found = self._hold(folder, name, entry.path)
            if found is None:
                return Placement.RESTORED
            with found:
                return self._compare(found, entry, overwrite, pulse)

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
        root: Postponed | None = None
        for postponed in self._later.take():
            if postponed.entry.path == b"/":
                root = postponed
            elif postponed.entry.kind is EntryKind.FOLDER:
                self._finish_folder(postponed)
            else:
                self._lock_file(postponed)
        if self._mark is not None:
            try:
                self._mark.end()
            except OSError as error:
                raise told(error, self._path) from error  # what could not be flushed may be lost: no single entry's matter
        if root is not None:
            self._finish_folder(root)
        if self._folders is not None:
            self._folders.forget()
        return dict(self._lost)

    def _finish_folder(self, postponed: Postponed) -> None:
        entry = postponed.entry
        lost: list[str] = []
        try:
            with self._in_words():
                descriptor = self._below().open(entry.path)
                handle = b"/proc/self/fd/%d" % descriptor
                state = os.fstat(descriptor)
                if postponed.identity not in (None, (state.st_dev, state.st_ino)):
                    raise EntryRefused("another one took its place")
                if self._mark is not None and self._mark.was_left:
                    self._remove_leftovers(descriptor, entry.path)
                if postponed.only_less:
                    lost += self._finish_theirs(handle, state, entry)
                else:
                    give_metadata(handle, state, entry, lost.append)
                    if entry.inode_flags and not give_flags(handle, entry.inode_flags):
                        lost.append(FLAGS)
                    if postponed.identity is not None:
                        let_go(handle)
        except EntryRefused:
            lost.append("metadata of a folder")
        # A folder that several disks fill is finished several times, and told once.
        if lost and hash(entry.path) not in self._folders_told:
            self._folders_told.add(hash(entry.path))
            for kind in lost:
                self._lose(kind)

    def _finish_theirs(self, handle: bytes, state: os.stat_result, entry: RestoreEntry) -> list[str]:
        complete_time(handle, state, entry)
        present, wanted = looks_of(handle, state, entry), looks_wanted(entry)
        lost = ["owner"] if (present.uid, present.gid) != (wanted.uid, wanted.gid) else []
        lost += ["mode"] if present.mode != wanted.mode else []
        return lost + (["extended attribute"] if present.xattrs != wanted.xattrs else [])

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
        found = self._hold(folder, name, entry.path)
        if found is None:
            return self._write(folder, name, entry, open_content, pulse, overwrite)
        with found:
            placement = self._compare(found, entry, overwrite, pulse)
            if placement is Placement.LEFT_ALONE and (not mend or self._mend(folder, name, found, entry, pulse)):
                return placement
            if placement is Placement.IN_THE_WAY:
                return placement
            unlock(found.handle, entry)
            placement = self._write(folder, name, entry, open_content, pulse, overwrite=True)
            self._false.discard(hash(entry.path))
        return placement

    def _compare(self, found: Standing, entry: RestoreEntry, overwrite: bool, pulse: Pulse | None = None) -> Placement:
        if self._false and hash(entry.path) in self._false and stat.S_ISREG(found.state.st_mode):
            return Placement.RESTORED
        return compare(found, entry, overwrite, self._mark, self._compared, pulse)

    def _write(
        self,
        folder: int,
        name: bytes,
        entry: RestoreEntry,
        open_content: Callable[[], int] | None,
        pulse: Pulse,
        overwrite: bool,
    ) -> Placement:
        """Write beside, and take the name when it is whole; without ``overwrite`` only if nothing has it."""
        self._begin()
        if is_temporary(name):
            self._genuine.add(entry.path)
        temporary = temporary_name(name)
        try:
            made = self._maker.make(folder, temporary, entry, open_content, pulse, self._lose)
            if made is None:
                return Placement.NOT_KEPT
            with self._renaming[hash(entry.path.rpartition(b"/")[0]) % len(self._renaming)]:
                # Somebody may have put it there while the content was copied, which can take hours; or another thread
                # a twin, which this name would replace.
                if not overwrite and self._is_there(folder, name, entry.path):
                    discard(folder, temporary)
                    return Placement.IN_THE_WAY
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            self._listings.wrote(entry.path.rpartition(b"/")[0], name)
        except BaseException:
            discard(folder, temporary)
            raise
        self._note(entry, made)
        return Placement.RESTORED

    def _note(self, entry: RestoreEntry, identity: tuple[int, int]) -> None:
        if is_locked_later(entry):
            self._later.add(Postponed(entry, identity))
        if entry.flags & EntryFlag.LINKED:
            self._placed[hash(entry.path)] = identity

    def _hold(self, folder: int, name: bytes, path: bytes) -> Standing | None:
        """What stands there, under just this name; None: nothing. Raises NameTaken."""
        found = hold(folder, name)
        if found is not None:
            try:
                self._refuse_twin(folder, name, found.state, path)
            except BaseException:
                found.close()
                raise
        return found

    def _is_there(self, folder: int, name: bytes, path: bytes) -> bool:
        found = self._hold(folder, name, path)
        if found is None:
            return False
        found.close()
        return True

    def _refuse_twin(self, folder: int, name: bytes, state: os.stat_result, path: bytes) -> None:
        stored = self._listings.stored(path.rpartition(b"/")[0], folder, name, state)
        if stored is None:
            again = hold(folder, name)
            if again is None:
                return  # somebody else renames things just now
            with again:
                if not os.path.samestat(again.state, state):
                    return
        if stored != name:
            raise NameTaken(stored)

    def _below(self) -> ConfinedFolders:
        """The folders below the root; the root is made if it is missing."""
        with self._lock:
            if self._folders is None:
                try:
                    descriptor = open_destination(self._path)
                    self._root_is_new = not os.listdir(b"/proc/self/fd/%d" % descriptor)
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
        if self._closed:
            above = parent
            while above and above not in self._closed:
                above = above.rpartition(b"/")[0]
            if above:
                raise EntryRefused("the folder above it is somebody else's")
        return (self._folders or self._below()).open(parent or b"/", make), name

    def _take_root(self, entry: RestoreEntry) -> Placement:
        """A source mapped to '/' describes the destination itself, but nobody wants their home's mode changed by that."""
        root = self._below().open(b"/")
        state = os.fstat(root)
        present = (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode))
        if self._root_is_new:
            with contextlib.suppress(OSError):
                os.chmod(b"/proc/self/fd/%d" % root, 0o700)
        if self._root_is_new or present == (entry.attributes.uid, entry.attributes.gid, entry.attributes.mode):
            self._later.add(Postponed(entry))
        return Placement.LEFT_ALONE

    def _mend(self, folder: int, name: bytes, found: Standing, entry: RestoreEntry, pulse: Pulse) -> bool:
        """Give what looks right its metadata, or replace it where that could be somebody's gain.

        False: its content is not what it should be, so that it is to be replaced when that is at hand.
        """
        present, wanted = looks_of(found.handle, found.state, entry), looks_wanted(entry)
        if present == wanted:
            complete_time(found.handle, found.state, entry)
            self._note(entry, found.identity)
            return True
        alone = found.state.st_nlink == 1 and not is_shared(folder)
        step = step_for(present, wanted, alone)
        if step is Step.REPLACE:
            wanted = self._maker.outcome(folder, temporary_name(name), entry, present, self._lose)
            step = step_for(present, wanted, alone)
        if step is Step.REPLACE:
            return self._replace(folder, name, found, entry, pulse)
        if step is Step.COMPLETE:
            try:
                complete_metadata(found.handle, found.state, entry, wanted.mode)
            except PermissionError:
                if unlock(found.handle, entry):
                    complete_metadata(found.handle, found.state, entry, wanted.mode)
                else:
                    self._lose("mode")
        else:
            complete_time(found.handle, found.state, entry)
        self._note(entry, found.identity)
        return True

    def _replace(self, folder: int, name: bytes, found: Standing, entry: RestoreEntry, pulse: Pulse) -> bool:
        """Put a new one with the same content into its place; False: the content is false."""
        unlock(found.handle, entry)
        try:
            self._write(folder, name, entry, found.open if entry.digest is not None else None, pulse, overwrite=True)
        except BadContent:
            self._false.add(hash(entry.path))
            return False
        return True

    def _lock_file(self, postponed: Postponed) -> None:
        locked = False
        with contextlib.suppress(EntryRefused), self._in_words():
            found = hold(*self._locate(postponed.entry.path))
            if found is not None:
                with found:
                    flags = postponed.entry.inode_flags
                    # What came into its place meanwhile, and was ours too, was locked before.
                    ours = found.identity == postponed.identity
                    locked = give_flags(found.handle, flags) if ours else has_flags(found.handle, flags)
        if not locked:
            self._lose(FLAGS)

    def _link_descriptor(self, source: int, entry: RestoreEntry, overwrite: bool, relink: bool) -> Placement:
        """``relink``: a right file of its own that stands there becomes the link too."""
        try:
            folder, name = self._locate(entry.path, make=True)
        except NotADirectoryError:
            return Placement.IN_THE_WAY
        found = self._hold(folder, name, entry.path)
        self._begin()
        original = b"/proc/self/fd/%d" % source
        if found is None:
            try:
                os.link(original, name, dst_dir_fd=folder, follow_symlinks=True)
            except FileExistsError:
                # Another thread's, which the destination takes for this one; or somebody else's.
                self._is_there(folder, name, entry.path)
                return Placement.IN_THE_WAY
            self._listings.wrote(entry.path.rpartition(b"/")[0], name)
            return Placement.RESTORED
        with found:
            if os.path.samestat(found.state, os.fstat(source)):
                return Placement.LEFT_ALONE
            placement = self._compare(found, entry, overwrite)
            if placement is Placement.IN_THE_WAY or (placement is Placement.LEFT_ALONE and not relink):
                return placement
            if relink:
                unlock(found.handle, entry)
        temporary = temporary_name(name)
        discard(folder, temporary)
        os.link(original, temporary, dst_dir_fd=folder, follow_symlinks=True)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        if not os.path.samestat(os.stat(name, dir_fd=folder, follow_symlinks=False), os.fstat(source)):
            raise EntryRefused("somebody put something else in its place just now")
        return Placement.RESTORED

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
