"""``distbackup-disk.json``: who a backup disk is."""

from __future__ import annotations

import contextlib
import json
import os
import uuid

from distbackupd.model.disks import DiskIdentity
from distbackupd.model.errors import DiskNotOurs
from distbackupd.model.text import printable
from distbackupd.store.folders import Folder
from distbackupd.store.plain_files import PRIVATE, Aside, NotAFile, beside, create_file, read_file

FILE_NAME = b"distbackup-disk.json"
_LARGEST = 65536


def read_identity(root: Folder, place: bytes) -> DiskIdentity | None:
    """What the disk at ``place`` says it is; None where it says nothing.

    Raises:
        DiskNotOurs: the file is there and says nothing usable.
    """
    try:
        content = read_file(root, FILE_NAME, _LARGEST)
    except FileNotFoundError:
        return None
    except NotAFile:
        content = b""
    try:
        mapping = json.loads(content)
        return DiskIdentity(str(uuid.UUID(mapping["uuid"])), str(mapping.get("name") or ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        path = place.rstrip(b"/") + b"/" + FILE_NAME
        raise DiskNotOurs(
            f"{printable(path)} is damaged, so the disk cannot be recognised; nothing on it was touched: "
            "put the file right (its UUID is what 'dsb disk list --json' prints) and try again"
        ) from error


def identity_text(identity: DiskIdentity) -> bytes:
    """The file's content, as distbackup writes it."""
    return json.dumps({"uuid": identity.uuid, "name": identity.name}, indent=4).encode() + b"\n"


def write_beside(folder: Folder, name: bytes, content: bytes, aside: Aside, mode: int = PRIVATE) -> None:
    """Replace a small file durably: written beside, flushed, renamed, its folder flushed.

    A folder that stands in the way of that goes aside. Raises OSError; nothing is left beside it then.
    """
    new, here = beside(name), folder.descriptor
    descriptor = create_file(folder, new, aside, mode)
    try:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(new, name, src_dir_fd=here, dst_dir_fd=here)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=here)
        raise
    os.fsync(here)
