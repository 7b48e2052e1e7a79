"""How good the planner's plans are, and what they cost. Run from the repository's root:

    .venv/bin/python -m tests.benchmarks.planner rounds --objects 200000 --disks 0.4,0.4,0.4,0.4,0.4,0.4 --rounds 3
    .venv/bin/python -m tests.benchmarks.planner scale --objects 10000000
    .venv/bin/python -m tests.benchmarks.planner losses
    .venv/bin/python -m tests.benchmarks.planner bound --disks 0.9,0.5,0.3,0.3,0.2,0.2

``rounds`` prints the rows of ``dsb simulate --json`` and the best that the disks' sizes allow. ``scale`` plans one disk of
0.4 of the data: an empty one first, then one of six that hold two or three copies of everything, when 2% more came.
Seconds are of CPU time, memory is the peak of the process.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from array import array
from collections.abc import Iterator
from itertools import combinations
from random import Random
from resource import RUSAGE_SELF, getrusage

from distbackupd.model.disks import footprint
from distbackupd.model.plans import DiskFacts, ObjectFacts, Policy, imagined_disk
from distbackupd.planning.cycle import plan_cycle
from distbackupd.planning.losses import Losses
from distbackupd.planning.simulation import Simulation, share_of, synthetic_sizes
from tests.benchmarks.bound import least_worst_loss

DISTBACKUP_SECONDS = {50_000: 7.7, 100_000: 18.7, 200_000: 49.9}
"""CPU seconds of distbackup 1.0.20's planner for one round over six disks of 0.4 of the data, by objects."""


def main() -> None:
    arguments = _arguments()
    {"rounds": rounds, "scale": scale, "losses": losses, "bound": bound}[arguments.what](arguments)


def rounds(arguments: Namespace) -> None:
    """Rows of a simulation, as both planners print them."""
    simulation = Simulation(Policy(rebalance=arguments.rebalance), 10**9, Random(arguments.seed))
    simulation.add_sizes(synthetic_sizes(arguments.objects, Random(arguments.seed)))
    total = simulation.total
    for number, share in enumerate(arguments.disks, start=1):
        simulation.add_disk(imagined_disk(number, share_of(total, share)))
    for number in range(arguments.rounds):
        began = time.process_time()
        if number:
            simulation.grow(arguments.growth)
        simulation.run_round()
        row = simulation.state().row(time.process_time() - began)
        print(json.dumps(row))
        theirs = DISTBACKUP_SECONDS.get(arguments.objects)
        if not number and theirs and arguments.disks == [0.4] * 6:
            print(f"distbackup needs {theirs} s for this round: {theirs / row['planner_cpu_s']:.0f} times as long")
    bound(arguments)


def bound(arguments: Namespace) -> None:
    """The best that the sizes allow, before any growth."""
    for dead in (1, 2, 3):
        if dead < len(arguments.disks):
            print(
                f"no plan loses less than {least_worst_loss(arguments.disks, dead):.3f} with the worst {dead} of these disks"
            )


def scale(arguments: Namespace) -> None:
    """One disk, many objects."""
    count = arguments.objects
    sizes = array("q", synthetic_sizes(count, Random(arguments.seed)))
    disk = imagined_disk(1, int(0.4 * sum(map(footprint, sizes))))
    print(f"{count:,} objects; {_mebibytes()} MiB before")
    _timed("an empty disk", ((number, size, 0) for number, size in enumerate(sizes)), [frozenset()], disk)
    # Two copies of 60% and three of 40%, spread evenly over all pairs and triples; every fiftieth object is new.
    sets = [frozenset[int](), *(frozenset(pair) for pair in combinations(range(1, 7), 2))]
    triples = [frozenset(triple) for triple in combinations(range(1, 7), 3)]

    def spread() -> Iterator[tuple[int, int, int]]:
        pairs = len(sets)
        for number, size in enumerate(sizes):
            lot = number * 2654435761 % 2**32
            if number % 50 == 0:
                yield number, size, 0
            elif lot % 5 < 3:
                yield number, size, 1 + lot // 5 % (pairs - 1)
            else:
                yield number, size, pairs + lot // 5 % len(triples)

    _timed("a full disk and 2% new", spread(), [*sets, *triples], disk)


def _timed(what: str, objects: Iterator[tuple[int, int, int]], sets: list[frozenset[int]], disk: DiskFacts) -> None:
    shelf = [imagined_disk(number, disk.capacity) for number in range(1, 7)]
    facts = (ObjectFacts(number, size, holders, 1, 0, 0, 0) for number, size, holders in objects)
    began = time.process_time()
    plan = plan_cycle(facts, dict(enumerate(sets)), disk, Policy(), 10**9, Random(1), shelf)
    seconds = time.process_time() - began
    evictions = len(plan.all_evictions())
    print(f"{what}: {seconds:.1f} s, {len(plan.copies):,} copies, {evictions:,} evictions, peak {_mebibytes()} MiB")


def losses(arguments: Namespace) -> None:
    """What ``dsb info`` computes for 60 disks, from as many holder sets as there may be."""
    rng = Random(arguments.seed)
    disks = range(60)
    sets = [frozenset(chosen) for size in (1, 2, 3) for chosen in combinations(disks, size)]
    sizes = {holders: rng.randrange(2**40) for holders in sets}
    began = time.process_time()
    table = Losses(sizes, disks)
    table.of_one(), table.of_two()
    small = time.process_time() - began
    table.summary()
    print(f"{len(sets):,} holder sets: {small:.2f} s for all pairs, {time.process_time() - began:.2f} s with all triples")


def _mebibytes() -> int:
    return getrusage(RUSAGE_SELF).ru_maxrss // 1024


def _arguments() -> Namespace:
    parser = ArgumentParser(description=sys.modules[__name__].__doc__)
    parser.add_argument("what", choices=["rounds", "scale", "losses", "bound"])
    parser.add_argument("--objects", type=int, default=50_000)
    parser.add_argument("--disks", type=lambda text: [float(share) for share in text.split(",")], default=[0.4] * 6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--growth", type=float, default=0.0)
    parser.add_argument("--rebalance", type=float, default=0.1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
