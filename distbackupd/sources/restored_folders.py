"""Folders of a restored tree: which of them are our own, and what the others may be given.

A folder that nobody but root can have put there is taken as it stands, and gets the metadata of the backup's. Where others
may rename things, only what this restore made is given owners and more rights; so that the next one knows what an
interrupted one had made, root marks such a folder with an attribute that nobody else can set, until it is finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable

from distbackupd.engine.ports import EntryRefused
from distbackupd.model.files import InodeFlag, RestoreEntry
from distbackupd.planning.completing import Looks, may_others_write
from distbackupd.sources.restored_flags import give_flags
from distbackupd.sources.restored_later import Postponed
from distbackupd.sources.restored_metadata import looks_of, looks_wanted
from distbackupd.sources.restored_names import Standing, hold

_UNFINISHED = "trusted.distbackupd.unfinished"


def is_shared(folder: int) -> bool:
    """Whether others may put names into the open folder."""
    state = os.fstat(folder)
    return may_others_write(state.st_uid, state.st_mode, os.geteuid())


def take_new(folder: int, name: bytes, entry: RestoreEntry, owner_here: Callable[[], int]) -> os.stat_result:
    """How the folder stands that was just made where others may rename things.

    ``owner_here`` tells whose a thing becomes that is given to the folder's owner. Raises EntryRefused, OSError.
    """
    found = hold(folder, name)
    if found is None:
        raise EntryRefused("somebody removed it just now")
    with found:
        # Some file systems know no owners and no modes. Whatever is empty hides nothing.
        ours = found.state.st_uid == os.geteuid() or found.state.st_uid == owner_here()
        if not ours or not stat.S_ISDIR(found.state.st_mode) or os.listdir(found.handle):
            raise EntryRefused("somebody put another one in its place just now")
        if stat.S_IMODE(found.state.st_mode) & 0o077:
            with contextlib.suppress(OSError):
                os.chmod(found.handle, 0o700)
        with contextlib.suppress(OSError):
            os.setxattr(found.handle, _UNFINISHED, _marking(entry))
        return found.state


def take_present(found: Standing, entry: RestoreEntry, shared: bool, made: bool, attainable: int, above: int) -> Postponed:
    """Let what will be put into a folder that stands there be read by nobody who may not read it in the end.

    ``made``: this restore made it, as the inode it is. ``attainable``: whose a folder becomes here that is given to
    its owner. ``above``: the open folder that it stands in. Raises EntryRefused where it is somebody else's.
    """
    present, wanted = looks_of(found.handle, found.state, entry), looks_wanted(entry)
    if entry.inode_flags:
        # Nobody can put anything into an immutable one; and what a folder's flags are, they give to what is made in it.
        give_flags(found.handle, InodeFlag.NONE)
    identity = found.identity if shared else None
    if not shared or made or _is_marked(found, entry) or _is_among_themselves(above, present, wanted):
        # What is our own stays so until it is finished, and with it all that is below.
        if present.uid not in (os.geteuid(), wanted.uid):
            with contextlib.suppress(OSError, OverflowError):
                os.chown(found.handle, wanted.uid, wanted.gid)
        _tighten(found, present, wanted)
        return Postponed(entry, identity)
    if present.uid not in (wanted.uid, attainable):
        raise EntryRefused(
            "a folder of somebody else stands in its place, where others may write: restore to a folder that only root may "
            "write, or remove it and restore again"
        )
    _tighten(found, present, wanted)
    return Postponed(entry, identity, only_less=present != wanted)


def let_go(handle: bytes) -> None:
    """The folder is finished."""
    with contextlib.suppress(OSError):
        os.removexattr(handle, _UNFINISHED)


def _is_among_themselves(above: int, present: Looks, wanted: Looks) -> bool:
    """Whether nobody but its owner, then and now, can have put it there: he gets nothing that was not his."""
    state = os.fstat(above)
    return present.uid == wanted.uid == state.st_uid and not may_others_write(state.st_uid, state.st_mode, state.st_uid)


def _is_marked(found: Standing, entry: RestoreEntry) -> bool:
    try:
        return os.getxattr(found.handle, _UNFINISHED) == _marking(entry)
    except OSError:
        return False


def _marking(entry: RestoreEntry) -> bytes:
    """What the restore script of the disks marks it with, too."""
    attributes = entry.attributes
    said = repr((entry.path, attributes.mode, attributes.uid, attributes.gid))
    return hashlib.blake2b(said.encode(), digest_size=16).digest()


def _tighten(found: Standing, present: Looks, wanted: Looks) -> None:
    """No more rights than in the end, but those that this process needs to go on."""
    mode = present.mode & wanted.mode
    if _access(present) != _access(wanted) or present.gid != wanted.gid:
        mode &= ~0o070
    if found.state.st_uid == os.geteuid():
        mode |= 0o700
    if mode != present.mode:
        with contextlib.suppress(OSError):
            os.chmod(found.handle, mode)


def _access(looks: Looks) -> frozenset[tuple[bytes, bytes]]:
    return frozenset(item for item in looks.xattrs if item[0] == b"system.posix_acl_access")
