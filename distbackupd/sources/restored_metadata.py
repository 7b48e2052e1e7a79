"""Giving a restored entry its owner, mode, extended attributes and time, and telling what would not stay."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from distbackupd.model.files import EntryKind, RestoreEntry
from distbackupd.model.owners import mode_without_access_list
from distbackupd.planning.completing import Looks
from distbackupd.sources.inode_flags import read_flags

TIME_STEPS_NS = (1, 100, 1_000, 10_000_000, 1_000_000_000, 2_000_000_000)
"""Steps in which file systems keep times: ext4, NTFS, UDF, exFAT, ext3, FAT."""

_ACCESS_LIST = "system.posix_acl_access"
_ACCESS_LISTS = (_ACCESS_LIST, "system.posix_acl_default")
_CAPABILITY = "security.capability"


def give_metadata(handle: int | bytes, state: os.stat_result, entry: RestoreEntry, lose: Callable[[str], None]) -> None:
    """Make owner, mode, extended attributes and time of an open entry what they are to be, touching only what differs.

    ``handle`` is a descriptor, or a path below ``/proc/self/fd`` that leads to one. ``state`` is how the entry stands now.
    ``lose`` is told each kind of metadata that the destination did not take. Where the owner does not stay, setuid and
    setgid bits are not given to somebody else. At no moment may anybody do more with it than before or after.
    """
    attributes = entry.attributes
    link = entry.kind is EntryKind.SYMBOLIC_LINK
    mode = attributes.mode
    # In this order: a change of owner clears setuid and capabilities, and what a mode lets a group do may be for those
    # only whom an access list names, or for those whom an inherited one names that has to go.
    if state.st_uid != attributes.uid or state.st_gid != attributes.gid:
        state = _give_owner(handle, attributes.uid, attributes.gid)
        if state.st_uid != attributes.uid:
            mode &= ~stat.S_ISUID
        if state.st_gid != attributes.gid:
            mode &= ~stat.S_ISGID
    taken = (state.st_uid, state.st_gid, mode) == (attributes.uid, attributes.gid, attributes.mode)
    if not _give_xattrs(handle, attributes.xattrs, lose):
        mode &= mode_without_access_list(attributes)
    try:
        # An access list that came or went has changed the mode.
        if not link and (attributes.xattrs or state.st_mode & 0o7777 != mode):
            os.chmod(handle, mode)
    except OSError:
        taken = False
    try:
        if state.st_mtime_ns != entry.mtime_ns:
            os.utime(handle, None, ns=(state.st_atime_ns, entry.mtime_ns))
    except (OSError, OverflowError):
        taken = False
    # Where a call did nothing and did not say so (FAT, FUSE), the folders tell it: they are few.
    if not taken or entry.kind is EntryKind.FOLDER:
        _look_what_is_lost(os.stat(handle), entry, lose)


def give_metadata_to_new_file(descriptor: int, entry: RestoreEntry, lose: Callable[[str], None]) -> None:
    """The same for a regular file that was just made with mode 0600, in fewer calls."""
    attributes = entry.attributes
    try:
        os.chown(descriptor, attributes.uid, attributes.gid)
        listed = _give_xattrs(descriptor, attributes.xattrs, lose)
        os.chmod(descriptor, attributes.mode if listed else mode_without_access_list(attributes))
        os.utime(descriptor, None, ns=(entry.mtime_ns, entry.mtime_ns))
    except (OSError, OverflowError):
        give_metadata(descriptor, os.fstat(descriptor), entry, lose)


def complete_metadata(handle: bytes, state: os.stat_result, entry: RestoreEntry, mode: int) -> None:
    """Give an open entry that is not our own what is harmless: a mode, ``user.*`` attributes, its time. Raises OSError."""
    if entry.kind is not EntryKind.SYMBOLIC_LINK and stat.S_IMODE(state.st_mode) != mode:
        os.chmod(handle, mode)
    own = tuple(item for item in entry.attributes.xattrs if item[0].startswith(b"user."))
    _give_xattrs(handle, own, lambda _kind: None, ("user.",))
    complete_time(handle, state, entry)


def complete_time(handle: bytes, state: os.stat_result, entry: RestoreEntry) -> None:
    """The same with nothing but its time, as far as the file system keeps it."""
    if state.st_mtime_ns != entry.mtime_ns:
        with contextlib.suppress(OSError, OverflowError):
            os.utime(handle, None, ns=(state.st_atime_ns, entry.mtime_ns))


def looks_of(handle: int | bytes, state: os.stat_result, entry: RestoreEntry) -> Looks:
    """How an open entry looks, as far as a restore of ``entry`` would change that."""
    wanted = entry.attributes.xattrs
    try:
        present = os.listxattr(handle)
    except OSError:
        present = []
    xattrs = []
    if present:
        names = {os.fsdecode(name) for name, _ in wanted}
        for name in present:
            if name in names or _is_stray(name):
                with contextlib.suppress(OSError):
                    xattrs.append((os.fsencode(name), os.getxattr(handle, name)))
    return Looks(state.st_uid, state.st_gid, _mode(entry, state.st_mode), frozenset(xattrs), _flags(handle, entry))


def looks_wanted(entry: RestoreEntry) -> Looks:
    """How it is to look."""
    attributes = entry.attributes
    mode = _mode(entry, attributes.mode)
    flags = int(entry.inode_flags) if entry.kind is EntryKind.FILE else 0
    return Looks(attributes.uid, attributes.gid, mode, frozenset(attributes.xattrs), flags)


def _mode(entry: RestoreEntry, mode: int) -> int:
    return 0 if entry.kind is EntryKind.SYMBOLIC_LINK else stat.S_IMODE(mode)


def _flags(handle: int | bytes, entry: RestoreEntry) -> int:
    """Only where the backup knows of some: others are somebody else's."""
    if entry.kind is not EntryKind.FILE or not entry.inode_flags:
        return 0
    try:
        descriptor = os.open(handle, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) if isinstance(handle, bytes) else handle
    except OSError:
        return 0
    try:
        return int(read_flags(descriptor))
    except OSError:
        return 0
    finally:
        if descriptor != handle:
            os.close(descriptor)


def _look_what_is_lost(state: os.stat_result, entry: RestoreEntry, lose: Callable[[str], None]) -> None:
    attributes = entry.attributes
    if (state.st_uid, state.st_gid) != (attributes.uid, attributes.gid):
        lose("owner")
    if entry.kind is not EntryKind.SYMBOLIC_LINK and stat.S_IMODE(state.st_mode) != attributes.mode:
        lose("mode")
    if state.st_mtime_ns != entry.mtime_ns:
        lose("exact time")


def same_time(kept_ns: int, wanted_ns: int) -> bool:
    """Whether ``kept_ns`` is what some file system makes of ``wanted_ns``."""
    return kept_ns == wanted_ns or any(kept_ns == wanted_ns // step * step for step in TIME_STEPS_NS)


def _give_owner(handle: int | bytes, uid: int, gid: int) -> os.stat_result:
    try:
        os.chown(handle, uid, gid)
    except (OSError, OverflowError):
        with contextlib.suppress(OSError, OverflowError):
            os.chown(handle, -1, gid)
    return os.stat(handle)


def _is_stray(name: str) -> bool:
    """What a folder's default ACL gave, for one; labels of a security module are its own business."""
    return name.startswith("user.") or name in _ACCESS_LISTS or name == _CAPABILITY


def _give_xattrs(
    handle: int | bytes, wanted: tuple[tuple[bytes, bytes], ...], lose: Callable[[str], None], only: tuple[str, ...] = ("",)
) -> bool:
    """Whether the access list that is wanted is there now, if one is. ``only``: beginnings of names that are looked at."""
    try:
        present = set(os.listxattr(handle))
    except OSError:
        present = set()
    if not wanted and not present:
        return True
    values = {os.fsdecode(name): value for name, value in wanted}
    for name in present - values.keys():
        if name.startswith(only) and _is_stray(name):
            with contextlib.suppress(OSError):
                os.removexattr(handle, name)
    listed = True
    for name, value in values.items():
        try:
            if name not in present or os.getxattr(handle, name) != value:
                os.setxattr(handle, name, value)
        except (OSError, ValueError):
            lose("ACL" if name in _ACCESS_LISTS else "capability" if name == _CAPABILITY else "extended attribute")
            listed = listed and name != _ACCESS_LIST
    return listed
