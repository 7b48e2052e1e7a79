"""Where a restore must not write."""

from __future__ import annotations

from collections.abc import Sequence

from distbackupd.model.errors import UsageError
from distbackupd.model.sources import Source
from distbackupd.model.text import printable


def check_destination(destination: bytes, sources: Sequence[Source], disk_root: bytes | None, link: bool) -> None:
    """Raise UsageError where a restore must not write: in a source, or on the backup disk.

    Paths are absolute and free of symbolic links. ``disk_root`` is where the disk is mounted. With ``link`` the
    destination lies on the disk of necessity, but not among its objects.
    """
    for source in sources:
        if _is_within(destination, source.real_path):
            raise UsageError(
                f"{printable(destination)} lies in the source {printable(source.real_path)}; nothing was restored: "
                "choose another folder and move the files when you have looked at them"
            )
    if disk_root is None or not _is_within(destination, disk_root):
        return
    if not link:
        raise UsageError(
            f"{printable(destination)} lies on the backup disk itself; nothing was restored: choose a folder elsewhere"
        )
    if destination == disk_root or _is_within(destination, disk_root.rstrip(b"/") + b"/distbackup-objects"):
        raise UsageError(f"{printable(destination)} is the disk's own; nothing was restored: name a new folder beside it")


def _is_within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")
