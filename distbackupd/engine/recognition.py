"""Is this the disk it claims to be, and where is it plugged in?"""

from __future__ import annotations

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore
from distbackupd.engine.virtual_tree import join
from distbackupd.model.disks import BackupDisk, DiskIdentity, Mount, Volume
from distbackupd.model.errors import DiskClone, DiskNotOurs, DiskTrouble, UsageError
from distbackupd.model.text import join_words, printable


def recognise(store: DiskStore, disk: BackupDisk, root: bytes, rename: bool = True) -> None:
    """Make sure that the store belongs to the disk; a disk that was renamed gets its new name if ``rename``.

    Raises:
        DiskNotOurs: it does not; nothing on it was touched.
    """
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
    if rename and identity.name != disk.name:
        store.write_identity(DiskIdentity(disk.uuid, disk.name))


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


def find_disk_at(bench: Bench, path: bytes) -> tuple[BackupDisk, Mount]:
    """The enrolled disk whose layout lies at a path. Raises UsageError, DiskNotOurs, DiskClone."""
    mount = bench.mounter.mount_of(path)
    identity = bench.open_store(path, mount).identity()
    if identity is None:
        raise UsageError(f"{printable(path)} is no backup disk: there is no distbackup-disk.json")
    disk = bench.catalogue.disks.find(identity.uuid)
    if disk is None:
        raise DiskNotOurs(
            f"the disk at {printable(path)} ('{printable(identity.name)}') belongs to another catalogue; nothing on it was "
            "touched: 'dsb disk add NAME PATH' would take it over into this one"
        )
    if disk.filesystem_uuid and mount.filesystem_uuid and mount.filesystem_uuid != disk.filesystem_uuid:
        raise DiskNotOurs(
            f"what lies at {printable(path)} is a copy of '{disk.name}' on another file system; nothing on it was touched: "
            f"if it replaces the old disk, say 'dsb disk set {disk.name} --path {printable(path)}'"
        )
    refuse_clones(bench, mount.filesystem_uuid)
    return disk, mount


def locate(bench: Bench, disk: BackupDisk) -> tuple[bytes, Mount] | None:
    """Where the disk is mounted: the path of its layout and the mount; None where it is not.

    Raises:
        DiskTrouble: two file systems claim to be it: one is a clone.
    """
    found: dict[str, tuple[bytes, Mount]] = {}
    for mount in bench.mounter.mounts():
        if mount.filesystem_uuid and disk.filesystem_uuid and mount.filesystem_uuid != disk.filesystem_uuid:
            continue
        root = root_on(disk, mount)
        if not _is_at(bench, disk, root, mount):
            continue
        if mount.filesystem_uuid is None:
            mount = bench.mounter.mount_of(root)  # noqa: PLW2901 - the same one, with its UUID asked from the device
            if mount.filesystem_uuid and disk.filesystem_uuid and mount.filesystem_uuid != disk.filesystem_uuid:
                continue
        found.setdefault(mount.device, (root, mount))
    if not found and disk.last_path:
        try:
            mount = bench.mounter.mount_of(disk.last_path)
        except UsageError:
            return None
        if _is_at(bench, disk, disk.last_path, mount):
            return disk.last_path, mount
    if len(found) > 1:
        places = join_words(sorted(printable(root) for root, _ in found.values()))
        raise DiskTrouble(
            f"{places} both claim to be '{disk.name}': one is a clone of the other; nothing was touched: unmount the clone"
        )
    return next(iter(found.values()), None)


def root_on(disk: BackupDisk, mount: Mount) -> bytes:
    """Where the disk's layout lies on the mounted file system."""
    return join(mount.root, disk.relative_path) if disk.relative_path else mount.root


def _is_at(bench: Bench, disk: BackupDisk, root: bytes, mount: Mount) -> bool:
    try:
        identity = bench.open_store(root, mount).identity()
    except DiskTrouble:
        return False
    return identity is not None and identity.uuid == disk.uuid
