"""Listing and reading real folders and files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager

from distbackupd.engine.ports import FolderPart, FolderState, OpenedFile, Pulse
from distbackupd.model.errors import DistbackupError, SourceChanged, SourceTrouble
from distbackupd.model.files import (
    Entry,
    EntryFlag,
    EntryKind,
    HashedContent,
    InodeFlag,
    ProblemKind,
    TakenContent,
    WaitingFile,
)
from distbackupd.model.problems import FoundProblem
from distbackupd.model.sources import RealPath
from distbackupd.model.text import printable, say_size
from distbackupd.planning.settling import is_settled
from distbackupd.sources import sidecar
from distbackupd.sources.clocks import write_back_if_recent
from distbackupd.sources.describing import Describer
from distbackupd.sources.folders import OpenFolders
from distbackupd.sources.inode_flags import FlagNotes
from distbackupd.sources.kept import is_as_known, kept_number, kept_time
from distbackupd.sources.layouts import own_names
from distbackupd.sources.mountpoints import MountPoints
from distbackupd.sources.rereading import FileReading
from distbackupd.sources.side_files import with_side_file
from distbackupd.sources.skipping import SKIP_MARKER, distrust_marker
from distbackupd.streams import hash_descriptor

_A_LINK = (errno.ELOOP, errno.ENOTDIR)
"""What opening without links says where one stands."""
_LARGEST_FILE = 1 << 50
"""Bytes. More than any disk holds: a file that says so consists of holes, and to read it would take years."""
_PART = 4096
"""So many names of a folder are described at a time."""
_MOST_REMARKED = 10_000


class FolderTree:
    """See :class:`distbackupd.engine.ports.SourceTree`. Thread-safe but for ``list_folder``."""

    def __init__(self, catalogue: bytes = b"", now_ns: Callable[[], int] = time.time_ns) -> None:
        """``catalogue``: the folder in which it lies, which is left out; empty: nowhere."""
        self._catalogue = catalogue
        self._now_ns = now_ns
        self._describer = Describer()
        self._mount_points = MountPoints()
        self._folders = OpenFolders()
        self._no_atime = os.O_NOATIME
        self._flags = FlagNotes()
        self._remarks: list[str] = []
        self._remarked: set[int] = set()

    def folders_kept_open(self) -> AbstractContextManager[None]:
        """Some, for what this thread does next while the context lasts."""
        return self._folders.kept()

    def inspect(self, place: RealPath) -> FolderState:
        """What stands there; raises SourceTrouble if it is no folder or cannot be reached."""
        with _in_words("cannot be reached"), self._opened_folder(place) as descriptor:
            return FolderState(os.fstat(descriptor).st_dev, next(os.scandir(descriptor), None) is None)

    def names(self, place: RealPath) -> Collection[bytes]:
        """All names in the folder; raises SourceTrouble."""
        with _in_words("cannot be listed"), self._opened_folder(place) as descriptor:
            return {os.fsencode(name) for name in os.listdir(descriptor)}

    def list_folder(
        self,
        place: RealPath,
        wanted: Callable[[bytes], int | None],
        follow: bool,
        seen: tuple[int, int] | None = None,
    ) -> Iterator[FolderPart]:
        """The folder's entries by name, some thousands at a time. Raises SourceTrouble, before the first part only."""
        with self._opened_folder_in_words(place, seen) as descriptor:
            with _in_words("cannot be listed"):
                names = sorted(os.fsencode(item) for item in os.listdir(descriptor))
                skipped = SKIP_MARKER in names and self._is_skipped(place, descriptor)
                mounted = self._mount_points.names_in(descriptor)
                side_files = {name for name in names if name.endswith(sidecar.SUFFIX)}
                own, why = own_names(descriptor, names, self._catalogue)
            if skipped:
                yield FolderPart([], [], None, skipped=True)
                return
            start = 0
            while start == 0 or start < len(names):
                some = names[start : start + _PART]
                start += _PART
                part = FolderPart([], [], some[-1] if start < len(names) else None)
                for name in some:
                    if name in own:
                        part.problems.append(FoundProblem(name, why, ProblemKind.LEFT_OUT))
                        continue
                    priority = wanted(name)
                    if priority is None:
                        continue
                    try:
                        entry = self._describer.entry_in(descriptor, name, follow, priority, part.problems)
                        if entry is None:
                            continue
                        if name in mounted and entry.kind == EntryKind.FOLDER:
                            entry = entry._replace(flags=entry.flags | EntryFlag.MOUNT_POINT)
                        if side_files and entry.kind == EntryKind.FILE and name + sidecar.SUFFIX in side_files:
                            entry = with_side_file(descriptor, entry, part.problems)
                    except Exception as error:  # noqa: BLE001 - whatever one entry is, the others are looked at
                        part.problems.append(FoundProblem(name, f"cannot be read: {_said(error)}"))
                        continue
                    if entry is not None:
                        part.entries.append(entry)
                yield part

    def describe_folder(self, place: RealPath, problems: list[FoundProblem] | None = None) -> Entry:
        """The folder itself as an entry with an empty name; raises SourceTrouble. See the port."""
        with _in_words("cannot be reached"), self._opened_folder(place) as descriptor:
            entry = self._describer.entry_of(descriptor, b"", 1, [] if problems is None else problems)
            assert entry is not None
            if self._mount_points.is_one(descriptor):
                entry = entry._replace(flags=entry.flags | EntryFlag.MOUNT_POINT)
            return entry

    def remarks(self) -> list[str]:
        """Sentences on what was not heeded since the last call, each of them once in a process."""
        if not self._remarks:
            return []
        remarks, self._remarks = self._remarks, []
        return remarks

    def identify(self, place: RealPath) -> tuple[int, int] | None:
        """Device and inode of what stands there now; None: nothing does. Raises SourceTrouble."""
        try:
            descriptor = self._folders.open(place, os.O_PATH)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _A_LINK:
                return None
            raise _trouble(error, "cannot be reached") from error
        try:
            with _in_words("cannot be reached"):
                state = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return state.st_dev, state.st_ino

    def open_file(
        self,
        place: RealPath,
        size: int,
        mtime_ns: int,
        inode: int,
        ctime_ns: int = 0,
        device: int = 0,
        owner: int | None = None,
    ) -> int:
        """A descriptor to read the file from its start; raises SourceChanged if it is not as told, SourceTrouble."""
        descriptor, state = self._opened_file(place)
        is_same = is_as_known(state, size, mtime_ns, inode) and ctime_ns in (0, kept_time(state.st_ctime_ns))
        is_same = is_same and device in (0, kept_number(state.st_dev)) and owner in (None, state.st_uid)
        if not stat.S_ISREG(state.st_mode) or not is_same:
            os.close(descriptor)
            raise SourceChanged("it changed since it was scanned")
        return descriptor

    def close_file(self, descriptor: int) -> None:
        """Close what :meth:`open_file` opened."""
        os.close(descriptor)

    def confirm_unchanged(self, descriptor: int, size: int, mtime_ns: int) -> None:
        """Raises SourceChanged if the open file is not any more as told."""
        with _in_words("cannot be read"):
            state = os.fstat(descriptor)
        if not is_as_known(state, size, mtime_ns):
            raise SourceChanged("it changed while it was read")

    def hash_file(self, place: RealPath, waiting: WaitingFile, pulse: Pulse) -> HashedContent:
        """The content of the file, which did not change while it was read. Raises SourceTrouble, Interrupted."""
        size = waiting.size
        if size > _LARGEST_FILE:
            raise SourceTrouble(f"it says that it has {say_size(size)}, more than any disk holds")
        descriptor = self.open_file(
            place, size, waiting.mtime_ns, waiting.inode, waiting.ctime_ns, waiting.device, waiting.owner
        )
        try:
            self._flags.note(descriptor, waiting.ticket)
            before, began_ns = os.fstat(descriptor), self._now_ns()
            settled = self._is_settled(before, began_ns)
            if settled:
                write_back_if_recent(descriptor, before, began_ns)
            sparse = before.st_blocks * 512 < size
            read, digest = hash_descriptor(descriptor, size, pulse, sparse=sparse, look=lambda: _look(descriptor, before))
            after = os.fstat(descriptor)
            times = (before.st_mtime_ns, before.st_ctime_ns)
            if not read == after.st_size == size or (after.st_mtime_ns, after.st_ctime_ns) != times:
                raise SourceChanged("it changed while it was read")
        except OSError as error:
            raise _trouble(error, "cannot be read") from error
        finally:
            os.close(descriptor)
        return HashedContent(digest, settled)

    def holes(self, place: RealPath) -> int:
        """Bytes of the file there for which nothing is allocated; 0 where that cannot be found out."""
        try:
            descriptor = self._folders.open(place, os.O_PATH)
        except OSError:
            return 0
        try:
            state = os.fstat(descriptor)
        except OSError:
            return 0
        finally:
            os.close(descriptor)
        # What is too large for any disk is not read at all.
        return max(0, state.st_size - state.st_blocks * 512) if state.st_size <= _LARGEST_FILE else 0

    def inode_flags(self, place: RealPath, device: int) -> InodeFlag:
        """What ``chattr`` set of a regular file or folder; nothing where that cannot be found out."""
        return self._flags.of(lambda: self._open(place), device)

    def take_inode_flags(self) -> dict[int, InodeFlag]:
        """The same of files that were hashed since, by ticket; only of those that have any."""
        return self._flags.take()

    def open_as_it_is(self, place: RealPath, owner: int | None = None) -> OpenedFile:
        """Open whichever regular file of this owner stands there, to be read from its start. Raises SourceTrouble."""
        descriptor, state = self._opened_file(place)
        is_same = stat.S_ISREG(state.st_mode) and owner in (None, state.st_uid)
        if not is_same or not 0 < state.st_size <= _LARGEST_FILE:
            os.close(descriptor)
            raise SourceChanged("it changed since it was scanned")
        return OpenedFile(descriptor, state.st_size, kept_time(state.st_mtime_ns))

    def take_file(self, place: RealPath, waiting: WaitingFile, pulse: Pulse) -> TakenContent:
        """What can be read of the file now, however it changes meanwhile. Raises SourceTrouble, Interrupted."""
        opened = self.open_as_it_is(place, waiting.owner)
        try:
            self._flags.note(opened.descriptor, waiting.ticket)
            before = os.fstat(opened.descriptor)
            sparse = before.st_blocks * 512 < opened.size
            read, digest = hash_descriptor(opened.descriptor, opened.size, pulse, at_most=True, sparse=sparse)
            if not read:
                raise SourceChanged("it is empty now")
            after = os.fstat(opened.descriptor)
        except OSError as error:
            raise _trouble(error, "cannot be read") from error
        finally:
            os.close(opened.descriptor)
        states = [(state.st_size, state.st_mtime_ns, state.st_ctime_ns) for state in (before, after)]
        at_rest = states[0] == states[1] and (read, opened.mtime_ns) == (before.st_size, kept_time(before.st_mtime_ns))
        return TakenContent(digest, read, opened.mtime_ns, at_rest)

    def reading(self, place: RealPath, size: int, mtime_ns: int, inode: int, past_cache: bool = True) -> FileReading:
        """Begin to read the file, if it is as told; nothing is opened yet."""
        return FileReading(
            open_file=lambda: self.open_file(place, size, mtime_ns, inode),
            describe=self._describe_open,
            judge=self._judge_clock,
            size=size,
            mtime_ns=mtime_ns,
            past_cache=past_cache,
        )

    def _describe_open(self, descriptor: int) -> Entry:
        entry = self._describer.entry_of(descriptor, b"", 1, [])
        assert entry is not None
        return entry

    def _judge_clock(self, descriptor: int) -> tuple[bool, bool]:
        """Before the open file is read: whether what is read will be settled, and whether its times witness each write."""
        state, now_ns = os.fstat(descriptor), self._now_ns()
        settled = self._is_settled(state, now_ns)
        if settled:
            write_back_if_recent(descriptor, state, now_ns)
        return settled, self._describer.clock(state.st_dev).witnesses

    def _is_settled(self, state: os.stat_result, now_ns: int) -> bool:
        clock = self._describer.clock(state.st_dev)
        ctime_ns = state.st_ctime_ns if clock.change_times else 0
        return is_settled(state.st_mtime_ns, ctime_ns, now_ns, clock.blur_ns(ctime_ns or state.st_mtime_ns))

    def _opened_file(self, place: RealPath) -> tuple[int, os.stat_result]:
        """A descriptor, and what it leads to: its medium may have gone in between. Raises SourceTrouble."""
        with _in_words("cannot be read"):
            descriptor = self._open(place)
            try:
                return descriptor, os.fstat(descriptor)
            except OSError:
                os.close(descriptor)
                raise

    def _open(self, place: RealPath) -> int:
        # A fifo that took the file's place does not hang us: nothing that is opened there waits.
        if self._no_atime:
            try:
                return self._folders.open(place, os.O_RDONLY | self._no_atime)
            except PermissionError:
                # Only the owner and root may leave access times alone.
                descriptor = self._folders.open(place, os.O_RDONLY)
                self._no_atime = 0
                return descriptor
        return self._folders.open(place, os.O_RDONLY)

    @contextlib.contextmanager
    def _opened_folder(self, place: RealPath) -> Iterator[int]:
        descriptor = self._folders.open_folder(place)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _opened_folder_in_words(self, place: RealPath, seen: tuple[int, int] | None) -> Iterator[int]:
        """The folder that was seen, with this device and inode, and no other. Raises SourceTrouble."""
        with _in_words("cannot be reached"):
            descriptor = self._folders.open_folder(place)
        try:
            with _in_words("cannot be reached"):
                is_other = seen is not None and not self._is_seen(descriptor, *seen)
            if is_other:
                raise SourceTrouble("another folder took its place while it was looked at; the next scan looks again")
            yield descriptor
        finally:
            os.close(descriptor)

    def _is_seen(self, descriptor: int, device: int, inode: int) -> bool:
        state = os.fstat(descriptor)
        if kept_number(state.st_dev) == device:
            return inode in (0, kept_number(state.st_ino))
        # Opening it may itself have mounted something there.
        return self._mount_points.is_one(descriptor)

    def _is_skipped(self, place: RealPath, folder: int) -> bool:
        reason = distrust_marker(folder)
        if reason:
            self._remark(f"{printable(place.child(SKIP_MARKER).path)} {reason}, so the folder is backed up all the same")
        return not reason

    def _remark(self, sentence: str) -> None:
        if hash(sentence) not in self._remarked and len(self._remarked) < _MOST_REMARKED:
            self._remarked.add(hash(sentence))
            self._remarks.append(sentence)


def _look(descriptor: int, before: os.stat_result) -> None:
    """Raises SourceChanged if there is no use in reading the open file to its end."""
    state = os.fstat(descriptor)
    if not state.st_nlink:
        raise SourceChanged("it was deleted while it was read")
    if (state.st_size, state.st_ctime_ns) != (before.st_size, before.st_ctime_ns):
        raise SourceChanged("it changed while it was read")


@contextlib.contextmanager
def _in_words(what: str) -> Iterator[None]:
    try:
        yield
    except (DistbackupError, AssertionError):
        raise
    except Exception as error:
        raise _trouble(error, what) from error


def _trouble(error: Exception, what: str) -> SourceTrouble:
    if isinstance(error, FileNotFoundError):
        return SourceTrouble("it is not there any more")
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return SourceChanged("a link stands there now, or above it")
    if isinstance(error, NotADirectoryError):
        return SourceTrouble("it is no folder")
    return SourceTrouble(f"it {what}: {_said(error)}")


def _said(error: Exception) -> str:
    """What the system says; of what nobody thought of, its own words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}, {error}"
