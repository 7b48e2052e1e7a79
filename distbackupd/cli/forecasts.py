"""``dsb brake`` and ``dsb simulate``: what is held back, and what would happen."""

from __future__ import annotations

import time
from dataclasses import replace
from random import Random
from typing import Any

from distbackupd.cli.output import say, say_json, say_table
from distbackupd.cli.session import CommandSession
from distbackupd.engine.brake_memory import recall
from distbackupd.engine.braking import release, standing_brake
from distbackupd.engine.cycle import disk_facts
from distbackupd.engine.overview import overview
from distbackupd.model.errors import UsageError
from distbackupd.model.plans import BackupWish, imagined_disk
from distbackupd.model.text import join_words, parse_size, printable, say_ago, say_size
from distbackupd.planning.losses import Losses
from distbackupd.planning.simulation import Simulation, share_of, synthetic_sizes
from distbackupd.wiring import wish_policy


def show_brake(session: CommandSession) -> int:
    """``dsb brake [status]``"""
    braking, memory = standing_brake(session.bench), recall(session.bench)
    if session.json:
        say_json(
            {
                "on": braking.on,
                "causes": list(braking.causes),
                "since": memory.since or None,
                "unconfirmed": braking.unconfirmed,
            }
        )
    elif braking.on:
        since = f" (for {say_ago(time.time() - memory.since).removesuffix(' ago')})" if memory.since else ""
        say(f"{braking.sentence[:1].upper()}{braking.sentence[1:]}{since}")
    else:
        say("The brake is off: what is dead is deleted on disks when its grace is over.")
    return 0


def release_brake(session: CommandSession) -> int:
    """``dsb brake release``"""
    if session.simulate:
        say(f"Would release the brake: {standing_brake(session.bench).sentence or 'it is off'}")
        return 0
    if not release(session.bench).on:
        say("The brake was off already.")
    return 0


def simulate(session: CommandSession) -> int:
    """``dsb simulate [--disks SIZES] [--add SIZES] [--lose NAME] [--rounds N] [--growth SHARE] [--synthetic N:SEED]``"""
    arguments = session.arguments
    if not (arguments.disks or arguments.add or arguments.lose or arguments.synthetic or arguments.rounds):
        return _show_losses(session)
    if arguments.synthetic and not arguments.disks:
        raise UsageError("made-up objects lie on made-up disks: give --disks too, such as --disks 0.4,0.4,0.4")
    simulation, names = _shelf(session)
    rows = []
    for number in range(1, (arguments.rounds or 1) + 1):
        if number > 1 and arguments.growth:
            simulation.grow(arguments.growth)
        began = time.process_time()
        simulation.run_round()
        row = simulation.state().row(time.process_time() - began)
        rows.append(row)
        if not session.json:
            _say_round(row, simulation.state().loss, names)
        if session.stop.is_set():
            break
    if session.json:
        say_json(rows)
    return 0


def _shelf(session: CommandSession) -> tuple[Simulation, dict[int, str]]:
    """The archive and the disks that the options mean, and the disks' names. Raises UsageError."""
    arguments = session.arguments
    known = session.bench.catalogue.disks.all()
    count, seed = arguments.synthetic or (0, 0)
    policy = wish_policy(session.settings, BackupWish())
    if arguments.rebalance is not None:
        policy = replace(policy, rebalance=arguments.rebalance)
    simulation = Simulation(policy, session.bench.clock.now(), Random(seed))
    if arguments.synthetic:
        simulation.add_sizes(synthetic_sizes(count, Random(seed)))
    else:
        objects = session.bench.catalogue.objects
        sets = objects.holder_sets() if not arguments.disks else {}
        facts = objects.facts() if not arguments.disks else (item._replace(holders=0) for item in objects.facts())
        simulation.add_objects(facts, sets or {0: frozenset()})
    total = simulation.total
    names: dict[int, str] = {}
    if not arguments.disks:
        for disk in known:
            simulation.add_disk(disk_facts(disk))
            names[disk.id] = disk.name
    for text in [*_sizes(arguments.disks), *_sizes(arguments.add)]:
        number = max(names, default=0) + 1
        names[number] = f"disk{len(names)}" if arguments.disks else f"new-{number}"
        simulation.add_disk(imagined_disk(number, _capacity(text, total)))
    for name in arguments.lose or ():
        lost = next((number for number, known_name in names.items() if known_name == name), None)
        if lost is None:
            there = join_words(sorted(names.values()))
            raise UsageError(f"there is no disk '{printable(name)}' to be lost; there is {there}")
        simulation.lose_disk(lost)
    if not simulation.disks:
        raise UsageError("there is no disk to simulate with: give --disks, such as --disks 8T,8T,4T")
    return simulation, names


def _sizes(texts: list[str] | None) -> list[str]:
    return [text for given in texts or () for text in given.split(",") if text.strip()]


def _capacity(text: str, total: int) -> int:
    """Bytes from ``8T``, or from a share of all data such as ``0.4``."""
    try:
        share = float(text)
    except ValueError:
        return parse_size(text)
    return share_of(total, share) if 0 <= share < 100 else parse_size(text)


def _say_round(row: dict[str, Any], losses: Any, names: dict[int, str]) -> None:
    copies = ", ".join(
        f"{share:.1%} in {count} {'copy' if count == '1' else 'copies'}" for count, share in row["copies"].items()
    )
    say(f"Round {row['round']}: {copies}; so far copied {row['copied']:.3g} and deleted {row['deleted']:.3g} times the data")
    for loss in losses:
        worst = join_words([names[disk] for disk in loss.worst_disks])
        dead = "any 1 disk dies" if loss.disks == 1 else f"any {loss.disks} disks die"
        say(f"  If {dead}: {loss.mean:.1%} is lost on average, {loss.worst:.1%} at worst ({worst})")


def _show_losses(session: CommandSession) -> int:
    """From the real catalogue: what is lost with any one, two, three disks; what one more would change; which to bring."""
    state = overview(session.bench)
    losses, names = real_losses(session)
    summary = losses.summary()
    if session.json:
        say_json(
            {
                "bytes": losses.total,
                "without_copy": losses.without_copy,
                "loss": [
                    {
                        "disks": loss.disks,
                        "mean": loss.mean,
                        "worst": loss.worst,
                        "worst_disks": [names[d] for d in loss.worst_disks],
                    }
                    for loss in summary
                ],
                "wanted": state.wanted.fields | {"sentence": state.wanted.sentence} if state.wanted else None,
            }
        )
        return 0
    if not names:
        say("No disk is known yet: 'dsb disk add NAME PATH' makes one known, --disks 8T,4T imagines some.")
        return 0
    say_losses(losses, names)
    if state.wanted:
        say(f"Next: {state.wanted.sentence}.")
    if state.advice:
        say(f"Next: {state.advice}.")
    say("What one more disk would change: dsb simulate --add 8T. What a lost one would: dsb simulate --lose NAME.")
    return 0


def real_losses(session: CommandSession) -> tuple[Losses, dict[int, str]]:
    """What is lost when disks die, and the disks' names."""
    objects = session.bench.catalogue.objects
    sets = objects.holder_sets()
    disks = session.bench.catalogue.disks.all()
    sizes: dict[frozenset[int], int] = {}
    for holders, _, size, _ in objects.by_holders():
        sizes[sets[holders]] = sizes.get(sets[holders], 0) + size
    return Losses(sizes, [disk.id for disk in disks]), {disk.id: disk.name for disk in disks}


def say_losses(losses: Losses, names: dict[int, str], most: int = 3) -> None:
    """The loss table, in bytes; what has no copy is lost in any case."""
    rows = []
    for loss in losses.summary(most):
        worst = join_words([names[disk] for disk in loss.worst_disks])
        dead = "any 1 disk" if loss.disks == 1 else f"any {loss.disks} disks"
        rows.append((dead, say_size(round(loss.mean * losses.total)), say_size(round(loss.worst * losses.total)), worst))
    if rows:
        say_table(("if these die", "lost on average", "lost at worst", "with"), rows, right=(1, 2))


def say_places(session: CommandSession, losses: Losses) -> None:
    """How much exists at one place only, where places are told."""
    places: dict[str, list[int]] = {}
    for disk in session.bench.catalogue.disks.all():
        places.setdefault(disk.location, []).append(disk.id)
    for place, disks in sorted(places.items()):
        if place:
            say(f"Only at {place}: {say_size(losses.of_place(disks))}")
