"""From nothing: the catalogue is lost, some backup disks are here.

    find disks -> take the newest sound copy of the catalogue -> walk each disk that is here and believe what lies on it

Where no disk has a copy, a new catalogue is made of what the disks are and hold; names of files are lost then.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from distbackupd.engine.bench import Bench
from distbackupd.engine.door import HeldDisk, below, entered, locate, opened, settle, settled, volumes_of
from distbackupd.engine.enrolment import check_name, enrol, refresh
from distbackupd.engine.ports import CatalogueCopies, DiskStore, Reporter
from distbackupd.engine.virtual_tree import join
from distbackupd.model.copies import CatalogueCopy, DamagedCopy
from distbackupd.model.disks import BackupDisk, DiskIdentity, Footing, Mount
from distbackupd.model.errors import CatalogueTrouble, DiskForbidden, DiskNotOurs, DiskTrouble, UsageError
from distbackupd.model.events import Remark
from distbackupd.model.text import printable


@dataclass(frozen=True, slots=True)
class FoundDisk:
    """A backup disk that is mounted, whoever's it is, and what of copies of the catalogue lies on it."""

    root: bytes
    mount: Mount
    identity: DiskIdentity
    store: DiskStore
    footing: Footing

    @property
    def name(self) -> str:
        """What to call it."""
        return printable(self.identity.name) or self.identity.uuid


@dataclass(slots=True)
class Walk:
    """What became of the disks, by name. ``walked``: objects more and fewer than the catalogue said."""

    walked: dict[str, tuple[int, int]] = field(default_factory=dict)
    added: dict[str, int] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)


def find_disks(
    open_store: Callable[[bytes, Mount], DiskStore], places: Iterable[tuple[bytes, Mount]], reporter: Reporter
) -> list[FoundDisk]:
    """The backup disks at these places of mounted file systems, or in a folder there.

    Raises DiskTrouble if one shows twice.
    """
    found: dict[str, FoundDisk] = {}
    for root, mount in ((root, mount) for place, mount in places for root in _top_of(place)):
        store = open_store(root, mount)
        try:
            footing = store.footing()
        except DiskTrouble:
            continue  # many folders may not be looked into, and are nothing to us
        try:
            identity = store.identity()
        except DiskTrouble as trouble:
            if isinstance(trouble, DiskNotOurs | DiskForbidden):
                reporter.tell(Remark(str(trouble)))
            store.close()
            continue
        if identity is None or footing is None:
            store.close()
            continue
        other = found.setdefault(identity.uuid, FoundDisk(root, mount, identity, store, footing))
        if other.mount.device != mount.device:
            raise DiskTrouble(
                f"{printable(other.root)} and {printable(root)} both claim to be '{printable(identity.name)}': one is a "
                "clone of the other; nothing was touched: unmount the clone, or name the places of the right disks"
            )
    return list(found.values())


def rank_copies(
    copies: CatalogueCopies, disks: Sequence[FoundDisk], reporter: Reporter
) -> list[tuple[CatalogueCopy, FoundDisk]]:
    """All copies of a catalogue on the disks, the newest first; what cannot be one is told."""
    found = []
    for disk in disks:
        for name in disk.store.catalogue_copies():
            path = join(disk.root, name)
            try:
                copy = copies.look_at(path)
            except DamagedCopy as trouble:
                reporter.tell(Remark(f"{disk.name}: {trouble}"))
                continue
            except CatalogueTrouble as trouble:
                if name in disk.store.catalogue_copies(kept=False):  # what is kept beside may be anybody's
                    reporter.tell(Remark(f"{disk.name}: {trouble}"))
                continue
            if copy is not None:
                found.append((copy, disk))
    return sorted(found, key=lambda pair: pair[0].rank, reverse=True)


def take_first_sound(
    copies: CatalogueCopies, candidates: Sequence[CatalogueCopy], reporter: Reporter
) -> tuple[CatalogueCopy, bytes] | None:
    """Put the first copy that is sound in the catalogue's place: which, and where what was there is kept.

    None: none of them is sound, and nothing was changed. Raises CatalogueTrouble if the place cannot be written.
    """
    for copy in candidates:
        try:
            return copy, copies.take(copy)
        except DamagedCopy as trouble:
            reporter.tell(Remark(str(trouble)))
    return None


def walk_disks(bench: Bench, found: Sequence[FoundDisk], may_mount: bool) -> Walk:
    """Believe what lies on each disk that is here, make those known that the catalogue does not know, name the others.

    ``may_mount``: disks that the catalogue knows and that are only plugged in are mounted for it. A disk that was not
    seen stays known by hearsay, and is walked when its next session begins. Stopped at any moment, no harm is done.
    """
    walk = Walk()
    by_uuid = {disk.identity.uuid: disk for disk in found}
    for disk in bench.catalogue.disks.all():
        here = by_uuid.pop(disk.uuid, None)
        try:
            with _reached(bench, disk, here, may_mount) as held:
                if held is None:
                    walk.unseen.append(disk.name)
                else:
                    walk.walked[disk.name] = _walk(bench, held)
        except DiskTrouble as trouble:
            bench.reporter.tell(Remark(f"{disk.name}: {trouble}"))
            if disk.name not in walk.walked:
                walk.unseen.append(disk.name)
    for other in by_uuid.values():
        try:
            enrolled = enrol(bench, _free_name(bench, other.identity), other.root, None, folder=True)
        except (DiskTrouble, UsageError) as trouble:
            bench.reporter.tell(Remark(f"{other.name}: {trouble}"))
        else:
            walk.added[enrolled.disk.name] = enrolled.adopted
    return walk


def _walk(bench: Bench, held: HeldDisk) -> tuple[int, int]:
    disk = replace(settled(held), relative_path=below(held.root, held.mount), clean=False)
    bench.catalogue.disks.update(disk)
    return refresh(bench, disk, held.store)


@contextlib.contextmanager
def _reached(bench: Bench, disk: BackupDisk, here: FoundDisk | None, may_mount: bool) -> Iterator[HeldDisk | None]:
    """The disk while the context lasts; None where it is not here."""
    if here is not None:
        # Where it was when the copy was written is no matter: it was named, or looked for, now.
        there = settle(replace(disk, last_path=here.root), here.mount, here.footing, bool(disk.folder_on))
        with entered(bench, there, here.root, here.mount) as held:
            yield held
    elif locate(bench, disk) or (may_mount and volumes_of(bench, disk)):
        with opened(bench, disk) as held:
            yield held
    else:
        yield None


def _top_of(root: bytes) -> Iterator[bytes]:
    """A mount point and the folders right below it."""
    yield root
    with contextlib.suppress(OSError), os.scandir(root) as items:
        yield from sorted(item.path for item in items if item.is_dir(follow_symlinks=False))


def _free_name(bench: Bench, identity: DiskIdentity) -> str:
    try:
        check_name(bench, identity.name)
    except UsageError:
        return f"disk-{identity.uuid[:8]}"
    return identity.name
