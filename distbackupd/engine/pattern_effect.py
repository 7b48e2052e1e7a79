"""What ignore patterns would take away of what is known, before the next scan does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from distbackupd.engine.bench import Bench
from distbackupd.engine.virtual_tree import VirtualTree, parent
from distbackupd.model.files import EntryKind
from distbackupd.model.sources import FolderSettings
from distbackupd.planning.patterns import Rules

_LONGEST = 15.0
"""Seconds after which nothing more is counted."""
_LOOKED_AT = 4096
"""So many names are looked at between two looks at the clock."""
_REMEMBERED = 10_000


@dataclass(slots=True)
class PatternEffect:
    """Known files, and their bytes, that rules of one folder leave out, by the number of the rule that does it.

    ``whole``: everything was counted; else it is at least so much.
    """

    files: dict[int, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    whole: bool = True


def pattern_effect(bench: Bench, path: bytes, after: FolderSettings) -> PatternEffect:
    """What the rules leave out in and below the virtual folder if these are its settings. What is known is included now.

    Holds no more than some folders at a time, and ends after some seconds.
    """
    effect = PatternEffect()
    sources = bench.catalogue.sources
    tree = VirtualTree(sources.all(), sources.settings())
    # Nothing of a source above which it stands comes down into it.
    if not after.rules or tree.real_path(path) is None:
        return effect
    reach = _Reach(tree, sources.settings(), path, after)
    began = bench.clock.monotonic()
    for number, entry in enumerate(bench.catalogue.finding.names_below(path), 1):
        if number % _LOOKED_AT == 0 and bench.clock.monotonic() - began > _LONGEST:
            effect.whole = False
            break
        if entry.kind == EntryKind.FOLDER:
            continue
        rule = reach.of(entry.folder).taking(entry.name)
        if rule is not None:
            effect.files[rule] = effect.files.get(rule, 0) + 1
            effect.sizes[rule] = effect.sizes.get(rule, 0) + entry.size
    return effect


class _State(NamedTuple):
    """How far the rules reach into a folder: ``taken`` by this one is the folder itself, or one above it.

    ``rules``: those that hold there, behind ``before`` rules of folders further down; None: they do not reach it.
    """

    rules: Rules | None
    before: int = 0
    taken: int | None = None

    def taking(self, name: bytes) -> int | None:
        """The rule that leaves out what is called so in this folder; None: none of those that are asked about."""
        if self.taken is not None or self.rules is None:
            return self.taken
        number = self.rules.ignoring(name)
        return None if number is None or number < self.before else number - self.before


class _Reach:
    """The state of each folder below the one whose rules are asked about."""

    def __init__(
        self, tree: VirtualTree, settings: Mapping[bytes, FolderSettings], path: bytes, after: FolderSettings
    ) -> None:
        self._tree = tree
        self._settings = settings
        self._top = path
        self._first = _State(Rules(after.rules))
        self._known: dict[bytes, _State] = {path: self._first}

    def of(self, folder: bytes) -> _State:
        known = self._known.get(folder)
        if known is not None:
            return known
        above = self.of(parent(folder))
        if len(self._known) > _REMEMBERED:
            self._known = {self._top: self._first}
        state = self._known[folder] = self._below(folder, above)
        return state

    def _below(self, folder: bytes, above: _State) -> _State:
        if self._tree.is_source(folder):
            return _State(None)
        taken = above.taking(folder.rpartition(b"/")[2])
        own = self._settings.get(folder)
        if own is None or above.rules is None:
            return above if taken == above.taken else above._replace(taken=taken)
        if own.noinherit:
            return _State(None, taken=taken)
        return _State(Rules(own.rules, above.rules), above.before + len(own.rules), taken)
