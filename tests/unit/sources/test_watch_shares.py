"""Whoever makes a million folders takes no watches from others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from distbackupd.model.events import WatchLimited
from distbackupd.sources import watcher
from distbackupd.sources.watch_shares import budget, may_watch


@given(
    wants=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    most=st.integers(0, 100),
    order=st.randoms(use_true_random=False),
)
def test_may_watch_gives_each_source_its_share_whatever_others_want(wants: list[int], most: int, order) -> None:
    used = [0] * len(wants)
    asked = [number for number, want in enumerate(wants) for _ in range(want)]
    order.shuffle(asked)
    for number in asked:
        others = [count for other, count in enumerate(used) if other != number and count]
        if may_watch(used[number], others, len(wants), most):
            used[number] += 1
    share = most // len(wants)
    assert all(count >= min(want, share) for count, want in zip(used, wants, strict=True))
    # The top folder of each source is watched in any case, also where there are fewer watches than sources.
    assert sum(used) <= (most if share else most + len(wants))


def test_budget_leaves_a_quarter_to_others() -> None:
    assert budget(1000) == 750
    assert budget(-1) is None


def test_watcher_source_of_many_folders_leaves_others_theirs(tmp_path: Path, monkeypatch: Any) -> None:
    for number in range(60):
        (tmp_path / "hog" / str(number)).mkdir(parents=True)
    for number in range(10):
        (tmp_path / "other" / str(number)).mkdir(parents=True)
    monkeypatch.setattr(watcher, "_watch_limit", lambda: 40)
    told: list[WatchLimited] = []
    watching = watcher.Watcher(lambda _event: None, 0.1, told.append)
    try:
        watching.set_roots([tmp_path / "hog", tmp_path / "other"])
        roots = {root: known.watched.watches for root, known in watching._roots.items()}
        assert {root.rpartition(b"/")[2]: watches for root, watches in roots.items()} == {b"hog": 15, b"other": 11}
        assert [(event.watched, event.folders) for event in told] == [(26, 72)]
    finally:
        watching.stop()
