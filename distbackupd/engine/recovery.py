"""From nothing: the catalogue is lost, some backup disks are here.

    find disks -> take the newest copy of the catalogue that is sound and borne out by the others, if somebody agrees
    -> walk each disk that is here and believe what lies on it

Where no disk has a copy, a new catalogue is made of what the disks are and hold; names of files are lost then.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from distbackupd.engine.bench import Bench
from distbackupd.engine.catalogue_copy import opened_copy
from distbackupd.engine.door import HeldDisk, below, entered, locate, opened, settle, settled, volumes_of
from distbackupd.engine.enrolment import check_name, enrol, refresh
from distbackupd.engine.ports import CatalogueCopies, DiskStore, Reporter
from distbackupd.engine.virtual_tree import join
from distbackupd.model.copies import CatalogueCopy, DamagedCopy
from distbackupd.model.disks import BackupDisk, DiskIdentity, Footing, Mount
from distbackupd.model.errors import CatalogueTrouble, DiskForbidden, DiskNotOurs, DiskTrouble, UsageError
from distbackupd.model.events import Remark
from distbackupd.model.text import printable
from distbackupd.planning.copy_choice import Candidate, choose


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
    open_store: Callable[[bytes, Mount], DiskStore],
    places: Iterable[tuple[bytes, Mount]],
    reporter: Reporter,
    are_named: bool = True,
) -> list[FoundDisk]:
    """The backup disks at these places of mounted file systems, or in a folder there.

    Unless somebody named the places (``are_named``), only where nobody else could have put one. Raises DiskTrouble if one
    shows twice.
    """
    found: dict[str, FoundDisk] = {}
    for root, mount in ((root, mount) for place, mount in places for root in _top_of(place)):
        if not are_named and not _is_out_of_reach(root, mount):
            continue
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


class FoundCopy(NamedTuple):
    """A copy of a catalogue. ``opened`` gives it open for reading, as long as that lasts, and raises OSError."""

    candidate: Candidate
    opened: Callable[[], contextlib.AbstractContextManager[int]]

    @property
    def copy(self) -> CatalogueCopy:
        """What it says of itself."""
        return self.candidate.copy


def find_copies(copies: CatalogueCopies, disks: Sequence[FoundDisk], reporter: Reporter) -> list[FoundCopy]:
    """All copies of a catalogue on the disks, the newest first; what cannot be one is told."""
    found = []
    for disk in disks:
        plain = disk.store.catalogue_copies(kept=False)
        for name in disk.store.catalogue_copies():
            path, opened = join(disk.root, name), functools.partial(opened_copy, disk.store, name)
            try:
                copy = _look_at(copies, opened, path)
            except CatalogueTrouble as trouble:
                if name in plain or isinstance(trouble, DamagedCopy):  # what is kept beside may be anybody's
                    reporter.tell(Remark(f"{disk.name}: {trouble}"))
                continue
            token = disk.store.token()
            found.append(FoundCopy(Candidate(copy, disk.name, disk.identity.uuid, token, name not in plain), opened))
    return sorted(found, key=lambda item: item.copy.rank, reverse=True)


def named_copy(copies: CatalogueCopies, path: bytes) -> FoundCopy:
    """The copy in a file that somebody named. Raises UsageError if there is none, CatalogueTrouble."""
    opened = functools.partial(_opened_file, path)
    if not os.path.lexists(path):
        raise UsageError(f"there is no file {printable(path)}; nothing was changed")
    return FoundCopy(Candidate(_look_at(copies, opened, path), "", ""), opened)


@contextlib.contextmanager
def _opened_file(path: bytes) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def take_sound(
    copies: CatalogueCopies,
    found: Sequence[FoundCopy],
    is_named: bool,
    agree: Callable[[Candidate], None],
    reporter: Reporter,
) -> tuple[Candidate, bytes] | None:
    """Put a sound copy in the catalogue's place: which, and where what was there is kept.

    ``is_named``: somebody said that it is to be one of these, the best first. Else it is one that the others bear out
    (:mod:`distbackupd.planning.copy_choice`). ``agree`` raises if it is not to be taken. None: none of them is sound, and
    nothing was changed. Raises UsageError if nothing bears out those that may be sound, CatalogueTrouble if the place cannot
    be written.
    """
    left = list(found)
    while left:
        chosen = left[0] if is_named else _borne_out(left)
        agree(chosen.candidate)
        try:
            with chosen.opened() as descriptor:
                return chosen.candidate, copies.take(descriptor, chosen.copy)
        except DamagedCopy as trouble:
            reporter.tell(Remark(str(trouble)))
        except OSError as error:
            reporter.tell(Remark(f"{printable(chosen.copy.path)} cannot be read: {error.strerror}"))
        left.remove(chosen)
    return None


def _borne_out(found: Sequence[FoundCopy]) -> FoundCopy:
    taken = choose([item.candidate for item in found]).taken
    for item in found:
        if item.candidate is taken:
            return item
    raise UsageError(
        "no copy of the catalogue that was found is borne out by its disk and the others, so none was taken and nothing "
        "was changed: 'dsb recover --from DISK' takes the one on the disk that you trust"
    )


def _look_at(
    copies: CatalogueCopies, opened: Callable[[], contextlib.AbstractContextManager[int]], path: bytes
) -> CatalogueCopy:
    try:
        with opened() as descriptor:
            return copies.look_at(descriptor, path)
    except OSError as error:
        raise DamagedCopy(f"{printable(path)} cannot be read: {error.strerror}") from error


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


def _is_out_of_reach(root: bytes, mount: Mount) -> bool:
    """Whether it lies on a device, and only root or whoever asks can write there: no tmpfs, no FUSE, no folder of others."""
    if not mount.on_device or mount.mounted_by not in (0, os.geteuid()):
        return False
    try:
        states = [os.lstat(place) for place in {root, mount.root}]
    except OSError:
        return False
    return all(
        stat.S_ISDIR(state.st_mode) and not state.st_mode & 0o022 and state.st_uid in (0, os.geteuid()) for state in states
    )


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
