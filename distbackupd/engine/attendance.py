"""Which sources and folders are not what was known there: gathers the facts for :mod:`distbackupd.planning.attendance`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from distbackupd.engine.bench import Bench
from distbackupd.engine.virtual_tree import join
from distbackupd.model.errors import SourceTrouble
from distbackupd.model.files import Entry, EntryFlag, EntryKind, KnownEntry
from distbackupd.model.sources import RealPath
from distbackupd.planning.attendance import distrust, distrust_changed, distrust_missing


def distrust_source(bench: Bench, virtual: bytes, real: bytes) -> str | None:
    """Why a source must be left as it was known; None: it can be believed. Raises SourceTrouble: it cannot be looked at."""
    place = RealPath(real)
    state = bench.tree.inspect(place)
    own = next((entry for entry in bench.catalogue.files.folder(virtual) if not entry.name), None)
    if state.empty:
        known = bench.catalogue.files.has_entries_below(virtual)
        return distrust(True, known, own.device if own else None, state.device)
    return None if own is None else distrust_folder(bench, virtual, place, own, bench.tree.describe_folder(place))


def distrust_folder(bench: Bench, virtual: bytes, real: RealPath, known: KnownEntry, entry: Entry) -> str | None:
    """The same of a folder that was ``known`` so and is ``entry`` now. Quick where it is on the same device as before."""
    unmounted = _is_mounted(known.flags) and not _is_mounted(entry.flags)
    if entry.device == known.device and not unmounted:
        return None
    there = bench.tree.names(real)
    if not there:
        return distrust(True, bench.catalogue.files.has_entries_below(virtual), known.device, entry.device)
    if not known.device:
        # Nobody ever looked at it: it was taken over from another program.
        return None
    names = [item.name for item in bench.catalogue.files.folder(virtual) if item.name]
    return distrust_changed(names, there, unmounted)


def distrust_members(
    bench: Bench, virtual: bytes, real: RealPath, known: Iterable[KnownEntry], entries: Iterable[Entry], followed: bool
) -> Iterator[tuple[bytes, str]]:
    """Names in a folder that must be left as they were known, with the reason.

    ``followed``: links count as what they point to, so one that leads nowhere may have led to a disk.
    """
    folders = {item.name: item for item in known if item.kind == EntryKind.FOLDER and item.name}
    if not folders:
        return
    for entry in entries:
        before = folders.pop(entry.name, None)
        if before is None:
            continue
        if entry.kind == EntryKind.FOLDER:
            try:
                there = real.child(entry.name, followed)
                reason = distrust_folder(bench, join(virtual, entry.name), there, before, entry)
            except SourceTrouble as trouble:
                reason = str(trouble)
        else:
            away = followed and entry.kind == EntryKind.SYMBOLIC_LINK
            reason = _LEADS_NOWHERE if away else distrust_missing(_is_mounted(before.flags))
        if reason:
            yield entry.name, reason
    for before in folders.values():
        reason = distrust_missing(_is_mounted(before.flags))
        if reason:
            yield before.name, reason


_LEADS_NOWHERE = (
    "it is a link that leads nowhere now; if that is right, 'dsb update --ignore-lock' records that its files are gone"
)


def _is_mounted(flags: int) -> bool:
    return bool(flags & EntryFlag.MOUNT_POINT)
