from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Mapping

import pytest

from distbackupd.daemon.watching import Watching, say_unwatched


class FakeWatcher:
    def __init__(self) -> None:
        self.roots: list[bytes] = []
        self.calls: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()
        self.hold = threading.Event()
        self.hold.set()
        self.broken = False
        self.missing: set[bytes] = set()

    def set_roots(self, paths: Iterable[bytes | str]) -> None:
        roots = [path for path in paths if isinstance(path, bytes)]
        self.calls.put(roots)
        self.hold.wait(20)
        if self.broken:
            raise ZeroDivisionError
        self.roots = [root for root in roots if root not in self.missing]

    def watched_roots(self) -> list[bytes]:
        return self.roots

    def unwatched(self) -> Mapping[bytes, str]:
        return dict.fromkeys(self.missing, "it is not there")


def test_want_hands_over_and_returns_at_once() -> None:
    watcher, shown = FakeWatcher(), queue.SimpleQueue[str]()
    watcher.hold.clear()
    watching = Watching(watcher, shown.put)
    watching.want([b"/a", b"/b"])
    assert watcher.calls.get(timeout=20) == [b"/a", b"/b"]
    assert shown.get(timeout=20) == "setting up watches in 2 sources"
    assert not watching.stop(0.01)
    assert shown.empty()
    watcher.hold.set()
    assert shown.get(timeout=20) == ""
    assert watching.stop(20)
    assert watching.stop(20)


def test_want_often_only_the_newest_is_built() -> None:
    watcher = FakeWatcher()
    watcher.hold.clear()
    watching = Watching(watcher, lambda _text: None)
    watching.want([b"/a"])
    watcher.calls.get(timeout=20)
    for roots in ([b"/b"], [b"/c"], [b"/d"]):
        watching.want(roots)
    watcher.hold.set()
    assert watcher.calls.get(timeout=20) == [b"/d"]
    assert watching.stop(20)
    assert watcher.calls.empty()


@pytest.mark.timeout(60)
def test_want_after_a_bug_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    watcher = FakeWatcher()
    watcher.broken = True
    watching = Watching(watcher, lambda _text: None)
    watching.want([b"/a"])
    watcher.calls.get(timeout=20)
    watching.want([b"/b"])
    assert watcher.calls.get(timeout=20) == [b"/b"]
    assert watching.stop(20)
    assert "a bug in distbackupd" in caplog.text


def test_want_sources_that_are_not_there_show_nothing_new_when_wanted_again() -> None:
    watcher, shown = FakeWatcher(), queue.SimpleQueue[str]()
    watcher.missing = {b"/a", b"/b"}
    watching = Watching(watcher, shown.put)
    watching.want([b"/a", b"/b"])
    watcher.calls.get(timeout=20)
    assert [shown.get(timeout=20), shown.get(timeout=20)] == ["setting up watches in 2 sources", ""]
    for _ in range(3):
        watching.want([b"/a", b"/b"])
        watcher.calls.get(timeout=20)
    assert shown.empty()
    watcher.missing = {b"/a"}
    watching.want([b"/a", b"/b"])
    assert shown.get(timeout=20) == ""
    assert watching.stop(20)
    assert shown.empty()


def test_say_unwatched_tells_what_is_away_from_what_cannot_be_watched() -> None:
    assert say_unwatched([], "gone") == ""
    assert say_unwatched(["gone"], "gone") == "1 source is not there"
    assert say_unwatched(["gone", "gone", "full"], "gone") == (
        "2 sources are not there, changes in 1 source are found by the scheduled scan only"
    )
