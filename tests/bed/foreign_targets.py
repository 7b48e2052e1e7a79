"""Folders on file systems of other systems, with the drivers that mount them in user space."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bed.loop_disks import foreign_disk, run

_DRIVERS = {"exfat": ["mount.exfat-fuse"], "ntfs": ["ntfs-3g"]}


@contextmanager
def foreign_folder(place: Path, filesystem_type: str, *options: str) -> Iterator[Path]:
    """A mounted, empty ``exfat`` (names that differ only in case are one) or ``ntfs`` (they are two)."""
    folder = place / f"mounted {filesystem_type}"
    folder.mkdir()
    with foreign_disk(place, filesystem_type, 24) as volume:
        run(*_DRIVERS[filesystem_type], *options, volume.device, folder)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], capture_output=True, check=True)
