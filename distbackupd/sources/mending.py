"""Giving a source file its good content back, and leaving everything else of it as it is."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence

from distbackupd.engine.ports import Pulse
from distbackupd.model.errors import Interrupted, SourceChanged, SourceTrouble
from distbackupd.model.files import EntryFlag, EntryKind, RestoreEntry
from distbackupd.model.rot import Reading, RottenFile
from distbackupd.sources.kept import is_as_known, kept_time
from distbackupd.sources.paths import open_folder
from distbackupd.sources.restored_content import copy_content, open_object
from distbackupd.sources.restored_metadata import give_metadata_to_new_file
from distbackupd.sources.restored_names import create, discard, temporary_name
from distbackupd.sources.tree import FolderTree

_REFUSED = "; it was left as it is"


def mend_source(
    paths: Sequence[bytes], rotten: RottenFile, open_content: Callable[[], int], pulse: Pulse
) -> tuple[int, int]:
    """Put the good content in the place of the rotten one. See :class:`distbackupd.engine.ports.MendSource`.

    A new file beside the old one gets the content, hashed while it is written, and the old one's owner, mode, extended
    attributes and times; it is durable before it takes the old one's names. A crash leaves the old file or the new one.
    """
    with _in_words(), contextlib.ExitStack() as opened:
        names = [_Name(opened, path) for path in paths]
        before = _as_found(paths[0], names[0], rotten, pulse)
        if before.st_nlink != len(names):
            raise SourceTrouble(
                f"it has {before.st_nlink} names, of which {len(names)} are known; it was left as it is, for it would stay "
                "rotten under the others: write the good content over it yourself"
            )
        first = names[0]
        temporary = temporary_name(first.name)
        try:
            after = _write_beside(first, temporary, before, rotten, open_content, pulse)
            if _identity(first.state()) != _identity(before):
                raise SourceChanged(f"something was done to it meanwhile{_REFUSED}")
            os.rename(temporary, first.name, src_dir_fd=first.folder, dst_dir_fd=first.folder)
        except BaseException:
            discard(first.folder, temporary)
            raise
        os.fsync(first.folder)
        for other in names[1:]:
            _link(first, other, before)
    return after.st_dev, after.st_ino


class _Name:
    """A name in a folder that stays open: whoever may write above it cannot lead us elsewhere any more."""

    def __init__(self, opened: contextlib.ExitStack, path: bytes) -> None:
        self.folder = open_folder(os.path.dirname(path) or b"/")
        opened.callback(os.close, self.folder)
        self.name = os.path.basename(path)

    def state(self) -> os.stat_result:
        return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)


def _as_found(path: bytes, name: _Name, rotten: RottenFile, pulse: Pulse) -> os.stat_result:
    """How the file stands: exactly as when it was found rotten. Raises SourceChanged, SourceTrouble, Interrupted."""
    tree = FolderTree()
    found = tree.reading(path, rotten.size, rotten.mtime_ns, rotten.inode).go_on(pulse)
    if found is None:
        raise Interrupted("stopped while a rotten file was read; nothing of it was changed")
    state = name.state()
    looks = stat.S_ISREG(state.st_mode) and is_as_known(state, rotten.size, rotten.mtime_ns)
    if found != Reading(rotten.found, rotten.ctime_ns) or not looks or kept_time(state.st_ctime_ns) != rotten.ctime_ns:
        raise SourceChanged(f"something was done to it since it was found rotten{_REFUSED}")
    return state


def _write_beside(
    name: _Name,
    temporary: bytes,
    before: os.stat_result,
    rotten: RottenFile,
    open_content: Callable[[], int],
    pulse: Pulse,
) -> os.stat_result:
    described = FolderTree().describe_file(b"/proc/self/fd/%d/%s" % (name.folder, name.name))
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
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)
    finally:
        os.close(content)


def _identity(state: os.stat_result) -> tuple[int, ...]:
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _link(first: _Name, other: _Name, before: os.stat_result) -> None:
    """Make another name of the rotten file one of the mended file."""
    state = other.state()
    if (state.st_dev, state.st_ino) != (before.st_dev, before.st_ino):
        return
    temporary = temporary_name(other.name)
    discard(other.folder, temporary)
    os.link(first.name, temporary, src_dir_fd=first.folder, dst_dir_fd=other.folder, follow_symlinks=False)
    os.rename(temporary, other.name, src_dir_fd=other.folder, dst_dir_fd=other.folder)
    os.fsync(other.folder)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceTrouble(f"it cannot be replaced: {error.strerror}{_REFUSED}") from error
