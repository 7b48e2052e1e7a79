"""One engine at a time on one catalogue: an advisory lock on ``engine.lock`` in its folder.

The kernel releases the lock when its holder dies, however it dies; the file's text only names the holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from distbackupd.catalogue.database import FILE_NAME
from distbackupd.catalogue.trouble import place_in_words, refuse_without_room
from distbackupd.model.errors import EngineBusy

LOCK_NAME = "engine.lock"
SERVICE_LOCK_NAME = "distbackupd.lock"
"""A daemon holds it as long as it lives."""
COPY_SUFFIX, SUCCESSOR_SUFFIX = ".spare", ".new"
"""What is written beside the catalogue by whoever holds the lock, and never stays: a copy, and what takes its place."""

_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""The folder may be another user's, the service's: root follows no link there."""


@contextlib.contextmanager
def engine_lock(folder: Path, activity: str) -> Iterator[None]:
    """Hold the lock while the context lasts; ``activity`` (``dsb backup photos-03``) is what others are told.

    What one that died left half-written beside the catalogue is removed.

    Raises:
        EngineBusy: another process holds it; the sentence names it.
        CatalogueTrouble: the lock cannot be made there.
    """
    with place_in_words(folder / FILE_NAME):
        descriptor = os.open(folder / LOCK_NAME, _OPEN, 0o600)
        try:
            refuse_without_room(folder / FILE_NAME)
        except BaseException:
            os.close(descriptor)
            raise
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            raise EngineBusy(
                f"another program is at work on this catalogue ({holder or 'just starting'}); try again when it is done"
            ) from None
        with contextlib.suppress(OSError):  # the lock holds on a full disk too; only the name is missing then
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{activity}, pid {os.getpid()}".encode(), 0)
        _clear_up(folder)
        yield
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _clear_up(folder: Path) -> None:
    for suffix in (COPY_SUFFIX, SUCCESSOR_SUFFIX):
        for ending in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                (folder / f"{FILE_NAME}{suffix}{ending}").unlink()


@contextlib.contextmanager
def without_daemon(folder: Path) -> Iterator[None]:
    """Keep daemons off the catalogue in ``folder`` while the context lasts: its file is about to be another one.

    Raises:
        EngineBusy: one serves it now.
        CatalogueTrouble: the lock cannot be made there.
    """
    with place_in_words(folder / FILE_NAME):
        descriptor = os.open(folder / SERVICE_LOCK_NAME, _OPEN, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineBusy(
                "distbackupd serves this catalogue and would not see that it is another one; nothing was changed: stop it "
                "for a while ('systemctl stop distbackupd')"
            ) from None
        yield
    finally:
        os.close(descriptor)


def current_activity(folder: Path) -> str | None:
    """What holds the lock now, None if nothing does."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
    finally:
        os.close(descriptor)
    return None
