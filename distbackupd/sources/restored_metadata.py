"""Giving a restored entry its owner, mode, extended attributes and time, and telling what would not stay."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from distbackupd.model.files import EntryKind, RestoreEntry

TIME_STEPS_NS = (1, 100, 1_000, 10_000_000, 1_000_000_000, 2_000_000_000)
"""Steps in which file systems keep times: ext4, NTFS, UDF, exFAT, ext3, FAT."""

_ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
_CAPABILITY = "security.capability"


def give_metadata(handle: int | bytes, state: os.stat_result, entry: RestoreEntry, lose: Callable[[str], None]) -> None:
    """Make owner, mode, extended attributes and time of an open entry what they are to be, touching only what differs.

    ``handle`` is a descriptor, a path below ``/proc/self/fd`` that leads to one, or, of a symbolic link, such a path to
    its folder and its name behind. ``state`` is how the entry stands now. ``lose`` is told each kind of metadata that
    the destination did not take. Where the owner does not stay, setuid and setgid bits are not given to somebody else.
    """
    attributes = entry.attributes
    link = entry.kind is EntryKind.SYMBOLIC_LINK
    follow = {"follow_symlinks": False} if link else {}
    mode = attributes.mode
    # In this order: a change of owner clears setuid and capabilities, a change of mode clears parts of an ACL.
    if state.st_uid != attributes.uid or state.st_gid != attributes.gid:
        state = _give_owner(handle, attributes.uid, attributes.gid, follow)
        if state.st_uid != attributes.uid:
            mode &= ~stat.S_ISUID
        if state.st_gid != attributes.gid:
            mode &= ~stat.S_ISGID
    taken = (state.st_uid, state.st_gid, mode) == (attributes.uid, attributes.gid, attributes.mode)
    try:
        if not link and state.st_mode & 0o7777 != mode:
            os.chmod(handle, mode)
    except OSError:
        taken = False
    _give_xattrs(handle, attributes.xattrs, lose, follow)
    try:
        if state.st_mtime_ns != entry.mtime_ns:
            os.utime(handle, None, ns=(state.st_atime_ns, entry.mtime_ns), **follow)
    except (OSError, OverflowError):
        taken = False
    # Where a call did nothing and did not say so (FAT, FUSE), the folders tell it: they are few.
    if not taken or entry.kind is EntryKind.FOLDER:
        _look_what_is_lost(os.stat(handle, **follow), entry, lose)


def give_metadata_to_new_file(descriptor: int, entry: RestoreEntry, lose: Callable[[str], None]) -> None:
    """The same for a regular file that was just made with mode 0600, in fewer calls."""
    attributes = entry.attributes
    try:
        os.chown(descriptor, attributes.uid, attributes.gid)
        os.chmod(descriptor, attributes.mode)
        os.utime(descriptor, None, ns=(entry.mtime_ns, entry.mtime_ns))
    except (OSError, OverflowError):
        give_metadata(descriptor, os.fstat(descriptor), entry, lose)
    else:
        _give_xattrs(descriptor, attributes.xattrs, lose, {})


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


def _give_owner(handle: int | bytes, uid: int, gid: int, follow: dict[str, bool]) -> os.stat_result:
    try:
        os.chown(handle, uid, gid, **follow)
    except (OSError, OverflowError):
        with contextlib.suppress(OSError, OverflowError):
            os.chown(handle, -1, gid, **follow)
    return os.stat(handle, **follow)


def _give_xattrs(
    handle: int | bytes, wanted: tuple[tuple[bytes, bytes], ...], lose: Callable[[str], None], follow: dict[str, bool]
) -> None:
    try:
        present = set(os.listxattr(handle, **follow))
    except OSError:
        present = set()
    if not wanted and not present:
        return
    values = {os.fsdecode(name): value for name, value in wanted}
    for name in present - values.keys():
        # What a folder's default ACL gave; labels of a security module are its own business.
        if name.startswith("user.") or name in _ACCESS_LISTS or name == _CAPABILITY:
            with contextlib.suppress(OSError):
                os.removexattr(handle, name, **follow)
    for name, value in values.items():
        try:
            if name not in present or os.getxattr(handle, name, **follow) != value:
                os.setxattr(handle, name, value, **follow)
        except (OSError, ValueError):
            lose("ACL" if name in _ACCESS_LISTS else "capability" if name == _CAPABILITY else "extended attribute")
