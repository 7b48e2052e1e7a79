"""What is protected how well: the figures of ``dsb info``, of a status and of D-Bus."""

from __future__ import annotations

from dataclasses import dataclass, field

from distbackupd.engine.bench import Bench
from distbackupd.engine.braking import standing_brake
from distbackupd.engine.door import volumes_of
from distbackupd.engine.scan_failures import failed_scan
from distbackupd.engine.timekeeping import LAST_SCAN
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DistbackupError
from distbackupd.model.events import DiskWanted
from distbackupd.model.problems import NOTHING_UNREAD, FailedScan, Unread
from distbackupd.model.standing import DiskStanding, Protection
from distbackupd.model.text import say_copies, say_count, say_size
from distbackupd.planning.next_disk import Holding, ShelfDisk, most_wanted

_JUST = 86_400
"""Seconds."""


@dataclass(frozen=True, slots=True)
class DiskOverview:
    """One disk: what it holds, its room (in bytes of footprint), and the bytes it holds by their number of copies."""

    disk: BackupDisk
    objects: int
    used: int
    free: int
    by_copies: dict[int, int]
    saturated: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Living objects by their number of copies: (objects, bytes, bytes of saturated ones). ``wanted``: what to bring.

    What is ``unread`` counts as having no copy, for its present content has none. ``advice``: what would help where no disk
    that could be brought does; empty: nothing is needed.
    """

    entries: int
    size: int
    by_copies: dict[int, tuple[int, int, int]]
    disks: list[DiskOverview] = field(default_factory=list)
    wanted: DiskWanted | None = None
    unread: Unread = NOTHING_UNREAD
    failed_scan: FailedScan | None = None
    advice: str = ""


def overview(bench: Bench) -> Overview:
    """The present state, from the catalogue alone."""
    sets = bench.catalogue.objects.holder_sets()
    by_copies: dict[int, tuple[int, int, int]] = {}
    by_disk: dict[int, dict[int, int]] = {}
    saturated_by_disk: dict[int, int] = {}
    growing = []
    for holders, objects, size, saturated in bench.catalogue.objects.by_holders():
        members = sets[holders]
        count = len(members)
        growing.append(Holding(frozenset(members), size - saturated))
        before = by_copies.get(count, (0, 0, 0))
        by_copies[count] = (before[0] + objects, before[1] + size, before[2] + saturated)
        for member in members:
            sizes = by_disk.setdefault(member, {})
            sizes[count] = sizes.get(count, 0) + size
            saturated_by_disk[member] = saturated_by_disk.get(member, 0) + saturated
    unread = bench.catalogue.problems.unread()
    if unread.files:
        before = by_copies.get(0, (0, 0, 0))
        by_copies[0] = (before[0] + unread.files, before[1] + unread.size, before[2])
    disks = []
    for disk in bench.catalogue.disks.all():
        held, used = bench.catalogue.disks.used(disk.id)
        disks.append(
            DiskOverview(disk, held, used, disk.room - used, by_disk.get(disk.id, {}), saturated_by_disk.get(disk.id, 0))
        )
    entries, size = bench.catalogue.files.count()
    wanted, advice = _next_disk(bench, disks, growing)
    by_copies = dict(sorted(by_copies.items()))
    return Overview(entries, size, by_copies, disks, wanted, unread, failed_scan(bench), advice)


def _next_disk(bench: Bench, disks: list[DiskOverview], holdings: list[Holding]) -> tuple[DiskWanted | None, str]:
    """The disk to bring; or, if none helps, neither one that is away nor one that is here, what would."""
    failed = _just_failed(bench)
    shelf = {item.disk.id: _on_the_shelf(bench, item) for item in disks if item.disk.name not in failed}
    errand = most_wanted(list(shelf.values()), holdings)
    if errand is None:
        return None, _advice(holdings) if disks else ""
    by_id = {item.disk.id: item.disk for item in disks}
    while errand is not None and _is_plugged(bench, by_id[errand.disk]):
        del shelf[errand.disk]
        errand = most_wanted(list(shelf.values()), holdings)
    if errand is None:
        return None, ""
    disk = by_id[errand.disk]
    return DiskWanted(disk.name, disk.uuid, errand.copies, errand.size), ""


def _advice(holdings: list[Holding]) -> str:
    """For what has fewest copies, if those are too few."""
    lacking = {copies: sum(item.size for item in holdings if len(item.holders) == copies) for copies in (0, 1)}
    copies = next((copies for copies, size in lacking.items() if size), None)
    if copies is None:
        return ""
    return f"no disk has room for the {say_size(lacking[copies])} that {say_copies(copies)}: add one"


def _just_failed(bench: Bench) -> set[str]:
    """Names of disks whose last session failed within a day: whoever brought one again would see that once more."""
    # What began in the future did so while the clock was wrong.
    now = bench.clock.now()
    latest = bench.catalogue.sessions.latest()
    return {name for name, summary in latest.items() if summary.outcome == "failed" and 0 <= now - summary.started < _JUST}


def _is_plugged(bench: Bench, disk: BackupDisk) -> bool:
    try:
        return bool(volumes_of(bench, disk))
    except DistbackupError:
        return False


def _on_the_shelf(bench: Bench, item: DiskOverview) -> ShelfDisk:
    disk = item.disk
    _, size = bench.catalogue.disks.held(disk.id)
    orphans = size - sum(item.by_copies.values())
    return ShelfDisk(disk.id, _worth_a_way(item), disk.last_session_at or 0, orphans, disk.declined)


def _worth_a_way(item: DiskOverview) -> int:
    """The disk's room; the last thousandth holds hardly any object, and nobody should be sent for it."""
    crowded = item.disk.most_objects and item.objects >= item.disk.most_objects
    return item.free if item.free * 1000 > item.disk.capacity and not crowded else 0


def protection(bench: Bench) -> Protection:
    """The present state as the daemon shows it to others."""
    state = overview(bench)
    last_scan = bench.catalogue.sessions.recall(LAST_SCAN)
    disks = tuple(
        DiskStanding(
            name=item.disk.name,
            uuid=item.disk.uuid,
            capacity=item.disk.capacity,
            used=item.used,
            objects=item.objects,
            only_here=item.by_copies.get(1, 0),
            last_session_at=item.disk.last_session_at,
        )
        for item in state.disks
    )
    sizes = {copies: size for copies, (_, size, _) in state.by_copies.items()}
    brake = standing_brake(bench).sentence
    scanned = int(last_scan) if last_scan else None
    unconfirmed = bench.catalogue.unconfirmed.total()
    return Protection(sizes, disks, state.wanted, scanned, brake, state.unread, state.failed_scan, state.advice, unconfirmed)


def idle_sentence(state: Protection) -> str:
    """``idle; 412 GB on 3 disks: 1.2 GB without a copy, 10.8 GB with two or more; bring music-01: ...``; for everybody."""
    total = sum(state.bytes_by_copies.values())
    failed = f"; {state.failed_scan.public_sentence}" if state.failed_scan else ""
    if not total:
        return f"idle{failed or '; nothing is scanned yet'}"
    none, one = (state.bytes_by_copies.get(copies, 0) for copies in (0, 1))
    parts = [f"{say_size(none)} without a copy"] if none else []
    parts += [f"{say_size(one)} with one copy"] if one else []
    parts += [f"{say_size(total - none - one)} with two or more"] if total > none + one else []
    idle = "idle, and the brake is on, so nothing is deleted" if state.brake else "idle"
    text = f"{idle}; {say_size(total)} on {say_count(len(state.disks), 'disk')}: {', '.join(parts)}"
    unread = f"; {state.unread.sentence}" if state.unread.sentence else ""
    following = state.wanted.sentence if state.wanted else state.advice
    return f"{text}{failed}{unread}; {following}" if following else f"{text}{failed}{unread}"
