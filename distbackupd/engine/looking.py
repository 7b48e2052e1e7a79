"""What lies on a disk when it comes, looked at before anything that is known of it is believed.

Each session leaves a random token on the disk and in the catalogue; what comes with another one does not get here, see
:func:`distbackupd.engine.door.must_be_as_left`. A disk of which no token is known yet, or only hearsay, is walked, names and
sizes of all objects, and what is known of it is what was found. Any other is compared by listings: the folders that changed
and a share of the others, as many as there is time for; all of them if its last session did not end well, or its file system
was mended. What is gone is struck, and so copied again by the session that follows; what nobody recorded is for
:mod:`distbackupd.engine.clearing`, and so is what a walk finds beyond what is known, if the last session did not end well.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from distbackupd.engine.bench import Bench
from distbackupd.engine.door import is_as_left
from distbackupd.engine.ports import DiskStore, Stop
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DiskFull, Interrupted
from distbackupd.model.events import CopiesGone, Remark
from distbackupd.planning.listing import EVERYTHING, FOLDERS, Listing, folders_left, folders_to_list, runs

_BATCH_OBJECTS = 10_000
_FOLDERS_AT_ONCE = 16
_SPARE_SECONDS = 0.25
"""So long folders are listed that nothing speaks against: on small or fast disks all of them."""
ALL_FOLDERS = frozenset(EVERYTHING.folders)


class Looked(NamedTuple):
    """Folders that were ``listed``, and those of them in which files lie that are not recorded."""

    listed: frozenset[int]
    strays: frozenset[int]


def look_at_disk(bench: Bench, disk: BackupDisk, store: DiskStore, stop: Stop, wary: bool) -> Looked:
    """Compare what lies on the disk with what is known, strike what is not there, and leave a new token.

    ``wary``: everything is listed, and nothing new is believed. Raises DiskTrouble, also if the disk only seems to have lost
    its objects; Interrupted.
    """
    if not is_as_left(disk, store) or disk.catalogue_generation < 0:
        walk(bench, disk, store, wary)
        return Looked(ALL_FOLDERS, ALL_FOLDERS if wary else frozenset())
    times = store.folder_times()
    listing = EVERYTHING if wary else folders_to_list(times, bench.catalogue.disks.left(disk.id))
    if wary:
        bench.reporter.begin("listing what lies there", FOLDERS)
    try:
        looked = _compare(bench, disk, store, listing, times, stop)
    finally:
        if wary:
            bench.reporter.end()
    leave_token(bench, disk, store)
    return looked


def look_again(bench: Bench, disk: BackupDisk, store: DiskStore) -> None:
    """For whoever works with a disk outside of a session: one of which no token is known yet is walked first.

    Raises DiskTrouble.
    """
    if not is_as_left(disk, store):
        walk(bench, disk, store, wary=not disk.clean)
    else:
        leave_token(bench, disk, store)


def walk(bench: Bench, disk: BackupDisk, store: DiskStore, wary: bool, tells: bool = True) -> tuple[int, int]:
    """Believe what lies on the disk, names and sizes: how many objects more, and how many fewer, than was known.

    ``wary``: what is more than was known is not believed. Raises DiskTrouble; what was known is known still.
    """
    if disk.token and not is_as_left(disk, store):
        bench.catalogue.disks.forget_looks(disk.id)
    gained, lost = bench.catalogue.objects.replace_holdings(disk.id, _all_objects(store), bench.clock.now(), not wary)
    if tells and (gained or lost):
        bench.reporter.tell(Remark(f"{disk.name}: holds {gained:,} objects more and {lost:,} fewer than was known of it"))
    leave_token(bench, disk, store)
    return gained, lost


def leave_token(bench: Bench, disk: BackupDisk, store: DiskStore) -> None:
    """Leave a new token, if there is room. A crash between the disk and the catalogue makes no stranger of the disk.

    Raises DiskTrouble.
    """
    token, present = secrets.token_hex(16), store.token()
    disks = bench.catalogue.disks
    disks.record_token(disk.id, present, token)
    try:
        store.leave_token(token)
    except DiskFull:
        # What is dead can still be deleted there; the next session finds room.
        token = present
    disks.record_token(disk.id, token, "")


def note_folders(bench: Bench, disk: BackupDisk, store: DiskStore, listed: frozenset[int]) -> None:
    """Remember how the disk is left, after the last change to it. ``listed``: folders that were listed meanwhile."""
    disks = bench.catalogue.disks
    noted = folders_left(store.folder_times(), disks.left(disk.id), listed, bench.clock.now())
    if noted:
        disks.note_left(disk.id, noted)


def _all_objects(store: DiskStore) -> Iterator[tuple[bytes, int]]:
    yield from store.objects()
    # A disk that was pulled out seems to hold little, and what somebody wrote just now may be in memory only.
    store.must_answer(by_writing=True)
    store.flush()


def _compare(
    bench: Bench, disk: BackupDisk, store: DiskStore, listing: Listing, there: Container[int], stop: Stop
) -> Looked:
    """Strike what is missing, and tell it. ``there``: the folders that the disk has."""
    began = bench.clock.monotonic()
    listed: list[int] = []
    strays: list[int] = []
    gone: list[int] = []
    struck = alone = 0
    for folders in runs(listing.folders, _FOLDERS_AT_ONCE):
        if stop.is_set():
            raise Interrupted("stopped while the disk was looked at; what was recorded of it is true")
        if len(listed) >= listing.due and bench.clock.monotonic() - began >= _SPARE_SECONDS:
            break
        listed += folders
        held: dict[int, dict[bytes, int]] = {}
        for identifier, digest, _ in bench.catalogue.objects.held_in_folder(disk.id, folders[0], len(folders)):
            held.setdefault(int.from_bytes(digest[:2], "big") >> 4, {})[digest] = identifier
        for folder in folders:
            if folder not in held and folder not in there:
                continue
            known = held.get(folder, {})
            found = store.differences_in(folder, known.keys())
            gone += [known[digest] for digest in found.missing]
            if found.strays:
                strays.append(folder)
        if len(gone) >= _BATCH_OBJECTS:
            alone += _strike(bench, disk, store, gone)
            struck += len(gone)
            gone = []
    if gone:
        alone += _strike(bench, disk, store, gone)
        struck += len(gone)
    if struck:
        bench.reporter.tell(CopiesGone(disk.name, disk.uuid, struck, alone))
    return Looked(frozenset(listed), frozenset(strays))


def _strike(bench: Bench, disk: BackupDisk, store: DiskStore, gone: Sequence[int]) -> int:
    """Strike copies; of how many objects no other disk has one."""
    # What does not answer seems to hold nothing.
    store.must_answer(by_writing=True)
    bench.catalogue.objects.strike_all(disk.id, gone)
    return sum(not holders for holders in bench.catalogue.objects.holders(gone).values())
