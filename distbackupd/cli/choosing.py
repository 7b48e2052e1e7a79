"""Which files, and of which moment, the words of a command mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from distbackupd.cli.moments import parse_moment, say_moment
from distbackupd.cli.session import CommandSession
from distbackupd.engine.timekeeping import as_recorded, glance_at_clock
from distbackupd.model.errors import UsageError
from distbackupd.model.sources import canonical_virtual_path
from distbackupd.model.text import printable
from distbackupd.planning.selection import Selection, has_wildcard


def moment_meant(session: CommandSession, text: str | None) -> int | None:
    """What ``--at`` means; None: now. Raises UsageError where nothing was known then."""
    if text is None:
        return None
    glance_at_clock(session.bench)
    at = as_recorded(session.bench, parse_moment(text, session.bench.clock.now()))
    began = session.bench.catalogue.history.began_at()
    if began is None or at < began:
        since = f"; the first files were recorded on {say_moment(began)}" if began else " and is not now"
        raise UsageError(f"nothing was known on {printable(text)}{since}")
    return at


def files_meant(session: CommandSession, words: Sequence[str], at: int | None = None) -> Selection:
    """What the paths and patterns mean. Raises UsageError naming the first that means nothing.

    A name with a bracket in it, which Tab completed, is that name.
    """
    history = session.bench.catalogue.history
    selection = _selection(words, lambda path: next(history.listing(path, at), None) is not None)
    for pattern in map(os.fsencode, words):
        alone = Selection([pattern], [pattern] if selection.takes_literally(pattern) else [])
        (root,) = alone.roots
        matches = alone.matcher_below(root)
        if not any(matches is None or matches(entry.path) for entry in history.listing(root, at)):
            then = "" if at is None else f" of {say_moment(at)}"
            ever = next(history.versions(root), None) is not None
            hint = f"'dsb log {printable(pattern)}' tells what there was" if ever else "'dsb ls' lists what there is"
            raise UsageError(f"nothing in the catalogue{then} matches '{printable(pattern)}'; {hint}")
    return selection


def files_ever_meant(session: CommandSession, words: Sequence[str]) -> Selection:
    """The same for all that ever was; patterns that mean nothing are no error."""
    history = session.bench.catalogue.history
    return _selection(words, lambda path: next(history.versions(path), None) is not None)


def _selection(words: Sequence[str], is_known: Callable[[bytes], bool]) -> Selection:
    patterns = [os.fsencode(word) for word in words]
    wild = [pattern for pattern in patterns if has_wildcard(pattern) and not pattern.startswith(b"*")]
    return Selection(patterns, [pattern for pattern in wild if is_known(canonical_virtual_path(pattern))])
