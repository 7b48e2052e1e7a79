"""Ignore rules as distbackup knows them: which names of a folder are backed up, and with which priority.

A rule is matched against the name alone, not the path. ``*.tmp`` (with ``*``, ``?`` or ``[``) is a shell pattern,
``Thumbs.db`` a plain name; ``?`` in front makes any text a shell pattern, ``:`` a plain name, ``/`` a regular
expression that may match anywhere in the name. A leading ``!`` includes what a later rule would ignore; each further
``!`` raises its priority: ``!!`` gives 2. The first rule that matches decides; a folder's own rules come before
inherited ones.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from distbackupd.model.errors import UsageError

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


def check_rule(rule: str) -> None:
    """Raises UsageError, in a sentence, if the rule is no valid pattern."""
    _compile(rule)


def _compile(rule: str) -> tuple[re.Pattern[str], int]:
    match = _RULE.fullmatch(rule.strip())
    assert match is not None
    bangs, form, text = match.groups()
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
        raise UsageError(f"'{rule}' is no regular expression: {error}") from error
