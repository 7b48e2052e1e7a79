"""``dsb ls --problems``, and what other commands say of what could not be read."""

from __future__ import annotations

import os
from typing import Any

from distbackupd.cli.moments import say_moment
from distbackupd.cli.output import say, say_json_list
from distbackupd.cli.session import CommandSession
from distbackupd.engine.overview import Overview
from distbackupd.model.errors import UsageError
from distbackupd.model.files import ProblemKind
from distbackupd.model.problems import FailedScan, Problem, Unread
from distbackupd.model.text import printable, say_count, say_size
from distbackupd.planning.selection import matcher, prefix

WHILE_WRITTEN = " (taken while it was written)"
"""Behind the path of a file that was never at rest when it was read."""


def list_problems(session: CommandSession) -> int:
    """``dsb ls --problems [PATTERN]``"""
    if session.arguments.disk:
        raise UsageError("--problems lists what is on no disk; leave out --disk, nothing was listed")
    pattern = session.arguments.pattern
    wanted = matcher(os.fsencode(pattern)) if pattern else lambda _path: True
    below = prefix(os.fsencode(pattern)) if pattern else b"/"
    listed = (problem for problem in session.bench.catalogue.problems.listing(below) if wanted(problem.path))
    if session.json:
        say_json_list(_described(problem) for problem in listed)
        return 0
    for problem in listed:
        say(_line(problem))
    return 0


def say_problems(state: Overview) -> None:
    """What is unread, and that scans fail, if anything is."""
    if state.unread.sentence:
        say(f"Not read: {state.unread.sentence}.")
    if state.failed_scan:
        say(f"Since {say_moment(state.failed_scan.since)} {printable(state.failed_scan.sentence)}.")


def unread_described(unread: Unread) -> dict[str, int]:
    """For machines."""
    return {"files": unread.files, "bytes": unread.size, "folders": unread.folders}


def failed_described(failed: FailedScan | None) -> dict[str, object] | None:
    """For machines; None: the last scan came to its end."""
    return None if failed is None else {"since": failed.since, "reason": failed.reason or None}


_KINDS = {
    ProblemKind.UNREAD: "not read",
    ProblemKind.INEXACT: "inexact",
    ProblemKind.NOT_KEPT: "not kept",
    ProblemKind.LEFT_OUT: "left out",
    ProblemKind.UNCOPIED: "changing",
    ProblemKind.SIDE_FILE: "unusable",
}


def _line(problem: Problem) -> str:
    since = f"since {say_moment(problem.since)}"
    if problem.kind in (ProblemKind.UNREAD, ProblemKind.UNCOPIED):
        since += f" ({say_count(problem.tries, 'try', 'tries')})"
    size = "folder" if problem.folder else say_size(problem.size)
    text = f"{_KINDS[problem.kind]:8} {size:>9} {since} {printable(problem.path)}: {printable(problem.reason)}"
    if problem.kind is not ProblemKind.UNREAD or problem.folder:
        return text
    return f"{text}; {'its last good version is kept' if problem.kept else 'no earlier version of it is known'}"


def _described(problem: Problem) -> dict[str, Any]:
    return {
        "path": problem.path,
        "kind": problem.kind.name.lower(),
        "size": problem.size,
        "since": problem.since,
        "tries": problem.tries,
        "reason": problem.reason,
        "folder": problem.folder,
        "earlier_version": problem.kept,
    }
