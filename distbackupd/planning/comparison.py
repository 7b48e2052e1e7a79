"""What changed in a folder between what the catalogue knows and what a scan saw."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from distbackupd.model.files import INODE_FLAGS_SHIFT, Entry, EntryFlag, EntryKind, KnownEntry

_SEEN_FLAGS = (1 << INODE_FLAGS_SHIFT) - 1
"""What ``chattr`` set lies higher, and is only looked up for what is recorded anyway."""
_RESTLESS = int(EntryFlag.RESTLESS)  # operations of flag classes are slow, and this is done for each entry


class FolderComparison(NamedTuple):
    """``new``: entries that no known entry stands for. ``changed``: (known, entry, object to keep).

    ``touched``: the same version, but its device, inode, time of change, flags, priority, maxcopies or copies are others
    now. ``gone``: known entries that are no more. ``read``: non-empty regular files whose content is to be found out, with
    the known entry they replace or None. Each entry is in one of these at the most.

    ``doubted``: names of files that something was done to, though size and time are the same: their content is believed
    until it is read again. ``kept``: known files that belong to somebody else now: they stay as they were known until then.
    """

    new: list[Entry]
    changed: list[tuple[KnownEntry, Entry, int | None]]
    touched: list[tuple[KnownEntry, Entry]]
    gone: list[KnownEntry]
    read: list[tuple[Entry, KnownEntry | None]]
    doubted: list[bytes]
    kept: list[KnownEntry]


def compare_folder(
    known: Sequence[KnownEntry],
    seen: Sequence[tuple[Entry, int]],
    unreadable: Collection[bytes],
    owner_of: Callable[[int], int],
) -> FolderComparison:
    """Compare by name. ``seen`` pairs entries with the ids of their attributes; ``unreadable`` names stay as known.

    ``owner_of``: the uid in the attributes with an id.

    A regular file's content counts as unchanged when size, modification time and time of change (to the nanosecond), inode
    and owner are the same. Its device's number alone is another one after a boot. What was taken while it was written is
    always to be read again.
    """
    comparison = FolderComparison([], [], [], [], [], [], [])
    known_by_name = {entry.name: entry for entry in known}
    for entry, attributes in seen:
        before = known_by_name.pop(entry.name, None)
        reads = entry.kind == EntryKind.FILE and entry.size > 0
        if before is None:
            if reads:
                comparison.read.append((entry, None))
            else:
                comparison.new.append(entry)
        elif reads and not _may_be_same(before, entry):
            comparison.read.append((entry, before))
        elif reads and _belongs_to_another(before, entry, attributes, owner_of):
            comparison.kept.append(before)
        elif _differs(before, entry, attributes):
            comparison.changed.append((before, entry, before.object_id if reads else None))
            if reads and not _is_same(before, entry):
                comparison.doubted.append(entry.name)
        elif _moved(before, entry):
            comparison.touched.append((before, entry))
            if reads and not _is_same(before, entry):
                comparison.doubted.append(entry.name)
    comparison.gone.extend(entry for name, entry in known_by_name.items() if name not in unreadable)
    return comparison


def _may_be_same(before: KnownEntry, entry: Entry) -> bool:
    """The inode says nothing where the file system keeps none (0), or where the tree lies on another device now."""
    return (
        before.object_id is not None
        and not before.flags & _RESTLESS
        and before.kind == entry.kind
        and before.size == entry.size
        and before.mtime_ns == entry.mtime_ns
        and (before.inode == entry.inode or not before.inode or not entry.inode or before.device != entry.device)
    )


def _is_same(before: KnownEntry, entry: Entry) -> bool:
    return before.inode == entry.inode and before.ctime_ns == entry.ctime_ns


def _belongs_to_another(before: KnownEntry, entry: Entry, attributes: int, owner_of: Callable[[int], int]) -> bool:
    return before.attributes != attributes and before.device != 0 and owner_of(before.attributes) != entry.attributes.uid


def _differs(before: KnownEntry, entry: Entry, attributes: int) -> bool:
    return (
        before.kind != entry.kind
        or before.attributes != attributes
        or before.target != entry.target
        or before.mtime_ns != entry.mtime_ns
        or before.size != entry.size
    )


def _moved(before: KnownEntry, entry: Entry) -> bool:
    return (
        before.ctime_ns != entry.ctime_ns
        or before.device != entry.device
        or before.inode != entry.inode
        or (before.flags != entry.flags and before.flags & _SEEN_FLAGS != entry.flags & _SEEN_FLAGS)
        or before.priority != entry.priority
        or before.maxcopies != entry.maxcopies
        or before.copies != entry.copies
    )
