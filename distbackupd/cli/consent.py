"""Asking a person before something is done that only they can judge."""

from __future__ import annotations

import sys

from distbackupd.model.errors import UsageError


def must_agree(question: str, agreed: bool) -> None:
    """Return if somebody agrees, or has ``agreed`` beforehand with ``--yes``. Raises UsageError if nobody does."""
    if agreed:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"nobody is there to answer: {question} Nothing was changed; --yes agrees beforehand")
    sys.stdout.flush()
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nobody agreed, so nothing was changed")
