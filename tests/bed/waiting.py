"""Waiting for something to become true: never a blind sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, seconds: float = 10.0) -> T:
    """The first true value of ``condition``; fails the test when ``what`` did not come about within ``seconds``."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for: {what}")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def wait_until_settled(*paths: Path) -> None:
    """Wait until what is read of these files from now on is settled: whoever writes to them later sets their times anew.

    Until then a scan believes what it reads, and notes that it has to be read again.
    """
    newest = max(path.stat().st_ctime for path in paths)
    wait_until(lambda: time.time() > newest + 0.2, "the clock of the file system has gone on")
