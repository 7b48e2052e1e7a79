"""The one door to a disk: every use case finds, judges and opens it here, and holds it until it is done.

    where is it -> is it one of two clones? -> mount it if it is only plugged in -> open its top folder -> is this it? -> use

What is believed is what :mod:`distbackupd.planning.genuine` says, of the top folder as it was opened; all that is done on
the disk is done beneath that. Only what could be a disk is opened at all: a file system that another user mounted can hang
whoever touches it. A session needs more, see :func:`must_be_as_left`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore
from distbackupd.engine.virtual_tree import join
from distbackupd.model.disks import BackupDisk, Footing, Mount, Volume
from distbackupd.model.errors import DiskClone, DiskForbidden, DiskNotOurs, DiskTrouble, UsageError
from distbackupd.model.text import join_words, printable
from distbackupd.planning.genuine import doubt, lasting_inode, names_of


@dataclass(frozen=True, slots=True)
class HeldDisk:
    """An enrolled disk that is open. ``root``: where its layout lies; ``store``: what works beneath that."""

    disk: BackupDisk
    root: bytes
    mount: Mount
    store: DiskStore


def find_disk(bench: Bench, name: str) -> BackupDisk:
    """The enrolled disk of this name or UUID. Raises UsageError naming those that there are."""
    disk = bench.catalogue.disks.find(name)
    if disk is None:
        names = [known.name for known in bench.catalogue.disks.all()]
        there_are = f"there is {join_words(names)}" if names else "none is known yet: 'dsb disk add' makes one known"
        raise UsageError(f"there is no disk '{printable(name)}'; {there_are}")
    return disk


def volumes_of(bench: Bench, disk: BackupDisk) -> list[Volume]:
    """Where the disk is plugged in: its LUKS container if a key to that is kept, else its file system. Several: clones."""
    found = [bench.mounter.attached(known) for known in (disk.luks_uuid, disk.filesystem_uuid) if known]
    return next((volumes for volumes in found if volumes), [])


def refuse_clones(bench: Bench, filesystem_uuid: str | None) -> None:
    """Raises DiskClone if several plugged-in file systems have this UUID: nobody can tell which is the right one."""
    volumes = bench.mounter.attached(filesystem_uuid) if filesystem_uuid else []
    if len(volumes) > 1:
        devices = join_words(sorted(volume.device for volume in volumes))
        raise DiskClone(
            f"{devices} have the same file system UUID, so one is a clone of the other; nothing was touched: "
            "unplug the clone, or give it a UUID of its own (tune2fs -U random, xfs_admin -U generate)"
        )


@contextlib.contextmanager
def opened(bench: Bench, disk: BackupDisk, read_only: bool = False, may_mount: bool = True) -> Iterator[HeldDisk]:
    """The disk, held until the context ends; mounted meanwhile if it is only plugged in.

    Raises DiskTrouble in a sentence that says what to do: it is not here, a clone, not believed, it cannot be mounted.
    """
    with contextlib.ExitStack() as stack:
        place = locate(bench, disk)
        refuse_clones(bench, disk.filesystem_uuid)
        if place is None:
            volumes = volumes_of(bench, disk)
            if not volumes:
                raise DiskTrouble(
                    f"'{disk.name}' is not here: plug it in, or mount it where it was ({printable(disk.last_path)})"
                )
            if not may_mount:
                raise DiskTrouble(
                    f"'{disk.name}' is plugged in as {volumes[0].device} but not mounted: mount it, or ask as root"
                )
            mount = stack.enter_context(bench.mounter.mounted(volumes[0], disk.name, read_only))
            place = root_on(disk, mount), mount
        yield stack.enter_context(entered(bench, disk, *place))


@contextlib.contextmanager
def opened_at(bench: Bench, path: bytes) -> Iterator[HeldDisk]:
    """The enrolled disk whose layout lies at a path that somebody named. Raises UsageError, DiskNotOurs, DiskClone."""
    disk, mount = find_disk_at(bench, path)
    with entered(bench, disk, path, mount) as held:
        yield held


@contextlib.contextmanager
def entered(bench: Bench, disk: BackupDisk, root: bytes, mount: Mount) -> Iterator[HeldDisk]:
    """The disk at a place of a mount, held until the context ends. Raises DiskNotOurs: it is not; nothing was touched."""
    # Who mounts something names its UUID; the device is asked.
    with contextlib.suppress(UsageError):  # nothing is there
        mount = replace(bench.mounter.mount_of(root), ours=mount.ours, remark=mount.remark)
    with _open(bench, root, mount) as store:
        recognise(store, disk, root)
        footing = store.footing()
        assert footing is not None  # it has an identity
        if reason := doubt(disk, root, mount, footing, bench.owners):
            raise DiskNotOurs(reason.sentence())
        yield HeldDisk(disk, root, mount, store)


def settled(held: HeldDisk, folder: bool = False) -> BackupDisk:
    """The disk as it is known from now on: where it lies, and by what it is known again.

    ``folder``: it is no disk of its own. What has no UUID is none either.
    """
    disk, mount, footing = held.disk, held.mount, held.store.footing()
    assert footing is not None
    return settle(replace(disk, last_path=held.root), mount, footing, folder or bool(disk.folder_on))


def settle(disk: BackupDisk, mount: Mount, footing: Footing, folder: bool) -> BackupDisk:
    """See :func:`settled`."""
    if not folder and mount.on_device and mount.filesystem_uuid is None and disk.filesystem_uuid:
        return disk  # an ordinary user may not ask the device
    disk = replace(disk, filesystem_uuid=mount.filesystem_uuid, filesystem_type=mount.filesystem_type)
    if not folder and mount.on_device and mount.filesystem_uuid:
        return replace(disk, folder_on="", folder_inode=0)
    return replace(disk, folder_on=names_of(mount)[0], folder_inode=lasting_inode(mount, footing))


def recognise(store: DiskStore, disk: BackupDisk, root: bytes) -> None:
    """Make sure that what lies there says that it is the disk. Raises DiskNotOurs."""
    identity = store.identity()
    place = printable(root)
    if identity is None:
        raise DiskNotOurs(
            f"there is no distbackup-disk.json at {place}, so it cannot be recognised as '{disk.name}'; nothing on it was "
            f"touched: if it lies elsewhere on the disk, say 'dsb disk set {disk.name} --path PATH'"
        )
    if identity.uuid != disk.uuid:
        raise DiskNotOurs(
            f"the disk at {place} is '{printable(identity.name)}' ({identity.uuid}), not '{disk.name}' ({disk.uuid}); "
            "nothing on it was touched"
        )


def must_be_as_left(bench: Bench, held: HeldDisk) -> None:
    """Make sure that the disk is what its last session left, before it gets anything or is credited with anything.

    Each session leaves a random token on it. What comes with another one, or with none, is an older image, one whose clone
    was used in between, or something that was made to look like it. Raises DiskNotOurs; only ``dsb disk refresh`` takes it
    for the disk then, and until it was looked through what is known of the disk is hearsay, so nothing is deleted for it.
    """
    disk = bench.catalogue.disks.find(held.disk.uuid) or held.disk
    if not disk.token or is_as_left(disk, held.store):
        return
    bench.catalogue.disks.update(replace(disk, catalogue_generation=-1))
    raise DiskNotOurs(
        f"the disk at {printable(held.root)} is not as the last session left '{disk.name}': it is an older image, a clone, "
        "or another disk that was made to look like it; nothing on it was touched, and nothing on it counts: if it is the "
        f"right one, say 'dsb disk refresh {disk.name}'"
    )


def is_as_left(disk: BackupDisk, store: DiskStore) -> bool:
    """Whether the disk carries what its last session left there, or was about to leave when it died."""
    token = store.token()
    return bool(token and disk.token) and token in (disk.token, disk.next_token)


def find_disk_at(bench: Bench, path: bytes) -> tuple[BackupDisk, Mount]:
    """The enrolled disk whose layout lies at a path. Raises UsageError, DiskNotOurs, DiskClone."""
    mount = bench.mounter.mount_of(path)
    with _open(bench, path, mount) as store:
        identity, footing = store.identity(), store.footing()
    if identity is None or footing is None:
        raise UsageError(f"{printable(path)} is no backup disk: there is no distbackup-disk.json")
    disk = bench.catalogue.disks.find(identity.uuid)
    if disk is None:
        raise DiskNotOurs(
            f"the disk at {printable(path)} ('{printable(identity.name)}') belongs to another catalogue; nothing on it was "
            "touched: 'dsb disk add NAME PATH' would take it over into this one"
        )
    if reason := doubt(disk, path, mount, footing, bench.owners):
        raise DiskNotOurs(reason.sentence())
    refuse_clones(bench, disk.filesystem_uuid)
    return disk, mount


def locate(bench: Bench, disk: BackupDisk) -> tuple[bytes, Mount] | None:
    """Where the disk is mounted: the path of its layout and the mount; None where it is not.

    Raises:
        DiskNotOurs: what is here says that it is the disk, and is not believed.
        DiskForbidden: this user may not look at what could be it.
        DiskTrouble: two file systems claim to be it: one is a clone.
    """
    found: dict[str, tuple[bytes, Mount]] = {}
    doubts: list[DiskTrouble] = []
    for root, mount in _candidates(bench, disk, doubts):
        if mount.device not in found:
            with _open(bench, root, mount) as store:
                footing = store.footing()
            if footing and (reason := doubt(disk, root, mount, footing, bench.owners)):
                doubts.append(DiskNotOurs(reason.sentence()))
            elif footing:
                found[mount.device] = root, mount
    if len(found) > 1:
        places = join_words(sorted(printable(root) for root, _ in found.values()))
        raise DiskTrouble(
            f"{places} both claim to be '{disk.name}': one is a clone of the other; nothing was touched: unmount the clone"
        )
    if not found and doubts:
        raise doubts[0]
    return next(iter(found.values()), None)


def with_file_system(bench: Bench, disk: BackupDisk) -> BackupDisk:
    """A disk of which nobody recorded on what file system it lies, with that of the mounted device that says it is the disk.

    The same disk as before if none says so, or more than one. Only for when root has just made the disk known.
    """
    if disk.filesystem_uuid or disk.folder_on:
        return disk
    found = set()
    for mount in bench.mounter.mounts():
        root = root_on(disk, mount)
        if mount.on_device and _is_safe_to_open(bench, mount) and _says_so(bench, disk, root, mount, []):
            found.add(bench.mounter.mount_of(root).filesystem_uuid)
    return replace(disk, filesystem_uuid=found.pop()) if len(found) == 1 else disk


def below(root: bytes, mount: Mount) -> bytes:
    """The other way round: the path of a layout relative to its mount's, empty for that itself."""
    return b"" if root == mount.root else os.path.relpath(root, mount.root)


def root_on(disk: BackupDisk, mount: Mount) -> bytes:
    """Where the disk's layout lies on the mounted file system."""
    return join(mount.root, disk.relative_path) if disk.relative_path else mount.root


def _candidates(bench: Bench, disk: BackupDisk, forbidden: list[DiskTrouble]) -> Iterator[tuple[bytes, Mount]]:
    """Where something says that it is the disk, and what the device there says; nothing is opened that could be no disk.

    ``forbidden`` gets the trouble with what this user may not look at.
    """
    none = True
    for mount in bench.mounter.mounts():
        if not _is_safe_to_open(bench, mount):
            continue
        root = root_on(disk, mount)
        if _could_be(disk, mount) and _says_so(bench, disk, root, mount, forbidden):
            if mount.filesystem_uuid is None:
                mount = bench.mounter.mount_of(root)  # noqa: PLW2901 - the same one, with its UUID asked from the device
            if mount.filesystem_uuid is None or _could_be(disk, mount):
                none = False
                yield root, mount
    if none and disk.last_path:
        try:
            mount = bench.mounter.mount_of(disk.last_path)
        except UsageError:
            return
        if _is_safe_to_open(bench, mount) and _says_so(bench, disk, disk.last_path, mount, forbidden):
            yield disk.last_path, mount


def _is_safe_to_open(bench: Bench, mount: Mount) -> bool:
    return mount.mounted_by == 0 or mount.mounted_by in bench.owners


def _could_be(disk: BackupDisk, mount: Mount) -> bool:
    if disk.folder_on:
        return disk.folder_on in names_of(mount)
    return bool(disk.filesystem_uuid) and mount.on_device and mount.filesystem_uuid in (None, disk.filesystem_uuid)


def _says_so(bench: Bench, disk: BackupDisk, root: bytes, mount: Mount, forbidden: list[DiskTrouble]) -> bool:
    try:
        with _open(bench, root, mount) as store:
            identity = store.identity()
    except DiskForbidden as trouble:
        if root == disk.last_path or mount.filesystem_uuid == disk.filesystem_uuid:
            forbidden.append(trouble)
        return False
    except DiskTrouble:
        return False
    return identity is not None and identity.uuid == disk.uuid


@contextlib.contextmanager
def _open(bench: Bench, root: bytes, mount: Mount) -> Iterator[DiskStore]:
    store = bench.open_store(root, mount)
    try:
        yield store
    finally:
        store.close()
