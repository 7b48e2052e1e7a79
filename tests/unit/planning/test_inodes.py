"""How many objects find inodes: enough of them stay for the folders that come along."""

from __future__ import annotations

from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from distbackupd.planning.inodes import FOLDERS, new_folders, objects_within

counts = st.one_of(st.integers(0, 300), st.integers(0, 20_000_000))


@given(counts, st.integers(0, FOLDERS))
def test_objects_within_takes_no_more_than_there_are_and_leaves_no_room_for_two_more(files: int, folders: int) -> None:
    objects = objects_within(files, folders)
    assert 0 <= objects + new_folders(objects, folders) <= files
    assert objects + 1 + new_folders(objects + 1, folders) > files


@given(counts, st.integers(0, FOLDERS))
def test_new_folders_are_no_more_than_objects_or_than_are_missing(objects: int, folders: int) -> None:
    assert 0 <= new_folders(objects, folders) <= min(objects, FOLDERS - folders)


@pytest.mark.parametrize(("objects", "folders"), [(5, 0), (280, 0), (4096, 0), (2000, 3000), (100_000, 0)])
def test_new_folders_are_enough_for_random_digests(objects: int, folders: int) -> None:
    enough = new_folders(objects, folders)
    for seed in range(30):
        rng = Random(seed)
        needed = len({rng.randrange(FOLDERS) for _ in range(objects)} - set(range(folders)))
        assert needed <= enough <= needed + 200


def test_objects_within_nothing_is_nothing() -> None:
    assert objects_within(0, 0) == objects_within(-5, 0) == 0
    assert objects_within(1000, FOLDERS) == 1000
