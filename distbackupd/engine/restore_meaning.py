"""Which entries a restore means, with the folders above them, in the order in which they can be restored."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from distbackupd.engine.ports import HistoryTable, MachineAccounts, RestoreTarget
from distbackupd.model.files import EntryKind, RestoreEntry
from distbackupd.planning.selection import PassedFolders, Selection


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """What to restore and how.

    ``selection``: only what it means, with the folders above; ``at``: as it was known then (unix seconds; None: now).
    ``link``: files become names of the disk's own object files instead of copies: nothing is read, checked or kept of
    their metadata, whoever writes to one damages the backup, and the destination must be on the disk. ``existing``: what
    is present below one of these folders is ignored. ``overwrite``: replace files whose content differs. ``simulate``:
    change nothing. ``accounts``: users and groups of this machine, who get what belongs to their names; None: owners are
    what their numbers say.
    """

    selection: Selection = field(default_factory=Selection)
    at: int | None = None
    link: bool = False
    existing: tuple[bytes, ...] = ()
    overwrite: bool = False
    simulate: bool = False
    accounts: MachineAccounts | None = None


class Meaning:
    """The entries that ``options`` mean, as often as somebody wants to go through them."""

    def __init__(self, history: HistoryTable, target: RestoreTarget, options: RestoreOptions) -> None:
        self._history = history
        self._target = target
        self._options = options

    def entries(self, held: Collection[int] | None = None, bare: bool = True) -> Iterator[RestoreEntry]:
        """What is meant, and before each entry the folders above it that did not come yet.

        ``held`` and ``bare`` as of :meth:`HistoryTable.entries`; without ``bare`` folders come only above something.
        """
        taken: set[bytes] = set()
        for root in self._options.selection.roots:
            above = list(self._above(root))
            for entry in self._below(root, above, held, bare):
                # Two roots may have the same folders above them.
                if entry.path not in taken:
                    yield entry
                if any(entry is folder for folder in above):
                    taken.add(entry.path)

    def _below(
        self, root: bytes, above: list[RestoreEntry], held: Collection[int] | None, bare: bool
    ) -> Iterator[RestoreEntry]:
        matches = self._options.selection.matcher_below(root)
        passed = PassedFolders()
        for folder in above:
            passed.add(folder)
        for entry in self._history.entries(root, self._options.at, held, bare):
            meant = (matches is None or matches(entry.path)) and not self._is_present_elsewhere(entry)
            if meant and (bare or entry.kind is not EntryKind.FOLDER):
                yield from passed.take_above(entry.path)
                yield entry
            elif entry.kind is EntryKind.FOLDER:
                passed.add(entry)

    def _above(self, path: bytes) -> Iterator[RestoreEntry]:
        while path != b"/":
            path = path.rpartition(b"/")[0] or b"/"
            first = next(self._history.entries(path, self._options.at), None)
            if first is not None and first.path == path and first.kind is EntryKind.FOLDER:
                yield first

    def _is_present_elsewhere(self, entry: RestoreEntry) -> bool:
        return any(self._target.exists_below(folder, entry.path) for folder in self._options.existing)
