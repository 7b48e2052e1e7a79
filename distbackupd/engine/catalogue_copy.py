"""The catalogue's copy on a disk: which of the two knows more, and putting ours there.

A catalogue that was set back, say to a copy of last month, is wrong about which disk holds what: a session that believes
it could delete the last copy of a file. It shows on a disk whose copy of the catalogue knows a session that the catalogue
does not know. Such a disk is not touched until somebody said which of the two is to be believed.

A disk that never had this catalogue's copy (its ``catalogue_generation`` is -1), because the catalogue was recovered or
taken over without it, or that came last as something that its last session did not leave, is known by hearsay: nothing is
deleted anywhere because of it, and its next session walks it first.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import CatalogueTrouble, DiskFull, DiskTrouble, NoRoomForCopy
from distbackupd.model.events import Remark
from distbackupd.model.text import join_words, printable, say_size


def refuse_if_set_back(bench: Bench, disk: BackupDisk, store: DiskStore) -> bool:
    """Raises DiskTrouble if the copy on the disk knows what the catalogue does not; nothing was touched then.

    Whether the copy may be replaced, for it knows no more than the catalogue.
    """
    # Its last session saved the copy, and only then was the disk recorded as clean: whoever remembers that knows all of it.
    if disk.clean and disk.catalogue_generation >= 0 and disk.token and disk.token == store.token():
        return True
    for name in store.catalogue_copies(kept=False):
        try:
            with opened_copy(store, name) as descriptor:
                ahead = bench.catalogue.ahead(descriptor)
        except (CatalogueTrouble, OSError):
            return False  # it is kept aside when ours is put there
        if ahead is not None:
            written = time.strftime("%Y-%m-%d %H:%M", time.localtime(ahead.written_at))
            raise DiskTrouble(
                f"the copy of the catalogue on '{disk.name}', written {written}, knows what this catalogue does not, so "
                "this one was set back, or another machine uses the disk too; nothing was touched: 'dsb recover --replace' "
                f"puts the newest copy in its place, 'dsb disk refresh {disk.name}' keeps it and believes what lies there"
            )
    return True


def relies_on_hearsay(bench: Bench, disk: BackupDisk) -> bool:
    """Whether some other disk is only said to hold what it holds; told, for nothing may be deleted because of that."""
    disks = bench.catalogue.disks
    unseen = [other for other in disks.all() if other.id != disk.id and other.catalogue_generation < 0]
    names = [other.name for other in unseen if disks.held(other.id)[0]]
    if names:
        bench.reporter.tell(
            Remark(
                f"{disk.name}: nothing is deleted here until {join_words(names)} was looked through, for what is known of "
                "it is not sure: plug it in, or say 'dsb disk drop' if it is lost"
            )
        )
    return bool(names)


def save_catalogue(bench: Bench, disk: BackupDisk, store: DiskStore, is_ours: bool = False) -> BackupDisk:
    """Put the catalogue's copy on the disk unless the same is there already; the disk as it is known then.

    Where that cannot be, for want of room there or beside the catalogue, it is told, and tried again in the next session.

    ``is_ours``: the copy there was found to know no more. If nobody looked, it is looked at now:
    A copy there that knows what the catalogue does not, or that cannot be read, is kept beside it, and told.
    """
    generation = bench.catalogue.generation()
    if disk.catalogue_generation == generation and store.catalogue_copies(kept=False):
        store.flush()
        return disk
    bench.reporter.begin("saving the catalogue")
    try:
        spare = bench.catalogue.spare_place()
        with bench.catalogue.checked_copy() as copy:
            kept = store.save_catalogue(
                copy.write, lambda there: not is_ours and _must_be_kept(bench, there), spare, copy.assure
            )
        store.flush()
    except NoRoomForCopy as trouble:
        bench.reporter.tell(Remark(f"{disk.name}: {trouble}"))
        return disk
    except DiskFull:
        with contextlib.suppress(DiskTrouble):
            store.flush()  # some file systems give room back only then, and the next session counts on it
        lacking = say_size(bench.catalogue.size())
        left = "it was left as it was" if store.catalogue_copies(kept=False) else "the disk has none now"
        bench.reporter.tell(
            Remark(
                f"{disk.name}: there is no room for the catalogue's copy ({lacking}), so {left}; what was "
                "copied is recorded in the catalogue itself: remove what else lies on the disk, or lower its size"
            )
        )
        return disk
    finally:
        bench.reporter.end()
    if kept:
        bench.reporter.tell(
            Remark(
                f"{disk.name}: the catalogue that lay on it is another one than this; it is kept there as {printable(kept)}"
            )
        )
    disk = replace(disk, catalogue_generation=generation)
    bench.catalogue.disks.update(disk)
    return disk


@contextlib.contextmanager
def opened_copy(store: DiskStore, name: bytes) -> Iterator[int]:
    """One of the copies on a disk, open for reading while the context lasts. Raises OSError."""
    descriptor = store.open_catalogue_copy(name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _must_be_kept(bench: Bench, descriptor: int) -> bool:
    try:
        return bench.catalogue.ahead(descriptor) is not None
    except CatalogueTrouble:
        return True
