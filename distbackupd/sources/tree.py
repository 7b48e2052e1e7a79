"""Listing and reading real folders and files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator

from distbackupd.engine.ports import FolderState, OpenedFile, Pulse
from distbackupd.model.errors import DistbackupError, SourceChanged, SourceTrouble
from distbackupd.model.files import (
    Attributes,
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
from distbackupd.model.text import printable, say_size
from distbackupd.planning.settling import is_settled
from distbackupd.sources import sidecar
from distbackupd.sources.attributes import read_xattrs
from distbackupd.sources.clocks import Clock, clock_of_device, write_back_if_recent
from distbackupd.sources.inode_flags import FlagNotes
from distbackupd.sources.kept import is_as_known, kept_number, kept_time
from distbackupd.sources.layouts import own_names
from distbackupd.sources.mountpoints import MountPoints
from distbackupd.sources.paths import open_folder, open_path, short_name
from distbackupd.sources.rereading import FileReading
from distbackupd.streams import hash_descriptor

SKIP_MARKER = ".distbackup.skip"
_KINDS = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFDIR: EntryKind.FOLDER,
    stat.S_IFLNK: EntryKind.SYMBOLIC_LINK,
    stat.S_IFIFO: EntryKind.FIFO,
    stat.S_IFCHR: EntryKind.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryKind.BLOCK_DEVICE,
}
_LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)
"""What following a symbolic link may say that is kept as a link then."""
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENODEV)
"""What opening says of a symbolic link, a socket and a device without a driver."""
_LARGEST_FILE = 1 << 50
"""Bytes. More than any disk holds: a file that says so consists of holes, and to read it would take years."""


class FolderTree:
    """See :class:`distbackupd.engine.ports.SourceTree`. Thread-safe but for ``list_folder``."""

    def __init__(self, catalogue: bytes = b"", now_ns: Callable[[], int] = time.time_ns) -> None:
        """``catalogue``: the folder in which it lies, which is left out; empty: nowhere."""
        self._catalogue = catalogue
        self._now_ns = now_ns
        self._plain_attributes: dict[tuple[int, int, int, int], Attributes] = {}
        self._mount_points = MountPoints()
        self._clocks: dict[int, Clock] = {}
        self._no_atime = os.O_NOATIME
        self._flags = FlagNotes()
        self._remarks: list[str] = []
        self._remarked: set[str] = set()

    def inspect(self, path: bytes) -> FolderState:
        """What stands at ``path``; raises SourceTrouble if it is no folder or cannot be reached."""
        with _in_words("cannot be reached"):
            descriptor = open_folder(path)
            try:
                state = os.fstat(descriptor)
                empty = next(os.scandir(descriptor), None) is None
            finally:
                os.close(descriptor)
        return FolderState(state.st_dev, empty)

    def names(self, path: bytes) -> Collection[bytes]:
        """All names in the folder; raises SourceTrouble."""
        with _in_words("cannot be listed"):
            descriptor = open_folder(path)
            try:
                return {os.fsencode(name) for name in os.listdir(descriptor)}
            finally:
                os.close(descriptor)

    def list_folder(
        self, path: bytes, wanted: Callable[[bytes], int | None], follow: bool
    ) -> tuple[list[Entry], list[FoundProblem]]:
        """The folder's entries by name, and what is the matter with some. Raises SourceTrouble."""
        entries: list[Entry] = []
        problems: list[FoundProblem] = []
        with _in_words("cannot be listed"):
            descriptor = open_folder(path)
            try:
                base = short_name(path, descriptor)
                names = sorted(os.fsencode(item) for item in os.listdir(descriptor))
                mounted = self._mount_points.names_in(descriptor)
                side_files = {name for name in names if name.endswith(sidecar.SUFFIX)}
                own, why = own_names(descriptor, names, self._catalogue)
                problems.extend(FoundProblem(name, why, ProblemKind.LEFT_OUT) for name in sorted(own))
                for name in names:
                    if name in own:
                        continue
                    priority = wanted(name)
                    if priority is None:
                        continue
                    try:
                        entry = self._describe(base + b"/" + name, name, follow, priority, problems)
                        if entry is None:
                            continue
                        if name in mounted and entry.kind == EntryKind.FOLDER:
                            entry = entry._replace(flags=entry.flags | EntryFlag.MOUNT_POINT)
                        if entry.kind == EntryKind.FILE and name + sidecar.SUFFIX in side_files:
                            entry = self._with_side_file(base, entry, problems)
                    except Exception as error:  # noqa: BLE001 - whatever one entry is, the others are looked at
                        problems.append(FoundProblem(name, f"cannot be read: {_said(error)}"))
                        continue
                    if entry is not None:
                        entries.append(entry)
            finally:
                os.close(descriptor)
        return entries, problems

    def describe_folder(self, path: bytes, problems: list[FoundProblem] | None = None) -> Entry:
        """The folder itself as an entry with an empty name; raises SourceTrouble. See the port."""
        with _in_words("cannot be reached"):
            descriptor = open_folder(path)
            try:
                entry = self._describe(b"/proc/self/fd/%d" % descriptor, b"", True, 1, [] if problems is None else problems)
                if entry is not None and self._mount_points.is_one(descriptor):
                    entry = entry._replace(flags=entry.flags | EntryFlag.MOUNT_POINT)
            finally:
                os.close(descriptor)
        assert entry is not None
        return entry

    def describe_file(self, path: bytes) -> Entry:
        """The regular file there as an entry, its link not followed. Raises OSError."""
        entry = self._describe(path, b"", False, 1, [])
        if entry is None or entry.kind != EntryKind.FILE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return entry

    def is_marked_skipped(self, path: bytes) -> bool:
        """Whether the folder holds a ``.distbackup.skip`` file, a regular one of the folder's owner or of root."""
        with _in_words("cannot be reached"):
            descriptor = open_folder(path)
            try:
                marker = os.stat(SKIP_MARKER, dir_fd=descriptor, follow_symlinks=False)
                owner = os.fstat(descriptor).st_uid
            except FileNotFoundError:
                return False
            finally:
                os.close(descriptor)
        if stat.S_ISREG(marker.st_mode) and marker.st_uid in (owner, 0):
            return True
        what = "belongs to somebody else than the folder" if stat.S_ISREG(marker.st_mode) else "is no regular file"
        name = printable(path.rstrip(b"/") + b"/" + os.fsencode(SKIP_MARKER))
        self._remark(f"{name} {what}, so the folder is backed up all the same")
        return False

    def remarks(self) -> list[str]:
        """Sentences on what was not heeded since the last call, each of them once in a process."""
        if not self._remarks:
            return []
        remarks, self._remarks = self._remarks, []
        return remarks

    def identify(self, path: bytes, follow: bool) -> tuple[int, int] | None:
        """Device and inode of what stands there now; None: nothing does. Raises SourceTrouble."""
        try:
            descriptor = open_path(path, os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _trouble(error, "cannot be reached") from error
        try:
            state = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return state.st_dev, state.st_ino

    def open_file(self, path: bytes, size: int, mtime_ns: int, inode: int, ctime_ns: int = 0) -> int:
        """A descriptor to read the file from its start; raises SourceChanged if it is not as told, SourceTrouble."""
        try:
            descriptor = self._open(path)
        except OSError as error:
            raise _trouble(error, "cannot be read") from error
        state = os.fstat(descriptor)
        is_same = is_as_known(state, size, mtime_ns, inode) and ctime_ns in (0, kept_time(state.st_ctime_ns))
        if not stat.S_ISREG(state.st_mode) or not is_same:
            os.close(descriptor)
            raise SourceChanged("it changed since it was scanned")
        return descriptor

    def close_file(self, descriptor: int) -> None:
        """Close what :meth:`open_file` opened."""
        os.close(descriptor)

    def confirm_unchanged(self, descriptor: int, size: int, mtime_ns: int) -> None:
        """Raises SourceChanged if the open file is not any more as told."""
        if not is_as_known(os.fstat(descriptor), size, mtime_ns):
            raise SourceChanged("it changed while it was read")

    def hash_file(self, path: bytes, waiting: WaitingFile, pulse: Pulse) -> HashedContent:
        """The content of the file, which did not change while it was read. Raises SourceTrouble, Interrupted."""
        size = waiting.size
        if size > _LARGEST_FILE:
            raise SourceTrouble(f"it says that it has {say_size(size)}, more than any disk holds")
        descriptor = self.open_file(path, size, waiting.mtime_ns, waiting.inode, waiting.ctime_ns)
        try:
            self._flags.note(descriptor, waiting.ticket)
            before, began_ns = os.fstat(descriptor), self._now_ns()
            settled = self._is_settled(before, began_ns)
            if settled:
                write_back_if_recent(descriptor, before, began_ns)
            read, digest = hash_descriptor(descriptor, size, pulse)
            after = os.fstat(descriptor)
            times = (before.st_mtime_ns, before.st_ctime_ns)
            if not read == after.st_size == size or (after.st_mtime_ns, after.st_ctime_ns) != times:
                raise SourceChanged("it changed while it was read")
        except OSError as error:
            raise _trouble(error, "cannot be read") from error
        finally:
            os.close(descriptor)
        return HashedContent(digest, settled)

    def inode_flags(self, path: bytes, device: int) -> InodeFlag:
        """What ``chattr`` set of a regular file or folder; nothing where that cannot be found out."""
        return self._flags.of(lambda: self._open(path), device)

    def take_inode_flags(self) -> dict[int, InodeFlag]:
        """The same of files that were hashed since, by ticket; only of those that have any."""
        return self._flags.take()

    def open_as_it_is(self, path: bytes) -> OpenedFile:
        """Open whichever regular file stands there, to be read from its start. Raises SourceTrouble."""
        try:
            descriptor = self._open(path)
        except OSError as error:
            raise _trouble(error, "cannot be read") from error
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or not 0 < state.st_size <= _LARGEST_FILE:
            os.close(descriptor)
            raise SourceChanged("it changed since it was scanned")
        return OpenedFile(descriptor, state.st_size, kept_time(state.st_mtime_ns))

    def take_file(self, path: bytes, waiting: WaitingFile, pulse: Pulse) -> TakenContent:
        """What can be read of the file now, however it changes meanwhile. Raises SourceTrouble, Interrupted."""
        opened = self.open_as_it_is(path)
        try:
            self._flags.note(opened.descriptor, waiting.ticket)
            before = os.fstat(opened.descriptor)
            read, digest = hash_descriptor(opened.descriptor, opened.size, pulse, at_most=True)
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

    def reading(self, path: bytes, size: int, mtime_ns: int, inode: int, past_cache: bool = True) -> FileReading:
        """Begin to read the file, if it is as told; nothing is opened yet."""
        return FileReading(
            open_file=lambda: self.open_file(path, size, mtime_ns, inode),
            describe=self._describe_open,
            judge=self._judge_clock,
            size=size,
            mtime_ns=mtime_ns,
            past_cache=past_cache,
        )

    def _describe_open(self, descriptor: int) -> Entry:
        entry = self._describe(b"/proc/self/fd/%d" % descriptor, b"", True, 1, [])
        assert entry is not None
        return entry

    def _judge_clock(self, descriptor: int) -> tuple[bool, bool]:
        """Before the open file is read: whether what is read will be settled, and whether its times witness each write."""
        state, now_ns = os.fstat(descriptor), self._now_ns()
        settled = self._is_settled(state, now_ns)
        if settled:
            write_back_if_recent(descriptor, state, now_ns)
        return settled, self._clock(state.st_dev).witnesses

    def _is_settled(self, state: os.stat_result, now_ns: int) -> bool:
        clock = self._clock(state.st_dev)
        ctime_ns = state.st_ctime_ns if clock.change_times else 0
        return is_settled(state.st_mtime_ns, ctime_ns, now_ns, clock.blur_ns(ctime_ns or state.st_mtime_ns))

    def _open(self, path: bytes, more_flags: int = 0) -> int:
        # O_NONBLOCK: a fifo that took the file's place must not hang us.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | more_flags
        if self._no_atime:
            try:
                return open_path(path, flags | self._no_atime)
            except PermissionError:
                # Only the owner and root may leave access times alone.
                descriptor = open_path(path, flags)
                self._no_atime = 0
                return descriptor
        return open_path(path, flags)

    def _describe(self, path: bytes, name: bytes, follow: bool, priority: int, problems: list[FoundProblem]) -> Entry | None:
        """None: it is gone, or no backup keeps it. What can only be kept nearly is in ``problems`` then. Raises OSError."""
        try:
            state = os.stat(path, follow_symlinks=follow)
        except OSError as error:
            if not follow and error.errno == errno.ENOENT:
                return None
            if not follow or error.errno not in _LEADS_NOWHERE:
                raise
            state = os.lstat(path)
            follow = False
        kind = _KINDS.get(stat.S_IFMT(state.st_mode))
        if kind is None:
            what = "a socket" if stat.S_ISSOCK(state.st_mode) else "a thing of a kind that is not known"
            problems.append(FoundProblem(name, f"{what}, which no backup keeps", ProblemKind.NOT_KEPT))
            return None
        flags = EntryFlag.NONE
        target = b""
        rdev = 0
        size = 0
        if kind == EntryKind.FILE:
            size = state.st_size
            if state.st_nlink > 1:
                flags |= EntryFlag.LINKED
            if state.st_blocks * 512 < size:
                flags |= EntryFlag.SPARSE
        elif kind == EntryKind.SYMBOLIC_LINK:
            target = os.readlink(path)
        elif kind in (EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE):
            rdev = state.st_rdev
        if kind not in (EntryKind.FILE, EntryKind.FOLDER) and state.st_nlink > 1:
            flags |= EntryFlag.LINKED
        attributes, inexact = self._attributes(path, state, rdev, follow)
        mtime_ns = kept_time(state.st_mtime_ns)
        if mtime_ns != state.st_mtime_ns:
            inexact.append("its time is before 1677 or after 2262, so the nearest one within is kept")
        if inexact:
            problems.append(FoundProblem(name, "; ".join(inexact), ProblemKind.INEXACT, size))
        clock = self._clock(state.st_dev)
        keeps_ctime = clock.change_times and kind in (EntryKind.FILE, EntryKind.FOLDER)
        return Entry(
            name=name,
            kind=kind,
            size=size,
            mtime_ns=mtime_ns,
            ctime_ns=kept_time(state.st_ctime_ns) if keeps_ctime else 0,
            device=kept_number(state.st_dev),
            inode=kept_number(state.st_ino) if clock.lasting_inodes else 0,
            flags=flags,
            attributes=attributes,
            target=target,
            priority=priority,
            maxcopies=0,
            copies=0,
        )

    def _attributes(self, path: bytes, state: os.stat_result, rdev: int, follow: bool) -> tuple[Attributes, list[str]]:
        """With what is the matter with them."""
        mode = stat.S_IMODE(state.st_mode)
        xattrs, inexact = read_xattrs(path, follow)
        key = (mode, state.st_uid, state.st_gid, kept_number(rdev))
        if xattrs:
            return Attributes(*key, xattrs), inexact
        plain = self._plain_attributes.get(key)
        if plain is None:
            plain = self._plain_attributes[key] = Attributes(*key)
        return plain, inexact

    def _with_side_file(self, base: bytes, entry: Entry, problems: list[FoundProblem]) -> Entry | None:
        name = entry.name + sidecar.SUFFIX
        try:
            side_file = self._read_side_file(base, entry)
        except OSError as error:
            problems.append(FoundProblem(name, f"this side file cannot be read: {error.strerror}", None))
            return entry
        except ValueError as error:
            problems.append(FoundProblem(name, f"this side file says nothing usable: {error}", None))
            return entry
        if side_file is None:
            return entry
        priority = entry.priority if side_file.priority is None else side_file.priority
        if priority == 0:
            return None
        maxcopies = -1 if side_file.maxcopies == 0 else side_file.maxcopies or 0
        return entry._replace(priority=priority, maxcopies=maxcopies)

    def _read_side_file(self, base: bytes, entry: Entry) -> sidecar.SideFile | None:
        """None, with a remark, if somebody else than its file's owner or root wrote it. Raises OSError, ValueError."""
        path = base + b"/" + entry.name + sidecar.SUFFIX
        if self._is_foreign(path, entry, os.lstat(path)):
            return None
        try:
            descriptor = self._open(path, os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in _NO_FILE:
                raise ValueError("it is no regular file") from error
            raise
        try:
            state = os.fstat(descriptor)
            if self._is_foreign(path, entry, state):
                return None
            if not stat.S_ISREG(state.st_mode):
                raise ValueError("it is no regular file")
            return sidecar.parse_side_file(os.read(descriptor, sidecar.LARGEST))
        finally:
            os.close(descriptor)

    def _is_foreign(self, path: bytes, entry: Entry, state: os.stat_result) -> bool:
        if state.st_uid in (entry.attributes.uid, 0):
            return False
        self._remark(f"{printable(path)} belongs to somebody else than its file, so it says nothing of it")
        return True

    def _remark(self, sentence: str) -> None:
        if sentence not in self._remarked:
            self._remarked.add(sentence)
            self._remarks.append(sentence)

    def _clock(self, device: int) -> Clock:
        clock = self._clocks.get(device)
        if clock is None:
            clock = self._clocks[device] = clock_of_device(device)
        return clock


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
    if isinstance(error, NotADirectoryError):
        return SourceTrouble("it is no folder")
    return SourceTrouble(f"it {what}: {_said(error)}")


def _said(error: Exception) -> str:
    """What the system says; of what nobody thought of, its own words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}, {error}"
