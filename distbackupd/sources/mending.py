"""Giving a source file its good content back, and leaving everything else of it as it is.

What it held is kept beside it, under a name that says so: whoever knows better than we do has lost nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence

from distbackupd.engine.ports import Mended, Pulse
from distbackupd.model.errors import Interrupted, SourceChanged, SourceTrouble
from distbackupd.model.files import Entry, EntryFlag, EntryKind, RestoreEntry
from distbackupd.model.rot import RottenFile
from distbackupd.model.sources import RealPath
from distbackupd.model.text import printable
from distbackupd.sources.describing import Describer
from distbackupd.sources.folders import OpenFolders
from distbackupd.sources.kept import is_as_known
from distbackupd.sources.restored_content import copy_content, open_object
from distbackupd.sources.restored_metadata import give_metadata_to_new_file
from distbackupd.sources.restored_names import create, discard, rename_to_free_name, temporary_name
from distbackupd.sources.tree import FolderTree

_REFUSED = "; it was left as it is"
_LONGEST_NAME = 255
_MOST_KEPT = 1000


def mend_source(paths: Sequence[RealPath], rotten: RottenFile, open_content: Callable[[], int], pulse: Pulse) -> Mended:
    """Put the good content in the place of the rotten one. See :class:`distbackupd.engine.ports.MendSource`.

    A new file beside the old one gets the content, hashed while it is written, and the old one's owner, mode, extended
    attributes and times; it is durable before it takes the old one's names. The old one gets another name before it loses
    its own. A crash leaves the old file or the new one.

    Whoever may write in the folder may exchange names at any moment: what is read, described and linked is what was opened.
    """
    with _in_words(), contextlib.ExitStack() as opened:
        names = [_Name(opened, path) for path in paths]
        old, before, described = _as_found(names[0], rotten, pulse, opened)
        if before.st_nlink != len(names):
            raise SourceTrouble(
                f"it has {before.st_nlink} names, of which {len(names)} are known; it was left as it is, for it would stay "
                "rotten under the others: write the good content over it yourself"
            )
        first = names[0]
        temporary = temporary_name(first.name)
        try:
            new = _write_beside(first, temporary, before, described, rotten, open_content, pulse)
            opened.callback(os.close, new)
            if _identity(first.state()) != _identity(before):
                raise SourceChanged(f"something was done to it meanwhile{_REFUSED}")
            kept = _keep(first, old, before)
            os.rename(temporary, first.name, src_dir_fd=first.folder, dst_dir_fd=first.folder)
        except BaseException:
            discard(first.folder, temporary)
            raise
        os.fsync(first.folder)
        for other in names[1:]:
            _link(new, other, before)
        if not os.path.samestat(first.state(), os.fstat(new)):
            raise SourceChanged(f"another file took its name just now; what it held is {printable(kept)}")
        entry = first.describe()
    return Mended(entry, os.path.join(os.path.dirname(paths[0].path), kept))


def _keep(name: _Name, old: int, before: os.stat_result) -> bytes:
    """Give the file another name beside its own, which nothing has, and which says what it is; the name."""
    day = time.strftime("%Y-%m-%d").encode()
    for number in range(1, _MOST_KEPT):
        ending = b".replaced-" + day + (b"-%d" % number if number > 1 else b"")
        kept = name.name[: _LONGEST_NAME - len(ending)] + ending
        try:
            os.link(b"/proc/self/fd/%d" % old, kept, dst_dir_fd=name.folder, follow_symlinks=True)
        except FileExistsError:
            continue
        except PermissionError:
            # The file system has no hard links.
            rename_to_free_name(name.folder, name.name, kept)
        state = os.stat(kept, dir_fd=name.folder, follow_symlinks=False)
        if (state.st_dev, state.st_ino) != (before.st_dev, before.st_ino):
            raise SourceChanged(f"another file took its name meanwhile; what was there is {printable(kept)} now too")
        return kept
    raise SourceTrouble(f"there is no free name to keep it under{_REFUSED}")


class _Name:
    """A name in a folder that stays open: whoever may write above it cannot lead us elsewhere any more."""

    def __init__(self, opened: contextlib.ExitStack, place: RealPath) -> None:
        # A file that a followed link led to has a root of its own, and the folder above that is named with it.
        above = place.folder if place.below else RealPath(os.path.dirname(place.root) or b"/")
        self.folder = OpenFolders().open_folder(above)
        opened.callback(os.close, self.folder)
        self.name = os.path.basename(place.path)

    def describe(self) -> Entry:
        """The regular file there, no link followed. Raises OSError."""
        entry = Describer().entry_in(self.folder, self.name, False, 1, [])
        if entry is None or entry.kind != EntryKind.FILE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return entry

    def state(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)


def _as_found(
    name: _Name, rotten: RottenFile, pulse: Pulse, opened: contextlib.ExitStack
) -> tuple[int, os.stat_result, Entry]:
    """The open file and how it stands: exactly as when it was found rotten.

    Raises SourceChanged, SourceTrouble, Interrupted.

    It stays open: a file that takes its name cannot have its inode number then.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name.name, flags, dir_fd=name.folder)
    opened.callback(os.close, descriptor)
    place = RealPath(b"/proc/self/fd/%d" % descriptor)
    found = FolderTree().reading(place, rotten.size, rotten.mtime_ns, rotten.inode).go_on(pulse)
    if found is None:
        raise Interrupted("stopped while a rotten file was read; nothing of it was changed")
    state = os.fstat(descriptor)
    looks = is_as_known(state, rotten.size, rotten.mtime_ns)
    same = (found.digest, found.entry.ctime_ns) == (rotten.found, rotten.ctime_ns)
    if not looks or not same or _identity(name.state()) != _identity(state):
        raise SourceChanged(f"something was done to it since it was found rotten{_REFUSED}")
    return descriptor, state, found.entry


def _write_beside(
    name: _Name,
    temporary: bytes,
    before: os.stat_result,
    described: Entry,
    rotten: RottenFile,
    open_content: Callable[[], int],
    pulse: Pulse,
) -> int:
    """A descriptor of the new file, which is durable."""
    entry = RestoreEntry(
        path=rotten.path,
        kind=EntryKind.FILE,
        size=rotten.size,
        mtime_ns=rotten.mtime_ns,
        device=0,
        inode=0,
        flags=described.flags & EntryFlag.SPARSE,
        attributes=described.attributes,
        target=b"",
        digest=rotten.digest,
        holders=frozenset(),
    )
    content = open_object(open_content)
    try:
        descriptor = create(name.folder, temporary)
        try:
            lost: list[str] = []
            copy_content(content, descriptor, entry, pulse)
            give_metadata_to_new_file(descriptor, entry, lost.append)
            if lost:
                raise SourceTrouble(f"its {lost[0]} could not be kept{_REFUSED}: ask as root")
            os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))
            os.fsync(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
    finally:
        os.close(content)
    return descriptor


def _identity(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _link(new: int, other: _Name, before: os.stat_result) -> None:
    """Make another name of the rotten file one of the mended file."""
    state = other.state()
    if (state.st_dev, state.st_ino) != (before.st_dev, before.st_ino):
        return
    temporary = temporary_name(other.name)
    discard(other.folder, temporary)
    os.link(b"/proc/self/fd/%d" % new, temporary, dst_dir_fd=other.folder, follow_symlinks=True)
    os.rename(temporary, other.name, src_dir_fd=other.folder, dst_dir_fd=other.folder)
    os.fsync(other.folder)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceTrouble(f"it cannot be replaced: {error.strerror}{_REFUSED}") from error
