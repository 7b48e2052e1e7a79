"""What must be done at the end, whatever happened before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from distbackupd.model.errors import DiskTrouble

_log = logging.getLogger(__name__)


@contextmanager
def afterwards(finish: Callable[[], None]) -> Iterator[None]:
    """Call ``finish`` when the body has ended. If the body raised, its error wins and trouble at the end is only logged."""
    try:
        yield
    except BaseException:
        try:
            finish()
        except DiskTrouble as error:
            _log.warning("%s", error)
        raise
    finish()
