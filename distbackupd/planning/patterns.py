"""Ignore rules as distbackup knows them: which names of a folder are backed up, and with which priority.

A rule is matched against the name alone, not the path. ``*.tmp`` (with ``*``, ``?`` or ``[``) is a shell pattern,
``Thumbs.db`` a plain name; ``?`` in front makes any text a shell pattern, ``:`` a plain name, ``/`` a regular
expression that may match anywhere in the name. A leading ``!`` includes what a later rule would ignore; each further
``!`` raises its priority: ``!!`` gives 2. The first rule that matches decides; a folder's own rules come before
inherited ones.

People write what rsync, git or borg would understand. :func:`check_new_rule` refuses what can match no name, and
:func:`doubt` tells what a rule does that looks like something else.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from distbackupd.model.errors import UsageError
from distbackupd.model.text import printable

_SETS = re.compile(r"\[!?\]?[^\]]*\]")
"""What of a shell pattern stands for one character out of several."""
_ATOMS = re.compile(r"\\[^/]|\[\^?\]?(?:\\.|[^\]])*\]|\(.*\)", re.DOTALL)
"""What of a regular expression may stand for anything: classes, groups, and what a backslash makes special."""
_RULE = re.compile(r"(!*)\s*([:?/]?)(.*)", re.DOTALL)


class Rules:
    """Compiled rules of one folder and, behind them, of those above it."""

    def __init__(self, rules: Sequence[str] = (), inherited: Rules | None = None) -> None:
        """Compile. Raises UsageError if a rule is no valid pattern."""
        own = [_compile(rule) for rule in rules]
        self._rules: list[tuple[re.Pattern[str], int]] = own + (inherited._rules if inherited else [])

    @property
    def empty(self) -> bool:
        """Whether there is no rule at all."""
        return not self._rules

    def priority(self, name: bytes) -> int | None:
        """0: ignored; 1 and more: included with this priority; None: no rule matches."""
        if not self._rules:
            return None
        text = name.decode("utf-8", "surrogateescape")
        for pattern, priority in self._rules:
            if pattern.search(text):
                return priority
        return None

    def ignoring(self, name: bytes) -> int | None:
        """Which rule, counted from 0 and own ones first, leaves the name out; None: none does."""
        text = name.decode("utf-8", "surrogateescape")
        for number, (pattern, priority) in enumerate(self._rules):
            if pattern.search(text):
                return None if priority else number
        return None


def check_rule(rule: str) -> None:
    """Raises UsageError, in a sentence, if the rule is no valid pattern."""
    _compile(rule)


def check_new_rule(rule: str) -> None:
    """Raises UsageError, with what to write instead, also if the rule can match no name at all.

    A name has no ``/`` in it, and is neither ``.`` nor ``..``. Of regular expressions only those are found out that ask for
    a slash in plain words.
    """
    _compile(rule)
    bangs, form, text = _parts(rule)
    if form == "/":
        needs_slash = "|" not in text and re.search(r"/(?![*?{])", _ATOMS.sub("", text)) is not None
    else:
        needs_slash = "/" in (text if form == ":" else _SETS.sub("", text))
    if not needs_slash and "\0" not in text and (form == "/" or text not in (".", "..")):
        return
    wanted = text.replace("\0", "").removeprefix("^").removesuffix("$") if form == "/" else text.replace("\0", "")
    parts = [part for part in wanted.split("/") if part not in ("", ".", "..", "*", "**")]
    because = f"'{printable(rule)}' can match no name, for patterns are matched against names, which have no '/' in them"
    if not parts:
        raise UsageError(f"{because}; nothing was changed")
    instead = f"write '{bangs}{printable(parts[-1])}' for whatever is called so, in the folder and below"
    if len(parts) > 1:
        place = printable("/".join(parts[:-1]))
        instead += f", or set that pattern for the folder '{place}' below this one, with a 'dsb source set' of its own"
    raise UsageError(f"{because}: {instead}; nothing was changed")


def doubt(rule: str) -> str | None:
    """What a valid rule does that looks like something else, in a sentence; None: it does what it looks like."""
    bangs, form, text = _parts(rule)
    if form != "/" or re.search(r"[\^$\\]", text):
        return None
    does = "takes in" if bangs else "takes away"
    return (
        f"'/' begins a regular expression, which may match anywhere in a name: '{printable(rule)}' {does} each name that "
        f"contains what it describes; for the plain name, or a shell pattern, write '{bangs}{printable(text)}'"
    )


def _parts(rule: str) -> tuple[str, str, str]:
    """The ``!`` in front, the character that says which form it has, and its text."""
    match = _RULE.fullmatch(rule.strip())
    assert match is not None
    bangs, form, text = match.groups()
    return bangs, form, text


def _compile(rule: str) -> tuple[re.Pattern[str], int]:
    bangs, form, text = _parts(rule)
    if not text:
        raise UsageError(f"'{rule}' is no pattern: there is nothing to match")
    if form == "/":
        expression = text
    elif form == "?" or (not form and re.search(r"[*?\[]", text)):
        expression = r"\A" + fnmatch.translate(text)
    else:
        expression = r"\A" + re.escape(text) + r"\Z"
    try:
        return re.compile(expression, re.DOTALL), len(bangs)
    except re.error as error:
        hint = f"; for a shell pattern write '{bangs}{text}', without the '/' in front" if text[0] in "*?" else ""
        raise UsageError(f"'{rule}' is no regular expression: {error}{hint}") from error
