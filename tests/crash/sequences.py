"""What a run cuts: whole lives, and sequences of operations by ACE's way (CrashMonkey): all of up to three."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

WORDS = ("new1", "new2", "del1", "edit2", "scan", "verify1", "refresh2", "drop2")
LIFE_STEPS = 16
LONGEST = 3
_LEAST_IN_LIFE, _LEAST_IN_SEQUENCE = 8, 6


@dataclass(frozen=True)
class Task:
    """One worker's piece: a life, or all ``sequences`` that begin alike (each is cut in its last operation), on a file
    system; ``cuts`` for each step that is cut.
    """

    filesystem: str
    sequences: tuple[tuple[str, ...], ...]
    cuts: int

    @property
    def is_life(self) -> bool:
        """Whether it is a whole life."""
        return not self.sequences


def all_sequences() -> list[tuple[str, ...]]:
    """Of up to three words, each word after any."""
    return [sequence for length in range(1, LONGEST + 1) for sequence in itertools.product(WORDS, repeat=length)]


def plan(count: int, filesystems: Sequence[str], dice: random.Random) -> list[Task]:
    """Tasks with at least ``count`` cuts in all; half of them in lives. With few cuts some file systems get no life, and
    some sequences are left out; with 10,000 none is.
    """
    lives = max(1, min(len(filesystems), count // 2 // (LIFE_STEPS * _LEAST_IN_LIFE)))
    in_life = math.ceil(count / 2 / lives / LIFE_STEPS)
    tasks = [Task(name, (), in_life) for name in filesystems[:lives]]
    sequences = all_sequences()
    wanted = min(len(sequences), math.ceil(count / 2 / _LEAST_IN_SEQUENCE))
    each = math.ceil(count / 2 / wanted)
    longest = max(3, wanted // len(filesystems))
    families: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for sequence in sequences:
        families.setdefault((*sequence[:2], *WORDS[:1])[:2] if len(sequence) == 1 else sequence[:2], []).append(sequence)
    groups = list(families.values())
    dice.shuffle(groups)
    # Those without a life come first.
    turn = itertools.cycle([*filesystems[lives:], *filesystems[:lives]])
    for family in groups:
        if wanted <= 0:
            break
        part = sorted(family, key=len)[: min(wanted, longest)]
        tasks.append(Task(next(turn), tuple(part), each))
        wanted -= len(part)
    return tasks
