"""One daemon on one catalogue: a lock that lives as long as the daemon does."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distbackupd.catalogue.database import FILE_NAME
from distbackupd.catalogue.lock import SERVICE_LOCK_NAME
from distbackupd.catalogue.trouble import trouble_of_place
from distbackupd.model.errors import CatalogueTrouble, EngineBusy
from distbackupd.model.text import printable


@contextmanager
def presence(folder: Path) -> Iterator[None]:
    """Be the only daemon on the catalogue in ``folder`` (made if it is missing) while the context lasts.

    The kernel lets go of the lock however the process ends, so a file that a crash left behind locks nobody out.

    Raises:
        EngineBusy: another daemon is there; the sentence tells its process id.
        CatalogueTrouble: the folder cannot be made or written.
    """
    path = folder / SERVICE_LOCK_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        where = printable(str(folder))
        trouble = CatalogueTrouble(f"{where}: the catalogue's folder cannot be used: {error.strerror}; nothing was done")
        raise (error.errno != errno.EROFS and trouble_of_place(folder / FILE_NAME, error.errno)) or trouble from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise EngineBusy(
                f"{printable(str(folder))}: another distbackupd (process {process}) serves this catalogue; "
                "stop it first, or name another folder with -d"
            ) from None
        with suppress(OSError):  # the lock holds on a full disk too; only the number is missing then
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
