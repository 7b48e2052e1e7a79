from __future__ import annotations

import queue
import threading
from collections.abc import Iterable

import pytest

from distbackupd.daemon.watching import Watching


class FakeWatcher:
    def __init__(self) -> None:
        self.roots: list[bytes] = []
        self.calls: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()
        self.hold = threading.Event()
        self.hold.set()
        self.broken = False

    def set_roots(self, paths: Iterable[bytes | str]) -> None:
        roots = [path for path in paths if isinstance(path, bytes)]
        self.calls.put(roots)
        self.hold.wait(20)
        if self.broken:
            raise ZeroDivisionError
        self.roots = roots

    def watched_roots(self) -> list[bytes]:
        return self.roots


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
