"""Make disks known, rename them, give them up, and look again at what they hold."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from dataclasses import dataclass, replace

from distbackupd.engine.bench import Bench
from distbackupd.engine.catalogue_copy import save_catalogue
from distbackupd.engine.clearing import take_over
from distbackupd.engine.disk_places import look_at_place, refuse_no_disk
from distbackupd.engine.door import below, refuse_clones, settle
from distbackupd.engine.looking import ALL_FOLDERS, note_folders, walk
from distbackupd.engine.ports import DiskStore, Stop
from distbackupd.model.disks import (
    BackupDisk,
    DiskIdentity,
    Mount,
    Space,
    Volume,
    default_capacity,
    looks_like_a_uuid,
    may_name_a_disk,
)
from distbackupd.model.errors import DiskTrouble, UsageError
from distbackupd.model.text import printable, say_size
from distbackupd.planning.disk_place import DiskPlace, refusal, shared_fate
from distbackupd.planning.genuine import unsafe

_SMALLEST = 1 << 20
_EXT4_KEEPS_BLOCKS = 4096
"""So many blocks, or 2% where that is less, ext4 keeps for itself; no option of tune2fs sets these free."""


_NEVER: Stop = threading.Event()


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A disk that was made known. ``adopted``: objects found on it and taken over. ``advice``: what the user should do."""

    disk: BackupDisk
    mount: Mount
    adopted: int
    advice: list[str]


def enrol(
    bench: Bench,
    name: str,
    path: bytes,
    capacity: int | None,
    simulate: bool = False,
    luks_key: bytes | None = None,
    location: str = "",
    folder: bool = False,
    stop: Stop = _NEVER,
) -> Enrolment:
    """Make the disk that ``path`` lies on known as ``name``; its layout is made at ``path``.

    ``folder``: that may be a folder which is no disk of its own (:mod:`distbackupd.planning.disk_place`), or is not there.
    ``luks_key`` is kept, so that the LUKS container in which the disk lies can be unlocked whenever it is plugged in.
    A disk that distbackup, or an earlier catalogue, wrote is adopted as it stands: its UUID is kept and its objects are
    taken over. Raises UsageError, DiskTrouble; nothing is changed then. Interrupted while its objects are taken over.
    """
    check_name(bench, name)
    place, mount = look_at_place(bench, path)
    with contextlib.closing(bench.open_store(path, mount)) as store:
        identity, footing = store.identity(), store.footing()
        if identity is not None and (known := bench.catalogue.disks.find(identity.uuid)):
            raise UsageError(f"the disk at {printable(path)} is known already, as '{known.name}'")
        relative_path = below(path, mount)
        if identity is None:
            _refuse_known_place(bench, mount, relative_path, path)
        if not folder:
            refuse_no_disk(place)
        if footing is not None and (reason := unsafe(path, mount, footing, bench.owners)):
            raise UsageError(reason.sentence("nothing was changed"))
        refuse_clones(bench, mount.filesystem_uuid)
        container = bench.mounter.container_of(mount)
        if luks_key is not None and container is None:
            raise UsageError(
                f"the disk at {printable(path)} does not lie in a LUKS container, so it needs no key; nothing was changed"
            )
        if mount.read_only:
            raise DiskTrouble(f"the disk at {printable(path)} is read-only; nothing was changed on it")
        with contextlib.closing(bench.open_store(path if footing else mount.root, mount)) as there:
            space = there.space()
        size = default_capacity(space.total - space.reserved) if capacity is None else capacity
        check_capacity(size)
        disk = BackupDisk(
            id=0,
            uuid=identity.uuid if identity else str(uuid.uuid4()),
            name=name,
            capacity=size,
            relative_path=relative_path,
            filesystem_uuid=mount.filesystem_uuid,
            filesystem_type=mount.filesystem_type,
            last_path=path,
            added_at=bench.clock.now(),
            luks_uuid=container.filesystem_uuid if container and luks_key is not None else None,
            location=location,
        )
        advice = _advice(place, mount, container if luks_key is None else None, size, space)
        if simulate:
            return Enrolment(disk, mount, 0, advice)
        if container and luks_key is not None:
            kept = bench.mounter.keep_key(container, luks_key)
            advice.append(f"its key is {kept}; keep another copy of it elsewhere, without a key nobody can read the disk")
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{printable(path)} cannot be made into a folder: {error.strerror}; no disk was made known"
            ) from error
        store.prepare()
        store.write_identity(DiskIdentity(disk.uuid, name))
        made = store.footing()
        assert made is not None
        disk = bench.catalogue.disks.add(settle(disk, mount, made, folder and refusal(place) is not None))
        adopted, _ = refresh(bench, disk, store, stop)
    return Enrolment(bench.catalogue.disks.find(disk.uuid) or disk, mount, adopted, advice)


def _advice(place: DiskPlace, mount: Mount, container: Volume | None, size: int, space: Space) -> list[str]:
    """What the user should know; ``container``: one to which no key is kept."""
    advice = []
    if danger := shared_fate(place):
        advice.append(f"{danger}; its copies count all the same")
    if container:
        advice.append(
            "it is encrypted and no key to it is kept, so somebody has to unlock it each time it is plugged in; "
            "with --luks-key FILE the daemon does that"
        )
    if size > space.total:
        advice.append(f"its size, {say_size(size)}, is more than the {say_size(space.total)} that its file system has")
    if size > space.free:
        advice.append(f"only {say_size(space.free)} of it are free now; the rest is filled when there is room")
    unavoidable = min(space.total // 40, _EXT4_KEEPS_BLOCKS * space.block_size)
    reserves = space.reserved > unavoidable and mount.filesystem_type in ("ext4", "ext3", "ext2")
    if reserves and mount.root != b"/":  # the system's own disk needs them
        advice.append(
            f"its {mount.filesystem_type} reserves {say_size(space.reserved)} for root, which a backup disk does not "
            f"need and its size does not count: 'tune2fs -m 0 {mount.device}' sets them free"
        )
    return advice


def check_capacity(size: int) -> None:
    """Raises UsageError if a disk of this size could hold nothing."""
    if size < _SMALLEST:
        raise UsageError(f"{say_size(size)} is too small for a backup disk; give it --size 2M or more")


def rename(bench: Bench, disk: BackupDisk, name: str, store: DiskStore | None) -> BackupDisk:
    """Give the disk another name, also on itself if it is here (else when it is plugged next)."""
    check_name(bench, name)
    renamed = replace(disk, name=name)
    # The disk first: if it cannot be written, nothing is changed at all.
    if store is not None:
        store.write_identity(DiskIdentity(disk.uuid, name))
    bench.catalogue.disks.update(renamed)
    return renamed


def refresh(bench: Bench, disk: BackupDisk, store: DiskStore, stop: Stop = _NEVER, wary: bool = False) -> tuple[int, int]:
    """Believe what lies on the disk: how many objects more, and how many fewer, than the catalogue said.

    Names and sizes are believed; contents are what ``verify`` reads. But where the last session did not come to its end,
    which who calls knows (``wary``) or unfinished copies show, each object that was not known is read first, for what that
    session wrote may be in memory only; the next one clears up. Objects that no file refers to are orphans from now on.
    Raises DiskTrouble, Interrupted.
    """
    wary = wary or store.holds_unfinished()
    if wary:
        disk = replace(disk, clean=False)
        bench.catalogue.disks.update(disk)
    gained, lost = walk(bench, disk, store, wary, tells=False)
    if wary:
        pending = bench.catalogue.objects.pending_removals(disk.id)
        gained += take_over(bench, disk, store, stop, ALL_FOLDERS, apart_from=pending)
    save_catalogue(bench, disk, store)
    note_folders(bench, disk, store, ALL_FOLDERS)
    return gained, lost


def move(bench: Bench, disk: BackupDisk, path: bytes, folder: bool = False) -> BackupDisk:
    """The disk's layout lies at ``path`` now. Raises UsageError if another disk, or none, lies there.

    ``folder``: as in :func:`enrol`.
    """
    place, mount = look_at_place(bench, path, disk)
    with contextlib.closing(bench.open_store(path, mount)) as store:
        identity, footing = store.identity(), store.footing()
    if identity is None or footing is None or identity.uuid != disk.uuid:
        what = "no backup disk" if identity is None else f"'{printable(identity.name)}'"
        raise UsageError(f"{printable(path)} is {what}, not '{disk.name}'; nothing was changed")
    if not folder:
        refuse_no_disk(place)
    if reason := unsafe(path, mount, footing, bench.owners):
        raise UsageError(reason.sentence("nothing was changed"))
    there = replace(disk, last_path=path, relative_path=below(path, mount))
    moved = settle(there, mount, footing, folder and refusal(place) is not None)
    bench.catalogue.disks.update(moved)
    return moved


def _refuse_known_place(bench: Bench, mount: Mount, relative_path: bytes, path: bytes) -> None:
    """A known disk that lost its JSON file must not be counted twice: each of its copies would seem to be two."""
    for disk in bench.catalogue.disks.all():
        if mount.filesystem_uuid and (mount.filesystem_uuid, relative_path) == (disk.filesystem_uuid, disk.relative_path):
            raise UsageError(
                f"{printable(path)} is the place of '{disk.name}', whose distbackup-disk.json is missing; nothing was "
                f'changed: to use it as before, write {{"uuid": "{disk.uuid}", "name": "{disk.name}"}} into that file; '
                f"if the disk was emptied, say 'dsb disk drop {disk.name}' and 'dsb disk del {disk.name}' first"
            )


def check_name(bench: Bench, name: str) -> None:
    """Raises UsageError if no disk may be called so, or another one is."""
    if looks_like_a_uuid(name):
        raise UsageError(f"'{name}' looks like a UUID; choose a name that stands on the disk's label")
    if not may_name_a_disk(name):
        raise UsageError(
            f"'{printable(name)}' is no name for a disk: use letters, digits, '-', '_' and '.', as on its label"
        )
    if bench.catalogue.disks.find(name) is not None:
        raise UsageError(f"there is a disk '{name}' already; choose another name")
