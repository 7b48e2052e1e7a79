"""The brake: gathers the facts that :mod:`distbackupd.planning.brake` decides on, and remembers what was decided.

What changed is measured against the baseline: the last state that a scan of everything found right, or that somebody let
go. Each scan measures when it ends, so that the brake is on before any disk is plugged in, and each session does. Only a
scan of everything moves the baseline on. What a scan of some folders finds may be a move of which the other half is not
seen yet: the brake is on, and the next scan of everything confirms that or lifts it. Confirmed, it stays on, for every
disk, until somebody lets go.

A source that is not there holds the brake only as long as that lasts. A source's device alone is no cause: the numbers of
devices change with each boot and plug.
"""

from __future__ import annotations

import os
from dataclasses import replace

from distbackupd.engine.attendance import distrust_source
from distbackupd.engine.bench import Bench
from distbackupd.engine.brake_memory import BrakeMemory, recall, remember
from distbackupd.engine.ports import DiskStore, Upheaval
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DiskTrouble, SourceTrouble
from distbackupd.model.events import Braked, BrakeLifted, BrakeReleased
from distbackupd.model.files import SourceFile
from distbackupd.model.sources import RealPath
from distbackupd.planning.brake import (
    BrakeThresholds,
    Braking,
    Changes,
    Share,
    SourceFacts,
    SourceState,
    decide,
    looks_random,
)

_SAMPLES = 100
"""So many rewritten files are compared with their former content."""
_SAMPLE_BYTES = 65536


def brake_after(bench: Bench, whole: bool, thresholds: BrakeThresholds) -> None:
    """A scan has ended: put the brake on if too much was lost, and tell it; note the state if the ``whole`` was right.

    After a scan of some folders this costs as much as little was lost, however much was renamed.
    """
    memory = _with_baseline(bench)
    if not memory.baseline:
        if whole:
            remember(bench, _at_rest(bench, memory))
        return
    if memory.causes and not (whole and memory.unconfirmed):
        return
    upheavals = bench.catalogue.upheavals
    lost = upheavals.since(memory.baseline) if whole else upheavals.lately(memory.baseline)
    braking = decide(_changes(bench, memory, lost), [], thresholds)
    if braking.on:
        since = memory.since or bench.clock.now()
        remember(bench, replace(memory, causes=braking.causes, since=since, unconfirmed=not whole))
        if not memory.causes:
            bench.reporter.tell(Braked("", "", replace(braking, unconfirmed=not whole).sentence))
    elif whole:
        remember(bench, _at_rest(bench, memory))
        if memory.causes:
            bench.reporter.tell(BrakeLifted())


def brake_before(
    bench: Bench, disk: BackupDisk, store: DiskStore, tree: VirtualTree, thresholds: BrakeThresholds
) -> Braking:
    """Whether this session of the disk must not delete anything; told, and kept if changes are the cause."""
    memory = _with_baseline(bench)
    causes = memory.causes
    if memory.baseline and (not causes or memory.unconfirmed):
        lost = bench.catalogue.upheavals.since(memory.baseline)
        causes = decide(_changes(bench, memory, lost), [], thresholds).causes or causes
    scrambled = Changes() if memory.scrambled else _scrambled(bench, disk, store, tree, memory, thresholds)
    encrypted = decide(scrambled, [], thresholds).causes
    if (*causes, *encrypted) != memory.causes:
        memory = replace(
            memory,
            causes=(*causes, *encrypted),
            since=memory.since or bench.clock.now(),
            unconfirmed=not encrypted and (memory.unconfirmed or not memory.causes),
            scrambled=memory.scrambled or bool(encrypted),
        )
        remember(bench, memory)
    whole = _with_sources(bench, tree, memory, thresholds)
    if whole.on:
        bench.reporter.tell(Braked(disk.name, disk.uuid, whole.sentence))
    return whole


def standing_brake(bench: Bench) -> Braking:
    """What keeps the brake on now, without looking at any disk."""
    tree = VirtualTree(bench.catalogue.sources.all(), bench.catalogue.sources.settings())
    return _with_sources(bench, tree, recall(bench))


def release(bench: Bench) -> Braking:
    """Let go: what changed until now, and what sources look like now, is as it should be. What kept the brake on."""
    tree = VirtualTree(bench.catalogue.sources.all(), bench.catalogue.sources.settings())
    before = standing_brake(bench)
    wrong = [facts.path for facts in source_facts(bench, tree, BrakeMemory()) if facts.state is not SourceState.GOOD]
    known, now = Share(*bench.catalogue.upheavals.living()), bench.clock.now()
    remember(
        bench,
        BrakeMemory(baseline=now, known=known, released_at=now, released_sources=tuple(os.fsdecode(path) for path in wrong)),
    )
    if before.on:
        bench.reporter.tell(BrakeReleased())
    return before


def awaits_scan(bench: Bench) -> bool:
    """Whether a scan of everything is to confirm the brake, or to lift it."""
    return recall(bench).unconfirmed


def _at_rest(bench: Bench, memory: BrakeMemory) -> BrakeMemory:
    """The present state is right; what sources may look like stays let go."""
    known = Share(*bench.catalogue.upheavals.living())
    return replace(memory, causes=(), since=0, unconfirmed=False, baseline=bench.clock.now(), known=known)


def _with_baseline(bench: Bench) -> BrakeMemory:
    """What is remembered; where an older version remembered no baseline, what it measured against: the sessions."""
    memory = recall(bench)
    if memory.baseline:
        return memory
    sessions = [disk.last_session_at or 0 for disk in bench.catalogue.disks.all()]
    return replace(memory, baseline=max([memory.released_at, *sessions]))


def _changes(bench: Bench, memory: BrakeMemory, lost: Upheaval) -> Changes:
    vanished = Share(lost.vanished, lost.vanished_size)
    rewritten = Share(lost.rewritten, lost.rewritten_size)
    # An older version did not remember how much lived: what lives now, and what was lost, is near.
    known = memory.known if memory.known.files else Share(*bench.catalogue.upheavals.living()) + vanished + rewritten
    return Changes(known, vanished, rewritten)


def _with_sources(
    bench: Bench, tree: VirtualTree, memory: BrakeMemory, thresholds: BrakeThresholds | None = None
) -> Braking:
    sources = decide(Changes(), source_facts(bench, tree, memory), thresholds)
    return Braking((*memory.causes, *sources.causes), memory.unconfirmed and not sources.on)


def source_facts(bench: Bench, tree: VirtualTree, memory: BrakeMemory) -> list[SourceFacts]:
    """What the sources look like now; those that are locked or hidden on purpose are left out."""
    facts = []
    for source in bench.catalogue.sources.all():
        context = tree.context(source.virtual_path)
        if context.locked or context.hidden:
            continue
        known = bench.catalogue.files.has_entries_below(source.virtual_path)
        state = SourceState.GOOD
        try:
            if bench.tree.inspect(RealPath(source.real_path)).empty:
                state = SourceState.EMPTY if known else SourceState.GOOD
            elif distrust_source(bench, source.virtual_path, source.real_path):
                state = SourceState.REPLACED
        except SourceTrouble:
            if known:
                state = SourceState.UNREADABLE if os.path.lexists(source.real_path) else SourceState.MISSING
        facts.append(SourceFacts(source.real_path, state, os.fsdecode(source.real_path) in memory.released_sources))
    return facts


def _scrambled(
    bench: Bench,
    disk: BackupDisk,
    store: DiskStore,
    tree: VirtualTree,
    memory: BrakeMemory,
    thresholds: BrakeThresholds,
) -> Changes:
    """What was rewritten since the disk was here, or since somebody let go, and how much of it looks encrypted now.

    Only a disk that holds the former contents can tell, so a scan that passes does not make this forgotten.
    """
    if disk.last_session_at is None:
        return Changes()
    moment = max(disk.last_session_at, memory.released_at)
    rewritten = bench.catalogue.upheavals.since(moment).rewritten
    if rewritten < thresholds.scrambled_files:
        return Changes(rewritten_since_disk=rewritten)
    samples = bench.catalogue.upheavals.rewritten_since(moment, _SAMPLES)
    compared = [pair for file in samples if (pair := _sample(bench, disk, store, tree, file))]
    turned = sum(looks_random(now) and not looks_random(then) for then, now in compared)
    return Changes(rewritten_since_disk=rewritten, scrambled=rewritten * turned // len(compared) if compared else 0)


def _sample(
    bench: Bench, disk: BackupDisk, store: DiskStore, tree: VirtualTree, file: SourceFile
) -> tuple[bytes, bytes] | None:
    """The beginning of a file as it was, from its copy on the disk, and as it is; None if one of them cannot be had."""
    if disk.id not in bench.catalogue.objects.holders([file.object_id])[file.object_id]:
        return None
    real = tree.real_path(file.path)
    if real is None:
        return None
    digest, _ = bench.catalogue.objects.digests([file.object_id])[file.object_id]
    try:
        then = store.open_object(digest)
    except (OSError, DiskTrouble):
        return None
    try:
        now = bench.tree.open_file(real, file.size, file.mtime_ns, file.inode)
    except SourceTrouble:
        os.close(then)
        return None
    try:
        return os.read(then, _SAMPLE_BYTES), os.read(now, _SAMPLE_BYTES)
    except OSError:
        return None
    finally:
        os.close(then)
        bench.tree.close_file(now)
