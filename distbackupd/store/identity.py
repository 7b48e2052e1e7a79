"""``distbackup-disk.json``: who a backup disk is."""

from __future__ import annotations

import contextlib
import json
import os
import uuid

from distbackupd.model.disks import DiskIdentity
from distbackupd.model.errors import DiskNotOurs
from distbackupd.model.text import printable
from distbackupd.store.plain_files import NotAFile, create_file, read_file

FILE_NAME = b"distbackup-disk.json"
_LARGEST = 65536


def read_identity(root: bytes) -> DiskIdentity | None:
    """What the disk says it is; None where it says nothing.

    Raises:
        DiskNotOurs: the file is there and says nothing usable.
    """
    path = root + b"/" + FILE_NAME
    try:
        content = read_file(path, _LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except NotAFile:
        content = b""
    try:
        mapping = json.loads(content)
        return DiskIdentity(str(uuid.UUID(mapping["uuid"])), str(mapping.get("name") or ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DiskNotOurs(
            f"{printable(path)} is damaged, so the disk cannot be recognised; nothing on it was touched: "
            "put the file right (its UUID is what 'dsb disk list --json' prints) and try again"
        ) from error


def identity_text(identity: DiskIdentity) -> bytes:
    """The file's content, as distbackup writes it."""
    return json.dumps({"uuid": identity.uuid, "name": identity.name}, indent=4).encode() + b"\n"


def write_beside(path: bytes, content: bytes, aside: bytes) -> None:
    """Replace a small file durably: written beside, flushed, renamed, its folder flushed.

    A folder that stands in the way of that goes to ``aside``. Raises OSError.
    """
    beside = path + b".new"
    descriptor = create_file(beside, aside)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    finally:
        os.close(descriptor)
    os.rename(beside, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
