"""The brake: gathers the facts that :mod:`distbackupd.planning.brake` decides on, and remembers what was decided.

What changed too much keeps the brake on, for every disk, until somebody lets go. A source that is not there holds it
only as long as that lasts. A source's device alone is no cause: the numbers of devices change with each boot and plug,
and a source from which a mount is missing is empty, or has lost files.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import Any

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import DiskStore
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DiskTrouble, SourceTrouble
from distbackupd.model.events import Braked, BrakeReleased
from distbackupd.model.files import SourceFile
from distbackupd.planning.brake import BrakeThresholds, Braking, Changes, SourceFacts, SourceState, decide, looks_random

_FACT = "brake"
_SAMPLES = 100
"""So many rewritten files are compared with their former content."""
_SAMPLE_BYTES = 65536


@dataclass(frozen=True, slots=True)
class BrakeMemory:
    """What is remembered between sessions. ``causes`` keep the brake on since ``since``; empty: it is off.

    ``released_at``: what changed before that somebody has seen and let go. ``released_sources``: real paths of sources
    that may look as they do. Unix seconds, 0 for never.
    """

    causes: tuple[str, ...] = ()
    since: int = 0
    released_at: int = 0
    released_sources: tuple[str, ...] = ()


def recall(bench: Bench) -> BrakeMemory:
    """What is remembered."""
    kept: dict[str, Any] = json.loads(bench.catalogue.sessions.recall(_FACT) or "{}")
    return BrakeMemory(
        causes=tuple(kept.get("causes", ())),
        since=kept.get("since", 0),
        released_at=kept.get("released_at", 0),
        released_sources=tuple(kept.get("released_sources", ())),
    )


def brake_before(
    bench: Bench, disk: BackupDisk, store: DiskStore, tree: VirtualTree, thresholds: BrakeThresholds
) -> Braking:
    """Whether this session of the disk must not delete anything; told, and kept if changes are the cause."""
    memory = recall(bench)
    braking = decide(_changes(bench, disk, store, tree, memory, thresholds), [], thresholds)
    if braking.on and not memory.causes:
        memory = replace(memory, causes=braking.causes, since=bench.clock.now())
        _remember(bench, memory)
    whole = Braking((*memory.causes, *decide(Changes(), source_facts(bench, tree, memory), thresholds).causes))
    if whole.on:
        bench.reporter.tell(Braked(disk.name, disk.uuid, whole.sentence))
    return whole


def standing_brake(bench: Bench) -> Braking:
    """What keeps the brake on now, without looking at any disk."""
    tree = VirtualTree(bench.catalogue.sources.all(), bench.catalogue.sources.settings())
    memory = recall(bench)
    return Braking((*memory.causes, *decide(Changes(), source_facts(bench, tree, memory)).causes))


def release(bench: Bench) -> Braking:
    """Let go: what changed until now, and what sources look like now, is as it should be. What kept the brake on."""
    tree = VirtualTree(bench.catalogue.sources.all(), bench.catalogue.sources.settings())
    before = standing_brake(bench)
    wrong = [facts.path for facts in source_facts(bench, tree, BrakeMemory()) if facts.state is not SourceState.GOOD]
    _remember(
        bench,
        BrakeMemory(released_at=bench.clock.now(), released_sources=tuple(os.fsdecode(path) for path in wrong)),
    )
    if before.on:
        bench.reporter.tell(BrakeReleased())
    return before


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
            if bench.tree.inspect(source.real_path).empty and known:
                state = SourceState.EMPTY
        except SourceTrouble:
            if known:
                state = SourceState.UNREADABLE if os.path.lexists(source.real_path) else SourceState.MISSING
        facts.append(SourceFacts(source.real_path, state, os.fsdecode(source.real_path) in memory.released_sources))
    return facts


def _changes(
    bench: Bench,
    disk: BackupDisk,
    store: DiskStore,
    tree: VirtualTree,
    memory: BrakeMemory,
    thresholds: BrakeThresholds,
) -> Changes:
    """What happened since the disk was here; nothing that could concern a disk that never was."""
    if disk.last_session_at is None:
        return Changes()
    # What is lost in the very second of the session before may have come after it, and counts; what somebody has let go
    # does not.
    moment = max(disk.last_session_at, memory.released_at + 1)
    upheaval = bench.catalogue.files.upheaval_since(moment)
    scrambled = 0
    if upheaval.rewritten >= thresholds.scrambled_files:
        samples = bench.catalogue.files.rewritten_since(moment, _SAMPLES)
        compared = [pair for file in samples if (pair := _sample(bench, disk, store, tree, file))]
        turned = sum(looks_random(now) and not looks_random(then) for then, now in compared)
        scrambled = upheaval.rewritten * turned // len(compared) if compared else 0
    return Changes(upheaval.lived, upheaval.vanished, upheaval.rewritten, scrambled)


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


def _remember(bench: Bench, memory: BrakeMemory) -> None:
    bench.catalogue.sessions.remember(_FACT, json.dumps(asdict(memory)))
