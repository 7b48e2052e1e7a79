"""What ``chattr`` had set, recorded with what a scan found new or changed.

Only an open descriptor tells it, so it is not asked of each entry in each scan: what is hashed is open anyway, and
``chattr`` leaves its trace in the time of change, which brings the entry here.
"""

from __future__ import annotations

from distbackupd.engine.ports import FolderChanges, SourceTree
from distbackupd.model.files import INODE_FLAGS_SHIFT, Entry, EntryFlag, EntryKind
from distbackupd.model.sources import RealPath


def with_inode_flags(tree: SourceTree, real: RealPath, followed: bool, changes: FolderChanges) -> FolderChanges:
    """The same changes of a real folder, whose links may be ``followed``, with the flags of what is not to be hashed."""

    def flagged(entry: Entry) -> Entry:
        if entry.kind not in (EntryKind.FILE, EntryKind.FOLDER):
            return entry
        found = tree.inode_flags(real.child(entry.name, followed), entry.device)
        return entry._replace(flags=EntryFlag(entry.flags | found << INODE_FLAGS_SHIFT)) if found else entry

    return changes._replace(
        added=[(flagged(entry), content) for entry, content in changes.added],
        changed=[(row, flagged(entry), content) for row, entry, content in changes.changed],
        touched=[(row, flagged(entry)) for row, entry in changes.touched],
    )
