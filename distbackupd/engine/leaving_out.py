"""Tells, once for each place, that what this program keeps there itself is no part of the backup."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from distbackupd.engine.bench import Bench
from distbackupd.model.events import Remark
from distbackupd.model.text import printable

_FACT = "left_out"
_MOST = 1000
"""So many places are remembered."""


def tell_left_out(bench: Bench, folders: Sequence[bytes]) -> None:
    """Tell of those virtual folders of which nobody was told yet."""
    if not folders:
        return
    told: list[str] = json.loads(bench.catalogue.sessions.recall(_FACT) or "[]")
    new = [name for name in map(os.fsdecode, dict.fromkeys(folders)) if name not in told]
    for name in new:
        bench.reporter.tell(
            Remark(
                f"{printable(os.fsencode(name))} holds the layout of a backup disk, or the catalogue: that is left out, and "
                "what else lies there is backed up; 'dsb ls --problems' names the files and folders that are left out"
            )
        )
    if new:
        bench.catalogue.sessions.remember(_FACT, json.dumps((told + new)[-_MOST:]))
