"""``dsb log`` and ``dsb diff``"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from distbackupd.cli.choosing import files_ever_meant
from distbackupd.cli.moments import parse_moment, say_moment
from distbackupd.cli.nearest import nothing_matches
from distbackupd.cli.output import say, say_json_list, say_lines
from distbackupd.cli.problems import WHILE_WRITTEN
from distbackupd.cli.session import CommandSession
from distbackupd.engine.timekeeping import as_recorded, glance_at_clock
from distbackupd.model.errors import UsageError
from distbackupd.model.files import EntryKind
from distbackupd.model.history import Change, Version
from distbackupd.model.text import printable, say_size


def list_versions(session: CommandSession) -> int:
    """``dsb log [PATH|PATTERN ...]``"""
    versions = _versions(session)
    first = next(versions, None)
    if first is None:
        raise nothing_matches(session, session.arguments.words, ever=True)
    names = _disk_names(session)
    told = itertools.chain([first], versions)
    if session.json:
        say_json_list(_described(version, names) for version in told)
        return 0
    say_lines(_version_line(version, names) for version in told)
    return 0


def _version_line(version: Version, names: dict[int, str]) -> str:
    until = say_moment(version.gone) if version.gone else "now"
    what = f"{_where(version, names)}{printable(version.path)}{_marked(version)}"
    return f"{say_moment(version.seen)} to {until:16} {_size(version):>9} {what}"


def _versions(session: CommandSession) -> Iterator[Version]:
    selection = files_ever_meant(session, session.arguments.words)
    for root in selection.roots:
        matches = selection.matcher_below(root)
        for version in session.bench.catalogue.history.versions(root):
            if version.kind is not EntryKind.FOLDER and (matches is None or matches(version.path)):
                yield version


def list_changes(session: CommandSession) -> int:
    """``dsb diff DATE1 [DATE2] [-f PATTERN]``"""
    glance_at_clock(session.bench)
    now = session.bench.clock.now()
    before, after = (
        as_recorded(session.bench, now if text is None else parse_moment(text, now))
        for text in (session.arguments.before, session.arguments.after)
    )
    if before > after:
        raise UsageError(
            f"{session.arguments.before} is later than {session.arguments.after}; name the earlier of both dates first"
        )
    names, changes = _disk_names(session), _changes(session, before, after)
    first = next(changes, None)
    if first is None and session.arguments.filter and not _was_ever(session, session.arguments.filter):
        raise nothing_matches(session, session.arguments.filter, ever=True)
    told = itertools.chain([] if first is None else [first], changes)
    if session.json:
        say_json_list(
            {
                "path": change.path,
                "change": change.what,
                "before": None if change.before is None else _described(change.before, names),
                "after": None if change.after is None else _described(change.after, names),
            }
            for change in told
        )
        return 0
    counts: Counter[str] = Counter()
    say_lines(_counted_line(change, names, counts) for change in told)
    parts = [f"{counts[what]:,} {said}" for what, said in _SAID.items() if counts[what]]
    say(f"{say_moment(before)} to {say_moment(after)}: {', '.join(parts) or 'nothing changed'}")
    return 0


_SAID = {"new": "new", "changed": "changed", "metadata": "with other owner, mode, time or attributes", "gone": "gone"}


def _changes(session: CommandSession, before: int, after: int) -> Iterator[Change]:
    selection = files_ever_meant(session, session.arguments.filter)
    for root in selection.roots:
        matches = selection.matcher_below(root)
        for change in session.bench.catalogue.history.changes(before, after, root):
            if (matches is None or matches(change.path)) and not _is_only_a_folders_time(change):
                yield change


def _was_ever(session: CommandSession, words: Sequence[str]) -> bool:
    """Whether anything that was ever recorded is meant."""
    selection, history = files_ever_meant(session, words), session.bench.catalogue.history
    return any(
        matches is None or matches(version.path)
        for root in selection.roots
        for matches in [selection.matcher_below(root)]
        for version in history.versions(root)
    )


def _is_only_a_folders_time(change: Change) -> bool:
    """A folder's time changes with every name in it, and these are told themselves."""
    old, new = change.before, change.after
    if old is None or new is None or not old.kind is new.kind is EntryKind.FOLDER:
        return False
    return old.attributes == new.attributes


def _counted_line(change: Change, names: dict[int, str], counts: Counter[str]) -> str:
    counts[change.what] += 1
    return _line(change, names)


def _line(change: Change, names: dict[int, str]) -> str:
    old, new = change.before, change.after
    if old is not None and new is not None and change.what == "changed":
        size = f"{_size(old)} -> {_size(new)}"
    else:
        size = _size(new or old)
    where = "" if old is None or change.what == "metadata" else _where(old, names)
    return f"{change.what:8} {size:>9} {where}{printable(change.path)}{_marked(new or old)}"


def _marked(version: Version | None) -> str:
    return WHILE_WRITTEN if version is not None and version.restless else ""


def _size(version: Version | None) -> str:
    assert version is not None
    return say_size(version.size) if version.kind is EntryKind.FILE else version.kind.name.lower().replace("_", " ")


def _where(version: Version, names: dict[int, str]) -> str:
    """Who holds the content, in front of a path."""
    if version.digest is None:
        return ""
    if not version.holders:
        return "(held nowhere) "
    return f"({','.join(sorted(names[holder] for holder in version.holders))}) "


def _described(version: Version, names: dict[int, str]) -> dict[str, Any]:
    return {
        "path": version.path,
        "kind": version.kind.name.lower(),
        "size": version.size,
        "mtime_ns": version.mtime_ns,
        "sha256": version.digest.hex() if version.digest else None,
        "seen": version.seen,
        "gone": version.gone or None,
        "held": version.is_held,
        "taken_while_written": version.restless,
        "disks": sorted(names[holder] for holder in version.holders),
    }


def _disk_names(session: CommandSession) -> dict[int, str]:
    return {disk.id: disk.name for disk in session.bench.catalogue.disks.all()}
