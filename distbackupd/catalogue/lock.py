"""One engine at a time on one catalogue: an advisory lock on ``engine.lock`` in its folder.

The kernel releases the lock when its holder dies, however it dies; the file's text only names the holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from distbackupd.catalogue.database import FILE_NAME, place_in_words
from distbackupd.model.errors import EngineBusy

LOCK_NAME = "engine.lock"


@contextlib.contextmanager
def engine_lock(folder: Path, activity: str) -> Iterator[None]:
    """Hold the lock while the context lasts; ``activity`` (``dsb backup photos-03``) is what others are told.

    Raises:
        EngineBusy: another process holds it; the sentence names it.
        CatalogueTrouble: the lock cannot be made there.
    """
    with place_in_words(folder / FILE_NAME):
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            raise EngineBusy(
                f"another program is at work on this catalogue ({holder or 'just starting'}); try again when it is done"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{activity}, pid {os.getpid()}".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def current_activity(folder: Path) -> str | None:
    """What holds the lock now, None if nothing does."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
    finally:
        os.close(descriptor)
    return None
