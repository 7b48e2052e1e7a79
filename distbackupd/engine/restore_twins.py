"""Names that the destination takes for one, though the backup knows them as two: ``README`` and ``readme`` on exFAT.

Of two such names the destination keeps the one that came first, under the name that its folder lists. The other is not
possible there, nor is anything below it if it is a folder: it would be mixed with what lies below its twin.
"""

from __future__ import annotations

from distbackupd.engine.ports import HistoryTable
from distbackupd.model.files import RestoreEntry


class Twins:
    """What became of such names in one restore, whichever disks it takes and how often it goes through them."""

    def __init__(self, history: HistoryTable, at: int | None) -> None:
        self._history = history
        self._at = at
        self._folders: dict[bytes, bytes | None] = {}
        self._spelled: dict[bytes, bytes] = {}
        self._counted: set[int] = set()

    def owner_of(self, entry: RestoreEntry, stored: bytes | None) -> bytes | None:
        """The path of which the destination keeps something where it finds ``entry``; the entry's own: it is this one.

        ``stored``: the name that its folder lists. Where that is no entry of the backup, the destination spells names
        in a way of its own (one form of accents, no trailing dots), and the first that came is meant. None: unknown.
        """
        if stored is None:
            return None
        path = beside(entry.path, stored)
        known = next(self._history.entries(path, self._at), None)
        return path if known is not None and known.path == path else self._spelled.setdefault(path, entry.path)

    def close_folder(self, path: bytes, owner: bytes | None) -> None:
        """Nothing below this folder is possible, for ``owner`` has its place."""
        self._folders[path] = owner

    def closed_above(self, path: bytes) -> tuple[bytes, bytes | None] | None:
        """The closed folder above the path, and who has its place."""
        while self._folders and path != b"/":
            path = path.rpartition(b"/")[0] or b"/"
            if path in self._folders:
                return path, self._folders[path]
        return None

    def is_news(self, path: bytes) -> bool:
        """Whether the path was not counted before; it is now."""
        known = len(self._counted)
        self._counted.add(hash(path))
        return len(self._counted) > known


def beside(path: bytes, name: bytes) -> bytes:
    """What is called ``name`` in the folder of ``path``."""
    return path.rpartition(b"/")[0] + b"/" + name
