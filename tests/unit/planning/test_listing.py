from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from distbackupd.planning.listing import FOLDERS, LISTED_SHARE, LeftFolder, folders_left, folders_to_list, runs

folders = st.integers(0, FOLDERS - 1)
times = st.dictionaries(folders, st.integers(1, 5))
lefts = st.dictionaries(folders, st.builds(LeftFolder, st.integers(0, 5), st.integers(0, 9)))


@settings(deadline=None)
@given(times, lefts, st.integers(0, 100))
def test_folders_to_list_has_all_that_changed_and_a_share_of_the_others(
    now: dict[int, int], left: dict[int, LeftFolder], share: int
) -> None:
    folders, due = folders_to_list(now, left, share)
    assert sorted(folders) == list(range(FOLDERS))
    changed = {folder for folder in range(FOLDERS) if now.get(folder, 0) != left.get(folder, LeftFolder(0, 0)).mtime_ns}
    assert due == min(FOLDERS, len(changed) + share)
    assert set(folders[: len(changed)]) == changed


@settings(deadline=None)
@given(times, lefts, st.frozensets(folders))
def test_folders_left_one_that_is_gone_or_changed_later_is_listed_next_time(
    now: dict[int, int], left: dict[int, LeftFolder], listed: frozenset[int]
) -> None:
    after = left | folders_left(now, left, listed, 100)
    gone = {folder for folder, before in left.items() if before.mtime_ns and folder not in now}
    folders, due = folders_to_list(now, after, 0)
    assert set(folders[:due]) == gone
    for folder in listed:
        assert after[folder].listed_at == 100
    assert folders_left(now, after, listed, 100) == {}


@given(st.lists(folders), st.integers(1, 20))
def test_runs_have_the_same_folders_in_the_same_order(some: list[int], longest: int) -> None:
    found = list(runs(some, longest))
    assert [folder for run in found for folder in run] == some
    assert all(1 <= len(run) <= longest for run in found)
    assert [len(run) for run in runs(range(FOLDERS), 16)] == [16] * 256


def test_folders_to_list_comes_to_each_folder_in_turn() -> None:
    now = dict.fromkeys(range(0, FOLDERS, 2), 7)
    left = folders_left(now, {}, frozenset(), 0)
    seen: set[int] = set()
    for session in range(1, FOLDERS // LISTED_SHARE + 1):
        folders, due = folders_to_list(now, left)
        assert due == LISTED_SHARE
        chosen = folders[:due]
        assert not seen & set(chosen)
        seen |= set(chosen)
        left |= folders_left(now, left, frozenset(chosen), session)
    assert len(seen) == FOLDERS
