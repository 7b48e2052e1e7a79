"""Making new entries under temporary names at the destination, with all their metadata, from descriptor to descriptor."""

from __future__ import annotations

import os
from collections.abc import Callable

from distbackupd.engine.ports import EntryRefused, Placement, Pulse
from distbackupd.model.files import EntryKind, InodeFlag, RestoreEntry
from distbackupd.planning.completing import Looks
from distbackupd.sources.inode_flags import write_flags
from distbackupd.sources.restored_content import copy_content, open_object
from distbackupd.sources.restored_flags import give_before_content, is_locked_later
from distbackupd.sources.restored_folders import is_shared
from distbackupd.sources.restored_metadata import give_metadata, give_metadata_to_new_file, looks_of, looks_wanted
from distbackupd.sources.restored_names import FORMATS, Compared, Standing, compare, create, discard, hold

FLAGS = "flag of chattr"
Lose = Callable[[str], None]
"""Is told each kind of metadata that the destination did not take."""

_MOST_KNOWN = 100_000
_KIND_NAMES = {
    EntryKind.SYMBOLIC_LINK: "symbolic link",
    EntryKind.FIFO: "fifo",
    EntryKind.CHARACTER_DEVICE: "device node",
    EntryKind.BLOCK_DEVICE: "device node",
}


class Maker:
    """Makes what is no folder. ``is_unable``: whether an error means that the destination, or this user, cannot do it."""

    def __init__(self, is_unable: Callable[[OSError], bool]) -> None:
        self._is_unable = is_unable
        self._outcomes: dict[object, tuple[Looks, tuple[str, ...]]] = {}

    def make(
        self,
        folder: int,
        temporary: bytes,
        entry: RestoreEntry,
        open_content: Callable[[], int] | None,
        pulse: Pulse,
        lose: Lose,
    ) -> tuple[int, int] | None:
        """Device and inode (0: not looked at) of an entry with all that is its own but locks; None: it cannot be held here.

        Raises BadContent, Interrupted, EntryRefused, OSError; whoever calls it removes what has the temporary name then.
        """
        if entry.kind is not EntryKind.FILE:
            made = self._make_special(folder, temporary, entry, lose)
            if made is None:
                return None
            with made:
                return made.identity
        content = open_object(open_content) if open_content is not None else None
        try:
            descriptor = create(folder, temporary)
            try:
                give_before_content(descriptor, entry)
                if content is not None:
                    copy_content(content, descriptor, entry, pulse)
                give_metadata_to_new_file(descriptor, entry, lose)
                if not entry.flags:
                    return 0, 0
                if entry.inode_flags and not is_locked_later(entry) and write_flags(descriptor, entry.inode_flags):
                    lose(FLAGS)
                state = os.fstat(descriptor)
                return state.st_dev, state.st_ino
            finally:
                os.close(descriptor)
        finally:
            if content is not None:
                os.close(content)

    def outcome(
        self, folder: int, temporary: bytes, entry: RestoreEntry, present: Looks | None, lose: Lose = lambda _kind: None
    ) -> Looks:
        """How a new one looks here, given all that is the entry's: destinations and users cannot keep everything.

        What is known from before is believed only where ``present`` looks so, for then nothing comes of it.
        """
        key = (os.fstat(folder).st_dev, entry.kind, entry.attributes, entry.inode_flags)
        known = self._outcomes.get(key)
        if known is None or (present is not None and known[0] != present):
            lost: list[str] = []
            if len(self._outcomes) >= _MOST_KNOWN:
                self._outcomes.clear()
            known = self._outcomes[key] = self._try_out(folder, temporary, entry, lost.append), tuple(lost)
        for kind in known[1]:
            lose(kind)
        return known[0]

    def _try_out(self, folder: int, temporary: bytes, entry: RestoreEntry, lose: Lose) -> Looks:
        try:
            if entry.kind is not EntryKind.FILE:
                made = self._make_special(folder, temporary, entry, lose)
                if made is None:
                    return looks_wanted(entry)
                with made:
                    return looks_of(made.handle, os.stat(made.handle), entry)
            descriptor = create(folder, temporary)
            try:
                give_metadata_to_new_file(descriptor, entry, lose)
                if entry.inode_flags and write_flags(descriptor, entry.inode_flags):
                    lose(FLAGS)
                looks = looks_of(descriptor, os.fstat(descriptor), entry)
                if entry.inode_flags:
                    write_flags(descriptor, InodeFlag.NONE)
                return looks
            finally:
                os.close(descriptor)
        finally:
            discard(folder, temporary)

    def _make_special(self, folder: int, temporary: bytes, entry: RestoreEntry, lose: Lose) -> Standing | None:
        """Make a link, fifo or device node, which is held; None: the destination cannot hold it."""
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
            lose(_KIND_NAMES[entry.kind])
            return None
        made = hold(folder, temporary)
        if made is None:
            raise EntryRefused("somebody removed it just now")
        try:
            # It has no descriptor of its own from the beginning, as files have.
            ours = made.state.st_nlink == 1 and (made.state.st_uid == os.geteuid() or not is_shared(folder))
            if not ours or compare(made, entry, False, None, Compared()) is not Placement.LEFT_ALONE:
                raise EntryRefused("somebody put something else in its place just now")
            give_metadata(made.handle, made.state, entry, lose)
        except BaseException:
            made.close()
            raise
        return made
