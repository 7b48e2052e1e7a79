"""What the virtual tree holds: entries with the whole of their metadata, and the content they refer to."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple


class EntryKind(IntEnum):
    """What an entry of the virtual tree is. The numbers are stored in the catalogue: never renumber."""

    FILE = 0
    FOLDER = 1
    SYMBOLIC_LINK = 2
    FIFO = 3
    CHARACTER_DEVICE = 4
    BLOCK_DEVICE = 5


class EntryFlag(IntFlag):
    """What is to be known of an entry beyond its metadata. The numbers are stored."""

    NONE = 0
    LINKED = 1
    """More than one name: entries with equal device and inode become hard links of each other."""
    SPARSE = 2
    """Fewer blocks than its size needs: runs of zeros become holes."""
    MOUNT_POINT = 4
    """A folder on which something was mounted: when nothing is, it is another folder."""
    RESTLESS = 8
    """It was written whenever it was read, so it was taken as it was read: its parts may be of different moments."""


class InodeFlag(IntFlag):
    """What ``chattr`` sets, as Linux numbers it; :data:`KEPT` of them are backed up and restored.

    In the catalogue they lie in the same number as :class:`EntryFlag`, :data:`INODE_FLAGS_SHIFT` bits higher.
    """

    NONE = 0
    SECURE_DELETION = 0x1
    UNDELETABLE = 0x2
    COMPRESSED = 0x4
    SYNCHRONOUS = 0x8
    IMMUTABLE = 0x10
    APPEND_ONLY = 0x20
    NO_DUMP = 0x40
    NO_ACCESS_TIME = 0x80
    NOT_COMPRESSED = 0x400
    JOURNALED = 0x4000
    NO_TAIL = 0x8000
    SYNCHRONOUS_FOLDER = 0x10000
    TOP_FOLDER = 0x20000
    NO_COPY_ON_WRITE = 0x800000
    KEPT = 0x83C4FF
    LOCKS = IMMUTABLE | APPEND_ONLY
    """While one of these is set, nothing can be changed, renamed or linked."""
    BEFORE_CONTENT = COMPRESSED | NOT_COMPRESSED | NO_COPY_ON_WRITE
    """These only mean something for what is written afterwards."""


INODE_FLAGS_SHIFT = 8


class ProblemKind(IntEnum):
    """What could not be backed up as it is. The numbers are stored in the catalogue: never renumber."""

    UNREAD = 0
    """A regular file that was seen and could not be read: its present content has no copy."""
    INEXACT = 1
    """Backed up, but something of it (a time, an attribute) only as near as it can be kept."""
    NOT_KEPT = 2
    """A thing that no backup keeps, such as a socket."""
    LEFT_OUT = 3
    """What this program keeps there itself: a backup disk's layout, the catalogue. It is no part of the backup."""
    UNCOPIED = 4
    """A regular file that was another one whenever it was to be copied."""
    SIDE_FILE = 5
    """A side file that says nothing usable of its file. Both are backed up."""


class Attributes(NamedTuple):
    """Owner, mode, device number and extended attributes: what many entries share, so the catalogue interns it.

    POSIX ACLs (``system.posix_acl_*``) and capabilities (``security.capability``) are extended attributes. ``xattrs``
    is sorted by name. ``mode`` holds permission bits only (0o7777); ``rdev`` is 0 but for device nodes.
    """

    mode: int
    uid: int
    gid: int
    rdev: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class Entry(NamedTuple):
    """One entry of a folder as a scan saw it.

    Access times are not kept: reading a file to back it up changes them. ``ctime_ns``, the time of the last change of any
    kind, is 0 for all but regular files and folders, and where the file system keeps none (FAT, exFAT). ``inode`` is 0
    where it gives no lasting inode numbers (FAT, exFAT, sshfs): no rename or hard link is looked for there. ``priority`` and
    ``maxcopies`` (0: no limit) and ``copies`` (wanted; 0: as usual) are what rules and side files say of it.
    """

    name: bytes
    kind: EntryKind
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int
    flags: EntryFlag
    attributes: Attributes
    target: bytes
    priority: int
    maxcopies: int
    copies: int


class KnownEntry(NamedTuple):
    """The current version of an entry as the catalogue knows it, for comparison with a scan.

    ``attributes`` is the id of interned :class:`Attributes`; ``object_id`` is None for all but non-empty regular files.
    ``ctime_ns`` 0: not known. ``device`` 0: nobody has looked at it yet, somebody else's catalogue told of it.
    """

    row: int
    name: bytes
    kind: int
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int
    flags: int
    attributes: int
    target: bytes
    priority: int
    maxcopies: int
    object_id: int | None
    copies: int


class WaitingFile(NamedTuple):
    """A regular file that was seen and whose content is still to be hashed. ``path`` is virtual and absolute."""

    ticket: int
    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int
    restless: bool = False
    """Whether it is taken as it is, for it never rests."""
    owner: int | None = None
    """Its uid when it was seen; None: whoever's."""


class TakenContent(NamedTuple):
    """What was read of a file that never rests: the content, and size and mtime when it was opened.

    ``at_rest``: this time nothing was written to it meanwhile.
    """

    digest: bytes
    size: int
    mtime_ns: int
    at_rest: bool


class TakenFile(NamedTuple):
    """A restless file, of which another state lies on a disk than the object that was planned: what it was then."""

    path: bytes
    planned: int
    content: TakenContent


class HashedContent(NamedTuple):
    """The SHA-256 of what was read. ``settled``: whoever writes to the file from now on leaves a trace in its times."""

    digest: bytes
    settled: bool


class HashedFile(NamedTuple):
    """The result of hashing: the file was, from the first to the last byte read, as the waiting one says."""

    ticket: int
    digest: bytes
    settled: bool


class SourceFile(NamedTuple):
    """A living file whose content is an object: where a copy can be made from. ``path`` is virtual.

    ``row`` is that of its version. ``confirmed``: the content was read, later than any write that its times would not show.
    ``owner``: its uid then; None: whoever's.
    """

    object_id: int
    path: bytes
    size: int
    mtime_ns: int
    inode: int
    row: int
    ctime_ns: int
    confirmed: bool
    restless: bool = False
    owner: int | None = None


class UnconfirmedFile(NamedTuple):
    """A living regular file whose content (object, digest) is believed and still to be read again.

    ``is_linked``: it has other names, which are confirmed along with it.
    """

    row: int
    path: bytes
    size: int
    mtime_ns: int
    device: int
    inode: int
    is_linked: bool
    object_id: int
    digest: bytes


class Namesake(NamedTuple):
    """A known file with the same device, inode, size, mtime and owner as one that was seen, and its virtual path.

    ``gone``: it is no more, since the present scan or as it was then to the nanosecond of its last change.
    """

    object_id: int
    path: bytes
    gone: bool


class RestoreEntry(NamedTuple):
    """One entry to bring back. ``digest`` is None for all but non-empty regular files; ``holders`` are disk ids."""

    path: bytes
    kind: EntryKind
    size: int
    mtime_ns: int
    device: int
    inode: int
    flags: EntryFlag
    attributes: Attributes
    target: bytes
    digest: bytes | None
    holders: frozenset[int]

    @property
    def inode_flags(self) -> InodeFlag:
        """What ``chattr`` had set."""
        number = self.flags >> INODE_FLAGS_SHIFT
        return InodeFlag(number) & InodeFlag.KEPT if number else InodeFlag.NONE


class ListedFile(NamedTuple):
    """One line of ``dsb ls``."""

    path: bytes
    kind: EntryKind
    size: int
    mtime_ns: int
    holders: frozenset[int]
    restless: bool = False
