"""``dsb backup`` and ``dsb eject``"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

from distbackupd.cli.output import say, say_json, say_json_list, say_lines
from distbackupd.cli.reports import print_overview
from distbackupd.cli.session import CommandSession
from distbackupd.engine.braking import standing_brake
from distbackupd.engine.cycle import as_plugged, plan_session
from distbackupd.engine.door import locate, opened, volumes_of
from distbackupd.engine.overview import overview
from distbackupd.engine.release import eject, say_farewell
from distbackupd.engine.room import shortage_on, with_room
from distbackupd.engine.scan import ScanOptions, scan
from distbackupd.engine.session import run_session
from distbackupd.model.errors import UsageError
from distbackupd.model.plans import BackupWish, Copy, Plan, Policy, Step
from distbackupd.model.text import parse_size, printable, say_count, say_size
from distbackupd.wiring import brake_thresholds, session_options, wish_policy

_LINES_AT_ONCE = 500


def backup(session: CommandSession) -> int:
    """``dsb backup NAME|UUID|PATH``"""
    arguments = session.arguments
    policy = wish_policy(session.settings, backup_wish(arguments))
    session.find_disk(arguments.disk)
    skipped = 0
    if arguments.update:
        brake = brake_thresholds(session.settings)
        options = ScanOptions(ignore_lock=arguments.ignore_lock, simulate=session.simulate, brake=brake)
        finished = scan(session.bench, options, session.stop)
        skipped = finished.skipped + finished.locked
    if session.simulate or arguments.simulate:
        return _simulate(session, policy)
    with session.disk_here(arguments.disk) as held:
        disk, mount = held.disk, held.mount
        before, generation = overview(session.bench), session.bench.catalogue.generation()
        if not session.json:
            print_overview(before, title="Pre-backup state:")
        done = run_session(session.bench, held, session_options(session.settings, policy), session.stop)
    if mount.ours:
        volume = volumes_of(session.bench, disk)[0]
        say_farewell(session.bench, volume, mount, [disk], session.settings.power_off, waiting=[])
    if session.json:
        say_json(asdict(done))
    else:
        unchanged = session.bench.catalogue.generation() == generation
        print_overview(before if unchanged else overview(session.bench), title="Post-backup state:")
        say(f"destination {disk.name} updated.")
    return 3 if done.skipped or skipped else 0


def backup_wish(arguments: argparse.Namespace) -> BackupWish:
    """What the options of ``dsb backup`` say. Raises UsageError."""
    if arguments.maxcopies is not None and arguments.maxcopies < 1:
        raise UsageError(f"--maxcopies {arguments.maxcopies} is no number of copies; 1 or more is meant")
    return BackupWish(
        copy_limit=None if arguments.limit is None else parse_size(arguments.limit),
        copies_limit=arguments.maxcopies,
        evict=not arguments.noflush,
        update=arguments.update,
        ignore_lock=arguments.ignore_lock,
    )


def _simulate(session: CommandSession, policy: Policy) -> int:
    disk = session.find_disk(session.arguments.disk)
    if locate(session.bench, disk):
        with opened(session.bench, disk) as held:
            disk = with_room(session.bench, as_plugged(disk, held.store), held.store)
            policy = replace(policy, shortage=shortage_on(session.bench, held.store))
    plan = plan_session(session.bench, disk, replace(policy, brake=standing_brake(session.bench).on))
    if session.json:
        say_json_list(step._asdict() for step in _described_steps(session, plan))
        return 0
    say_lines(
        f"{step.action} {printable(step.path)} ({say_size(step.size)}) ({','.join(step.disks)}): {step.reason}"
        for step in _described_steps(session, plan)
    )
    evictions = plan.all_evictions()
    say(
        f"{disk.name}: would copy {say_count(len(plan.copies), 'object')} ({say_size(plan.copy_bytes)}) and delete "
        f"{say_count(len(evictions), 'object')} ({say_size(sum(step.size for step in evictions))}); nothing was changed"
    )
    if plan.unplaced_objects:
        say(f"no room there for {say_count(plan.unplaced_objects, 'object')} ({say_size(plan.unplaced_bytes)})")
    return 0


class _DescribedStep(NamedTuple):
    """A step as it is printed; ``path``: one that has its content; ``disks``: who holds it now."""

    action: str
    hash: str
    path: bytes
    size: int
    disks: list[str]
    reason: str


def _described_steps(session: CommandSession, plan: Plan) -> Iterator[_DescribedStep]:
    """Every step in order."""
    names = {disk.id: disk.name for disk in session.bench.catalogue.disks.all()}
    steps: list[Step] = [*plan.evictions]
    for copy in plan.copies:
        steps.extend(copy.victims)
        steps.append(copy)
    for start in range(0, len(steps), _LINES_AT_ONCE):
        yield from _described(session, steps[start : start + _LINES_AT_ONCE], names)


def _described(session: CommandSession, steps: Sequence[Step], names: dict[int, str]) -> Iterator[_DescribedStep]:
    identifiers = [step.object_id for step in steps]
    digests = session.bench.catalogue.objects.digests(identifiers)
    holders = session.bench.catalogue.objects.holders(identifiers)
    for step in steps:
        yield _DescribedStep(
            action="copy" if isinstance(step, Copy) else "delete",
            hash=digests[step.object_id][0].hex(),
            path=session.bench.catalogue.files.path_of_object(step.object_id),
            size=step.size,
            disks=sorted(names[holder] for holder in holders[step.object_id]),
            reason=step.reason.value,
        )


def eject_disk(session: CommandSession) -> int:
    """``dsb eject DISK``"""
    disk = session.find_disk(session.arguments.disk)
    if session.simulate:
        say(f"Would eject {disk.name}")
        return 0
    eject(session.bench, disk, session.settings.power_off)
    return 0
