from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.model.events import DiskRefused, Event, SessionFailed, SessionStarted
from distbackupd.model.standing import Standing
from distbackupd.notify.progress import Progress, status_line
from distbackupd.notify.reporter import JournalReporter

GB = 10**9


@pytest.mark.parametrize(
    ("subject", "progress", "seconds", "line"),
    [
        (
            "photos-03",
            Progress("copying", 9, 517 * GB, 3, 212 * GB),
            1585,
            "photos-03: copying 41% (212 of 517 GB), 38 min left",
        ),
        (
            "p",
            Progress("copying", 9, 2 * GB, 3, 400_000_000),
            20,
            "p: copying 20% (400 MB of 2.00 GB), less than two minutes left",
        ),
        ("photos-03", Progress("copying", 9, 2 * GB, 3, 0), 5, "photos-03: copying 0% (0 bytes of 2.00 GB)"),
        ("", Progress("hashing", 1200, 0, 300), 3600, "hashing 25% (300 of 1,200), 3 h left"),
        ("", Progress("scanning", 0, 0, 12_345), 60, "scanning: 12,345 so far"),
        ("", Progress("scanning"), 0, "scanning"),
        ("d", Progress("checking", 0, 0, 2, 5000), 60, "d: checking: 2, 5.00 kB so far"),
        ("d", Progress("copying", 0, GB, 2, 2 * GB), 60, "d: copying 100% (2.00 of 1.00 GB)"),
    ],
)
def test_status_line_known_progress_is_said(subject: str, progress: Progress, seconds: float, line: str) -> None:
    assert status_line(subject, progress, seconds) == line


numbers = st.integers(0, 10**16)


@given(st.builds(Progress, st.just("copying"), numbers, numbers, numbers, numbers), st.floats(0, 10**9))
def test_status_line_any_numbers_one_short_line(progress: Progress, seconds: float) -> None:
    line = status_line("disk", progress, seconds)
    assert line.startswith("disk: copying")
    assert "\n" not in line
    assert len(line) < 120


class Scene:
    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.standings: list[Standing] = []
        self.told: list[Event] = []
        self.beats = 0
        self.reporter = JournalReporter(self.show, self.beat, self.told.append, lambda: self.now)

    def show(self, standing: Standing) -> None:
        self.standings.append(standing)
        self.lines.append(standing.sentence)

    def beat(self) -> None:
        self.beats += 1


def test_advance_many_calls_give_one_line_a_second() -> None:
    scene = Scene()
    scene.reporter.begin("copying", 1000, 1000)
    for _ in range(1000):
        scene.now += 0.01
        scene.reporter.advance(1, 1, b"/some/file")
    assert 8 <= len(scene.lines) <= 11
    assert scene.beats == 1001
    assert scene.told == []


def test_tell_session_names_the_disk_until_it_ends() -> None:
    scene = Scene()
    scene.reporter.tell(SessionStarted("photos-03", "u", "/mnt"))
    scene.reporter.begin("copying")
    scene.reporter.end()
    scene.reporter.tell(SessionFailed("photos-03", "u", "no room"))
    scene.reporter.forget()
    scene.reporter.begin("scanning")
    assert [(item.state, item.disk) for item in scene.standings] == [("session", "photos-03")] * 2 + [("idle", "")]
    assert scene.lines == ["photos-03: recognised, starting", "photos-03: copying", "scanning"]
    assert len(scene.told) == 2


def test_begin_within_another_shows_the_innermost() -> None:
    scene = Scene()
    scene.reporter.begin("copying", 4)
    scene.reporter.advance(2, 0)
    scene.reporter.begin("flushing")
    scene.reporter.end()
    scene.reporter.end()
    assert scene.lines == ["copying 0% (0 of 4)", "flushing", "copying 50% (2 of 4)"]


def test_end_without_begin_is_no_error() -> None:
    scene = Scene()
    scene.reporter.end()
    scene.reporter.advance(1, 1)
    assert scene.lines == []


def test_trouble_is_known_until_a_session_begins() -> None:
    scene = Scene()
    scene.reporter.tell(DiskRefused("photos-03", "it is a clone"))
    assert scene.reporter.trouble.startswith("photos-03: it looks like this disk, but is not used")
    assert "clone" not in scene.reporter.trouble, "everybody reads it, and reasons may name files"
    scene.reporter.tell(SessionFailed("photos-03", "u", "photos-03 was pulled out"))
    scene.reporter.forget()
    assert scene.reporter.trouble.startswith("photos-03: stopped because of trouble with the disk")
    scene.reporter.tell(SessionStarted("music-01", "u", "/mnt"))
    assert scene.reporter.trouble == ""


def test_forget_after_an_error_starts_afresh() -> None:
    scene = Scene()
    scene.reporter.tell(SessionStarted("photos-03", "u", "/mnt"))
    scene.reporter.begin("copying")
    scene.reporter.forget()
    scene.reporter.begin("scanning")
    scene.reporter.end()
    assert scene.lines == ["photos-03: recognised, starting", "photos-03: copying", "scanning"]


def test_moved_is_called_only_when_the_work_got_further() -> None:
    moves = []
    reporter = JournalReporter(lambda _standing: None, moved=lambda: moves.append(1))
    reporter.begin("copying", 4, 100)
    reporter.advance(0, 0)
    assert len(moves) == 1
    reporter.advance(1, 0)
    reporter.advance(0, 7)
    reporter.end()
    assert len(moves) == 4
