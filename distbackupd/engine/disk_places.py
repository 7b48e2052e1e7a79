"""Gathers what :mod:`distbackupd.planning.disk_place` decides on: what a path is, and what lies on its file system too."""

from __future__ import annotations

import os

from distbackupd.engine.bench import Bench
from distbackupd.model.disks import BackupDisk, Mount
from distbackupd.model.errors import UsageError
from distbackupd.model.text import printable
from distbackupd.planning.disk_place import DiskPlace, refusal

_SYSTEM = (b"/", b"/boot", b"/boot/efi", b"/home", b"/root", b"/tmp", b"/usr", b"/var")
"""Where the system keeps its own, on one file system or on several."""


def look_at_place(bench: Bench, path: bytes, itself: BackupDisk | None = None) -> tuple[DiskPlace, Mount]:
    """What is at the path, and the file system that it lies on, or would if it were made; ``itself`` is the disk there.

    Raises UsageError if nobody can tell on which file system.
    """
    there = path
    while not os.path.lexists(there) and there != b"/":
        there = os.path.dirname(there) or b"/"
    mount = bench.mounter.mount_of(there)
    place = DiskPlace(
        path=path,
        is_folder=os.path.isdir(path),
        is_in_folder=os.path.isdir(os.path.dirname(path)),
        mount_point=mount.root,
        filesystem_type=mount.filesystem_type,
        has_device=mount.filesystem_uuid is not None or _is_on_a_device(mount),
        shared_with=_shared_with(bench, there, mount, itself),
    )
    return place, mount


def refuse_no_disk(place: DiskPlace) -> None:
    """Raises UsageError where the place is no disk of its own."""
    if reason := refusal(place):
        raise UsageError(reason)


def _is_on_a_device(mount: Mount) -> bool:
    # FUSE names its own device where it has none.
    return mount.device.startswith("/dev/") and mount.filesystem_type.partition(".")[0] != "fuse"


def _shared_with(bench: Bench, path: bytes, mount: Mount, itself: BackupDisk | None) -> list[str]:
    def shares(other: bytes) -> bool:
        return bench.mounter.share_filesystem(path, other)

    system = [folder for folder in _SYSTEM if shares(folder)]
    shared = ["the system" if b"/" in system else f"the system's {printable(folder)}" for folder in system[:1]]
    sources = [printable(source.virtual_path) for source in bench.catalogue.sources.all() if shares(source.real_path)]
    shared += [f"the source {name}" for name in sources] if len(sources) < 3 else [f"{len(sources)} sources"]
    if bench.folder and shares(bench.folder):
        shared.append("the catalogue")
    for disk in bench.catalogue.disks.all():
        known = disk.filesystem_uuid
        if (itself is None or disk.id != itself.id) and (
            known == mount.filesystem_uuid if known else shares(disk.last_path)
        ):
            shared.append(f"the disk {disk.name}")
    return shared
