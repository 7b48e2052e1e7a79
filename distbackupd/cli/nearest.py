"""What a person may have meant who named nothing that there is: virtual paths begin at ``/``, what people type does not."""

from __future__ import annotations

import os
from collections.abc import Sequence

from distbackupd.cli.session import CommandSession
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.errors import UsageError
from distbackupd.model.sources import canonical_virtual_path
from distbackupd.model.text import printable
from distbackupd.planning.selection import has_wildcard

_SHOWN = 5


def nothing_matches(session: CommandSession, words: Sequence[str], ever: bool) -> UsageError:
    """The error for words that mean nothing, with what comes nearest. ``ever``: what is gone would have been meant too."""
    patterns = [os.fsencode(word) for word in words]
    near: dict[bytes, None] = {}
    for pattern in patterns:
        near.update(dict.fromkeys(_near(session, pattern, ever)))
    said = " or ".join(f"'{printable(pattern)}'" for pattern in patterns) or "'/'"
    recorded = "nothing that was ever recorded matches" if ever else "nothing in the catalogue matches"
    if not near:
        return UsageError(f"{recorded} {said}; 'dsb ls' lists what there is")
    shown = " or ".join(f"'{printable(path)}'" for path in list(near)[:_SHOWN])
    return UsageError(f"{recorded} {said}, for paths are those of the virtual tree, from '/' on; did you mean {shown}?")


def _near(session: CommandSession, pattern: bytes, ever: bool) -> list[bytes]:
    finding = session.bench.catalogue.finding
    name = pattern.rstrip(b"/").rpartition(b"/")[2]
    if has_wildcard(pattern):
        alone = pattern == name and not pattern.startswith(b"*") and finding.any_called(name, ever)
        return [b"*/" + pattern] if alone else []
    return _by_real_path(session, pattern, ever) or list(finding.nearest(name, ever, _SHOWN))


def _by_real_path(session: CommandSession, path: bytes, ever: bool) -> list[bytes]:
    """Where the virtual tree has what lies at a real path, from here or from the root."""
    sources = session.bench.catalogue.sources
    tree = VirtualTree(sources.all(), sources.settings())
    real = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path.rstrip(b"/")))
    places = {place for spelling in (os.path.abspath(path), real) for place in tree.virtual_paths(spelling)}
    return [place for place in sorted(places) if is_known(session, place, ever)]


def is_known(session: CommandSession, virtual_path: bytes, ever: bool) -> bool:
    """Whether a file or folder is recorded there; ``ever``: or was."""
    history, path = session.bench.catalogue.history, canonical_virtual_path(virtual_path)
    return next(history.versions(path) if ever else history.listing(path), None) is not None
