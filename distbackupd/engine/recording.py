"""Record what a scan found of one folder, and decide whose content is known without being read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from distbackupd.engine.bench import Bench
from distbackupd.engine.inode_flags import with_inode_flags
from distbackupd.engine.ports import FolderChanges
from distbackupd.engine.virtual_tree import FolderContext, VirtualTree, join
from distbackupd.model.errors import SourceTrouble
from distbackupd.model.files import Entry, EntryFlag
from distbackupd.model.sources import RealPath
from distbackupd.planning.comparison import FolderComparison

KnownDigest = Callable[[bytes, Entry], bytes | None]
"""Given a virtual path and what stands there, the hash of its content if somebody says to know it."""


class ScannedFolder(NamedTuple):
    """A folder that was listed at ``now``.

    ``restless``: names of files that are taken as they are, for they never rest. ``may_read``: whether a name is to be read.
    ``is_first``: nothing was known before this scan, so nothing can have been renamed.
    """

    virtual: bytes
    real: RealPath
    context: FolderContext
    known_digest: KnownDigest
    restless: Collection[bytes]
    may_read: Callable[[bytes], bool]
    now: int
    is_first: bool


class Recorded(NamedTuple):
    """How many entries are new, changed or gone."""

    new: int
    changed: int
    gone: int


def record_comparison(bench: Bench, tree: VirtualTree, folder: ScannedFolder, comparison: FolderComparison) -> Recorded:
    """Record one folder's changes, not yet durable; what is to be read waits, what is believed will be confirmed."""
    added: list[tuple[Entry, int | None]] = [(entry, None) for entry in comparison.new]
    changed = [(known.row, entry, content) for known, entry, content in comparison.changed]
    waiting: list[tuple[Entry, int | None]] = []
    believed = list(comparison.doubted)
    for entry, known in comparison.read:
        content = _believed_content(bench, tree, folder, entry)
        if content is None:
            if folder.may_read(entry.name):
                restless = EntryFlag.RESTLESS if entry.name in folder.restless else EntryFlag.NONE
                waiting.append((entry._replace(flags=entry.flags | restless), known.row if known else None))
            continue
        believed.append(entry.name)
        if known is None:
            added.append((entry, content))
        else:
            changed.append((known.row, entry, content))
    touched = [(known.row, entry) for known, entry in comparison.touched]
    gone = [known.row for known in comparison.gone]
    kept = [known.row for known in comparison.kept]
    if added or changed or touched or gone or waiting or kept:
        changes = FolderChanges(added, changed, touched, gone, waiting, believed, kept)
        changes = with_inode_flags(bench.tree, folder.real, folder.context.follow, changes)
        bench.catalogue.files.record_folder(folder.virtual, changes, folder.now)
    replacing = sum(1 for _, row in waiting if row is not None)
    return Recorded(len(added) + len(waiting) - replacing, len(changed) + replacing, len(gone))


def _believed_content(bench: Bench, tree: VirtualTree, folder: ScannedFolder, entry: Entry) -> int | None:
    """The object of a file that was renamed or linked, or that somebody else knows; it is to be confirmed."""
    digest = folder.known_digest(join(folder.virtual, entry.name), entry)
    if digest is not None:
        return bench.catalogue.files.claimed_object(digest, entry.size)
    if folder.is_first or not entry.inode:
        return None
    for namesake in bench.catalogue.files.namesakes(entry, folder.now):
        if namesake.gone or _is_renamed_or_linked(bench, tree, namesake.path, entry):
            return namesake.object_id
    return None


def _is_renamed_or_linked(bench: Bench, tree: VirtualTree, path: bytes, entry: Entry) -> bool:
    """Whether a known file is not at its name any more, or is there and the same file as the entry.

    Of two files with one inode number, as seen at different times, the older one is no more.
    """
    real = tree.real_path(path)
    if real is None:
        return False
    try:
        there = bench.tree.identify(real)
    except SourceTrouble:
        return False
    # Where something else stands, another file has taken the name: this one went, to the new name or for ever.
    return there is None or there == (entry.device, entry.inode) or there[0] == entry.device
