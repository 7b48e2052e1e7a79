"""What one entry of a folder is, as far as it can be told without opening it."""

from __future__ import annotations

import errno
import os
import stat

from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind, ProblemKind
from distbackupd.model.problems import FoundProblem
from distbackupd.sources.attributes import read_xattrs
from distbackupd.sources.clocks import Clock, clock_of_device
from distbackupd.sources.kept import kept_number, kept_time

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


class Describer:
    """Describes entries; of many with equal attributes these are one value. Remembers the clocks of file systems."""

    def __init__(self) -> None:
        self._plain_attributes: dict[tuple[int, int, int, int], Attributes] = {}
        self._clocks: dict[int, Clock] = {}

    def entry_in(self, folder: int, name: bytes, follow: bool, priority: int, problems: list[FoundProblem]) -> Entry | None:
        """The entry of an open folder, a link itself or what it leads to; None: it is gone, or no backup keeps it.

        What can only be kept nearly is in ``problems`` then. Raises OSError.
        """
        if follow:
            try:
                descriptor = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
            except OSError as error:
                if error.errno not in _LEADS_NOWHERE:
                    raise
            else:
                try:
                    return self.entry_of(descriptor, name, priority, problems)
                finally:
                    os.close(descriptor)
        try:
            state = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        path = b"/proc/self/fd/%d/%b" % (folder, name)
        target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(state.st_mode) else b""
        xattrs, inexact = read_xattrs(path, follow=False)
        if xattrs and not os.path.samestat(state, os.stat(name, dir_fd=folder, follow_symlinks=False)):
            # What another file has must not become this one's: a capability, say.
            raise OSError(errno.ESTALE, "another file took its name while it was looked at")
        return self._entry(state, name, target, xattrs, inexact, priority, problems)

    def entry_of(self, descriptor: int, name: bytes, priority: int, problems: list[FoundProblem]) -> Entry | None:
        """The same of what is open, with O_PATH too; None: no backup keeps it. Raises OSError."""
        state = os.fstat(descriptor)
        xattrs, inexact = read_xattrs(b"/proc/self/fd/%d" % descriptor, follow=True)
        return self._entry(state, name, b"", xattrs, inexact, priority, problems)

    def clock(self, device: int) -> Clock:
        """That of the file system on a device."""
        clock = self._clocks.get(device)
        if clock is None:
            clock = self._clocks[device] = clock_of_device(device)
        return clock

    def _entry(
        self,
        state: os.stat_result,
        name: bytes,
        target: bytes,
        xattrs: tuple[tuple[bytes, bytes], ...],
        inexact: list[str],
        priority: int,
        problems: list[FoundProblem],
    ) -> Entry | None:
        kind = _KINDS.get(stat.S_IFMT(state.st_mode))
        if kind is None:
            what = "a socket" if stat.S_ISSOCK(state.st_mode) else "a thing of a kind that is not known"
            problems.append(FoundProblem(name, f"{what}, which no backup keeps", ProblemKind.NOT_KEPT))
            return None
        flags = EntryFlag.NONE
        rdev = 0
        size = 0
        if kind == EntryKind.FILE:
            size = state.st_size
            if state.st_nlink > 1:
                flags |= EntryFlag.LINKED
            if state.st_blocks * 512 < size:
                flags |= EntryFlag.SPARSE
        elif kind in (EntryKind.CHARACTER_DEVICE, EntryKind.BLOCK_DEVICE):
            rdev = state.st_rdev
        if kind not in (EntryKind.FILE, EntryKind.FOLDER) and state.st_nlink > 1:
            flags |= EntryFlag.LINKED
        mtime_ns = kept_time(state.st_mtime_ns)
        if mtime_ns != state.st_mtime_ns:
            inexact.append("its time is before 1677 or after 2262, so the nearest one within is kept")
        if inexact:
            problems.append(FoundProblem(name, "; ".join(inexact), ProblemKind.INEXACT, size))
        clock = self.clock(state.st_dev)
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
            attributes=self._attributes(state, rdev, xattrs),
            target=os.fsencode(target),
            priority=priority,
            maxcopies=0,
            copies=0,
        )

    def _attributes(self, state: os.stat_result, rdev: int, xattrs: tuple[tuple[bytes, bytes], ...]) -> Attributes:
        key = (stat.S_IMODE(state.st_mode), state.st_uid, state.st_gid, kept_number(rdev))
        if xattrs:
            return Attributes(*key, xattrs)
        plain = self._plain_attributes.get(key)
        if plain is None:
            plain = self._plain_attributes[key] = Attributes(*key)
        return plain
