from __future__ import annotations

import random

import pytest

from tests.crash.life import whole_life, words
from tests.crash.sequences import LIFE_STEPS, WORDS, all_sequences, plan

KINDS = ("ext4", "xfs", "btrfs", "exFAT", "NTFS")


def test_all_sequences_are_all_of_up_to_three() -> None:
    found = all_sequences()
    assert len(found) == len(set(found)) == 8 + 64 + 512
    assert {word for sequence in found for word in sequence} == set(WORDS)


@pytest.mark.parametrize("count", [20, 300, 1_000, 10_000, 100_000])
@pytest.mark.parametrize("kinds", [KINDS[:1], KINDS])
def test_plan_has_so_many_cuts_and_not_many_more(count: int, kinds: tuple[str, ...]) -> None:
    tasks = plan(count, kinds, random.Random(1))
    cuts = sum(task.cuts * (LIFE_STEPS if task.is_life else len(task.sequences)) for task in tasks)
    assert count <= cuts <= count * 1.1 + 2 * LIFE_STEPS + 100
    if count >= 300:
        assert {task.filesystem for task in tasks} == set(kinds)


def test_plan_of_ten_thousand_leaves_nothing_out() -> None:
    tasks = plan(10_000, KINDS, random.Random(1))
    assert [task.filesystem for task in tasks if task.is_life] == list(KINDS)
    assert sorted(sequence for task in tasks for sequence in task.sequences) == sorted(all_sequences())


def test_a_life_has_the_steps_that_are_planned(tmp_path) -> None:
    class Places:
        folder = source = str(tmp_path)

        def root(self, device: str) -> str:
            return f"{self.folder}/{device}"

    assert len(whole_life(Places())) == LIFE_STEPS
    assert tuple(step.name for step in words(Places())) == WORDS
