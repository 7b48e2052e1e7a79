from __future__ import annotations

import ctypes
import errno
import os
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watchdog.observers.inotify import InotifyWatchGroup

from distbackupd.model.events import WatchLimited
from distbackupd.model.inbox import JobDue, SourceTouched
from distbackupd.sources.debouncing import EVERYTHING, LONGEST_WAIT, Debouncer
from distbackupd.sources.watcher import MISSING, Watcher, watched_folders
from tests.bed.waiting import wait_until

SETTLE = 0.05


# --- the debouncer -------------------------------------------------------------------------------------------------------


def test_due_before_settle_is_empty() -> None:
    debouncer = Debouncer(5)
    debouncer.add(b"/s/a", 100)
    assert debouncer.due(104.9) == []
    assert debouncer.next_due() == 105
    assert debouncer.due(105) == [b"/s/a"]
    assert debouncer.next_due() is None
    assert debouncer.due(999) == []


def test_due_growing_folder_waits_and_holds_up_no_other() -> None:
    debouncer = Debouncer(5)
    debouncer.add(b"/s/quiet", 0)
    for now in range(60):
        debouncer.add(b"/s/growing", now)
        assert b"/s/growing" not in (due := debouncer.due(now))
        assert (due == [b"/s/quiet"]) == (now == 5)
    assert debouncer.due(59 + 5) == [b"/s/growing"]


def test_due_folder_that_never_rests_is_posted_after_the_longest_wait() -> None:
    debouncer = Debouncer(5, longest=600)
    posted = []
    for now in range(1300):
        debouncer.add(b"/s/log", now)
        posted += [now for _ in debouncer.due(now)]
    assert posted == [600, 1201]


def test_add_too_many_folders_become_everything() -> None:
    debouncer = Debouncer(5, most=1000)
    for number in range(1500):
        debouncer.add(b"/s/%d" % number, number / 1000)
    assert debouncer.due(6.4) == []
    assert debouncer.due(6.5) == [EVERYTHING]
    debouncer.add(b"/s/1", 7)
    assert debouncer.due(12) == [b"/s/1"]


def test_add_everything_stands_for_what_was_and_is_touched() -> None:
    debouncer = Debouncer(5)
    debouncer.add(b"/s/a", 1)
    debouncer.add(EVERYTHING, 2)
    debouncer.add(b"/s/b", 3)
    assert debouncer.due(7.9) == []
    assert debouncer.due(8) == [EVERYTHING]
    assert not debouncer.pending()


touches = st.lists(st.tuples(st.integers(0, 9), st.floats(0, 20)), max_size=60)


@given(touches, st.floats(0, 10), st.floats(10, 40), st.integers(1, 10))
def test_debouncer_any_touches_all_are_posted_rested_and_in_time(
    steps: list[tuple[int, float]], settle: float, longest: float, most: int
) -> None:
    debouncer = Debouncer(settle, longest, most)
    first: dict[bytes, float] = {}
    last: dict[bytes, float] = {}

    def look(now: float) -> None:
        for folder in debouncer.due(now):
            covered = list(first) if folder == EVERYTHING else [folder]
            newest, oldest = max(last[path] for path in covered), min(first[path] for path in covered)
            assert now >= min(newest + settle, oldest + longest), "posted before it rested"
            for path in covered:
                del first[path], last[path]
        assert all(since + longest > now for since in first.values()), "held back too long"

    def look_until(moment: float) -> None:
        while (due := debouncer.next_due()) is not None and due <= moment:
            look(due)

    now = 0.0
    for number, pause in steps:
        now += pause
        look_until(now)
        folder = b"/s/%d" % number
        debouncer.add(folder, now)
        first.setdefault(folder, now)
        last[folder] = now
    look_until(float("inf"))
    assert not first


# --- real inotify --------------------------------------------------------------------------------------------------------


class Posted:
    """What a watcher posted, to be waited for."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.seen: list[bytes] = []

    def __call__(self, event: SourceTouched | JobDue) -> None:
        assert isinstance(event, SourceTouched) or event == JobDue("scan")
        self._queue.put(event.real_path if isinstance(event, SourceTouched) else EVERYTHING)

    def wait_for(self, *folders: Path | bytes, timeout: float = 20) -> None:
        missing = {os.fsencode(folder) for folder in folders} - set(self.seen)
        deadline = time.monotonic() + timeout
        while missing:
            folder = self._queue.get(timeout=max(0, deadline - time.monotonic()))
            self.seen.append(folder)
            missing.discard(folder)


@pytest.fixture
def posted() -> Posted:
    return Posted()


@pytest.fixture
def watcher(posted: Posted) -> Iterator[Watcher]:
    watcher = Watcher(posted, SETTLE)
    yield watcher
    watcher.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "a" / "deep").mkdir(parents=True)
    (root / "b").mkdir()
    (root / "a" / "file").write_text("old")
    return root


def _create(root: Path) -> None:
    (root / "a" / "new").write_text("new")


def _append(root: Path) -> None:
    with (root / "a" / "file").open("a") as file:
        file.write("more")


def _delete(root: Path) -> None:
    (root / "a" / "file").unlink()


def _chmod(root: Path) -> None:
    (root / "a" / "file").chmod(0o600)


def _set_xattr(root: Path) -> None:
    os.setxattr(root / "a" / "file", "user.note", b"x")


def _delete_folder(root: Path) -> None:
    (root / "a" / "deep").rmdir()


@pytest.mark.parametrize("change", [_create, _append, _delete, _chmod, _set_xattr, _delete_folder])
def test_watcher_change_posts_its_folder(
    watcher: Watcher, posted: Posted, root: Path, change: Callable[[Path], None]
) -> None:
    watcher.set_roots([os.fsencode(root)])
    change(root)
    posted.wait_for(root / "a")
    assert set(posted.seen) == {os.fsencode(root / "a")}


def test_watcher_move_posts_both_folders(watcher: Watcher, posted: Posted, root: Path) -> None:
    watcher.set_roots([str(root)])
    (root / "a" / "file").rename(root / "b" / "file")
    posted.wait_for(root / "a", root / "b")


def test_watcher_moved_out_posts_the_folder(watcher: Watcher, posted: Posted, root: Path, tmp_path: Path) -> None:
    watcher.set_roots([str(root)])
    (root / "a" / "file").rename(tmp_path / "file")
    posted.wait_for(root / "a")


def test_watcher_new_folders_are_watched_at_once(watcher: Watcher, posted: Posted, root: Path) -> None:
    watcher.set_roots([str(root)])
    (root / "x" / "y").mkdir(parents=True)
    posted.wait_for(root, root / "x")
    (root / "x" / "y" / "file").write_text("late")
    posted.wait_for(root / "x" / "y")


def test_watcher_folder_moved_in_is_watched(watcher: Watcher, posted: Posted, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    watcher.set_roots([str(root)])
    (tmp_path / "outside").rename(root / "inside")
    posted.wait_for(root, root / "inside")
    (root / "inside" / "deep" / "file").write_text("late")
    posted.wait_for(root / "inside" / "deep")


def test_watcher_reading_posts_nothing(watcher: Watcher, posted: Posted, root: Path) -> None:
    watcher.set_roots([str(root)])
    for _ in range(100):
        (root / "a" / "file").read_text()
        os.listdir(root / "a")
    (root / "b" / "marker").write_text("")
    posted.wait_for(root / "b")
    assert set(posted.seen) == {os.fsencode(root / "b")}


def test_watcher_names_that_are_no_utf8_are_posted_as_they_are(watcher: Watcher, posted: Posted, tmp_path: Path) -> None:
    root = os.fsencode(tmp_path) + b"/wurzel-\xff"
    folder = root + b"/m\xfcll\n"
    os.makedirs(folder)
    watcher.set_roots([os.fsdecode(root)])
    with open(folder + b"/\xfe\x80", "wb") as file:
        file.write(b"x")
    posted.wait_for(folder)


def test_watcher_link_as_root_is_followed(watcher: Watcher, posted: Posted, root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    watcher.set_roots([str(tmp_path / "link")])
    (root / "a" / "new").write_text("")
    posted.wait_for(tmp_path / "link" / "a")


def test_set_roots_missing_root_is_retried_and_a_scan_is_due_when_it_is_there(
    watcher: Watcher, posted: Posted, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    watcher.set_roots([str(late)])
    assert watcher.watched_roots() == []
    assert watcher.unwatched() == {os.fsencode(late): MISSING}
    late.mkdir()
    watcher.set_roots([str(late)])
    assert watcher.watched_roots() == [os.fsencode(late)]
    assert watcher.unwatched() == {}
    posted.wait_for(EVERYTHING)
    (late / "file").write_text("")
    posted.wait_for(late)


def test_set_roots_removed_root_is_unwatched(watcher: Watcher, posted: Posted, root: Path) -> None:
    watcher.set_roots([str(root / "a"), str(root / "b")])
    watcher.set_roots([str(root / "b")])
    (root / "a" / "new").write_text("")
    (root / "b" / "new").write_text("")
    posted.wait_for(root / "b")
    assert set(posted.seen) == {os.fsencode(root / "b")}


def test_set_roots_called_again_keeps_watches(watcher: Watcher, root: Path) -> None:
    watcher.set_roots([str(root)])
    before = watched_folders()
    watcher.set_roots([str(root)])
    assert watched_folders() == before == 4


def test_set_roots_root_replaced_is_watched_anew_and_a_scan_is_due(
    watcher: Watcher, posted: Posted, root: Path, tmp_path: Path
) -> None:
    watcher.set_roots([str(root)])
    root.rename(tmp_path / "aside")
    root.mkdir()
    watcher.set_roots([str(root)])
    posted.wait_for(EVERYTHING)
    (root / "file").write_text("")
    posted.wait_for(root)


def test_set_roots_root_deleted_and_made_again_is_watched(watcher: Watcher, posted: Posted, root: Path) -> None:
    watcher.set_roots([str(root)])
    shutil.rmtree(root)
    posted.wait_for(root)
    watcher.set_roots([str(root)])
    assert watcher.watched_roots() == []
    root.mkdir()
    watcher.set_roots([str(root)])
    posted.wait_for(EVERYTHING)
    posted.seen.clear()
    (root / "file").write_text("")
    posted.wait_for(root)


def test_watcher_nested_roots_both_work(watcher: Watcher, posted: Posted, root: Path) -> None:
    watcher.set_roots([str(root), str(root / "a")])
    watcher.set_roots([str(root)])
    (root / "a" / "deep" / "file").write_text("")
    posted.wait_for(root / "a" / "deep")


def _run_over(watcher: Watcher, one: Path, two: Path) -> None:
    """Let more happen to two files than the kernel's queue takes, while the thread that reads is held."""
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        capacity = int(file.read())
    (known,) = watcher._roots.values()
    with known.watched._emitter.group._lock:
        # Two files in turn, for the kernel merges equal events that follow each other; 2,560 are read at once before.
        for _ in range(capacity // 2 + 2000):
            os.utime(one)
            os.utime(two)


def test_watcher_queue_overflow_makes_a_scan_due(watcher: Watcher, posted: Posted, root: Path) -> None:
    two = root / "b" / "other"
    two.write_text("")
    watcher.set_roots([str(root)])
    _run_over(watcher, root / "a" / "file", two)
    posted.wait_for(EVERYTHING)
    (root / "a" / "deep" / "after").write_text("")
    posted.wait_for(root / "a" / "deep")


def test_watcher_queue_overflow_with_more_folders_than_the_queue_holds_comes_to_rest(
    watcher: Watcher, posted: Posted, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        folders = min(int(file.read()), 40_000) + 1000
    for number in range(folders):
        (root / "b" / str(number)).mkdir()
    caplog.set_level("INFO")
    two = root / "b" / "other"
    two.write_text("")
    watcher.set_roots([str(root)])
    before = watched_folders()
    _run_over(watcher, root / "a" / "file", two)
    posted.wait_for(EVERYTHING, timeout=60)
    assert watched_folders() == before == folders + 4
    (root / "a" / "deep" / "after").write_text("")
    posted.wait_for(root / "a" / "deep")
    assert posted.seen.count(EVERYTHING) == 1
    assert len([record for record in caplog.records if "more changed at once" in record.message]) == 1
    assert "overflow" not in caplog.text


def test_watcher_queue_that_runs_over_again_waits_before_it_watches_anew(
    watcher: Watcher, posted: Posted, root: Path
) -> None:
    two = root / "b" / "other"
    two.write_text("")
    watcher.set_roots([str(root)])
    _run_over(watcher, root / "a" / "file", two)
    posted.wait_for(EVERYTHING)
    _run_over(watcher, root / "a" / "file", two)

    def waits_long() -> bool:
        due = watcher._debouncer.next_due()
        return due is not None and due > time.monotonic() + LONGEST_WAIT - 60

    wait_until(waits_long, "it is lost again")


def test_watcher_many_watches_given_back_are_given_back_at_once(
    watcher: Watcher, posted: Posted, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distbackupd.sources.watcher._FEW", 1)
    watcher.set_roots([str(root / "a"), str(root / "b")])
    watcher.set_roots([str(root / "b")])
    posted.wait_for(EVERYTHING)
    assert watched_folders() == 1
    (root / "b" / "file").write_text("")
    posted.wait_for(root / "b")


def test_watcher_goes_on_after_an_event_that_watchdog_does_not_understand(
    watcher: Watcher, posted: Posted, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher.set_roots([str(root)])
    with monkeypatch.context() as patch:
        patch.setattr(InotifyWatchGroup, "on_event", lambda _self, _event: 1 / 0)
        (root / "a" / "file").write_text("")
        posted.wait_for(EVERYTHING)
    (root / "b" / "file").write_text("")
    posted.wait_for(root / "b")


def test_set_roots_folder_that_must_not_be_read_is_not_taken_for_watched(
    watcher: Watcher, posted: Posted, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_words: object) -> int:
        ctypes.set_errno(errno.EACCES)
        return -1

    with monkeypatch.context() as patch:
        patch.setattr("watchdog.observers.inotify_c.inotify_add_watch", refuse)
        for _ in range(3):
            watcher.set_roots([str(root)])
        assert watcher.watched_roots() == []
        assert watcher.unwatched() == {os.fsencode(root): "Permission denied"}
    assert len(caplog.records) == 1
    watcher.set_roots([str(root)])
    posted.wait_for(EVERYTHING)
    assert watcher.watched_roots() == [os.fsencode(root)]


def test_set_roots_without_a_descriptor_all_wait_and_are_watched_later(
    watcher: Watcher, posted: Posted, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("watchdog.observers.inotify_c.inotify_init", lambda: -1)
        patch.setattr("watchdog.observers.inotify_c.ctypes.get_errno", lambda: errno.EMFILE)
        watcher.set_roots([str(root)])
        assert watcher.unwatched() == {os.fsencode(root): "inotify instance limit reached"}
    watcher.set_roots([str(root)])
    posted.wait_for(EVERYTHING)
    assert watcher.unwatched() == {}


def test_stop_nothing_is_left(posted: Posted, root: Path) -> None:
    before = watched_folders()
    watcher = Watcher(posted, SETTLE)
    watcher.set_roots([str(root)])
    watcher.stop()
    watcher.stop()
    assert watched_folders() == before


WATCH_WITH_A_LOW_LIMIT = """
import os, queue, sys
from distbackupd.sources.watcher import Watcher
told = queue.SimpleQueue()
touched = queue.SimpleQueue()
watcher = Watcher(touched.put, 0.05, told.put)
watcher.set_roots([sys.argv[1]])
watcher.set_roots([sys.argv[1]])
event = told.get(timeout=20)
print(event.watched, event.folders, event.sources, told.qsize(), flush=True)
watcher.stop()
"""


def low_limit(limit: int) -> list[str]:
    """A command's first words, under which a user may have so many watches; needs no root, but user namespaces."""
    return ["unshare", "-Ur", "sh", "-c", f'echo {limit} > /proc/sys/user/max_inotify_watches && exec "$@"', "sh"]


def can_lower_the_limit() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*low_limit(5), "true"], capture_output=True, check=False).returncode == 0


def test_watcher_watch_limit_reached_is_told_once(tmp_path: Path) -> None:
    if not can_lower_the_limit():
        pytest.skip("user namespaces are not allowed here, so the limit of watches cannot be lowered for a test")
    for number in range(11):
        (tmp_path / str(number)).mkdir()
    command = [*low_limit(5), sys.executable, "-c", WATCH_WITH_A_LOW_LIMIT, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "5 12 0 0\n", result.stderr


def test_watcher_no_watch_left_for_the_root_is_told(tmp_path: Path) -> None:
    if not can_lower_the_limit():
        pytest.skip("user namespaces are not allowed here, so the limit of watches cannot be lowered for a test")
    command = [*low_limit(0), sys.executable, "-c", WATCH_WITH_A_LOW_LIMIT, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "0 0 1 0\n", result.stderr


def test_add_earliest_moment_holds_back_whatever_is_touched_meanwhile() -> None:
    debouncer = Debouncer(5)
    debouncer.add(b"/s/a", 1)
    debouncer.add(EVERYTHING, 2, earliest=300)
    debouncer.add(b"/s/b", 3)
    assert debouncer.next_due() == 300
    assert debouncer.due(300) == [EVERYTHING]


def test_limited_sentence_tells_sources_of_which_nothing_is_watched() -> None:
    assert WatchLimited(0, 0, 1).sentence.startswith("no folder of 1 source is watched for changes; ")
    assert WatchLimited(5, 9, 2).sentence.startswith(
        "only 5 of 9 folders are watched for changes, and no folder of 2 sources; "
    )


def test_limited_sentence_names_both_numbers() -> None:
    assert WatchLimited(5, 1200).sentence.startswith("only 5 of 1,200 folders are watched")
