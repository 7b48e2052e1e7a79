from __future__ import annotations

import pytest

from distbackupd.cli import following
from distbackupd.cli.following import JobView, PlainWatch
from distbackupd.cli.progress import PlainReporter
from distbackupd.control.client import News
from distbackupd.model.standing import Standing


class Recorder(PlainReporter):
    """What a bar would be told."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[object, ...]] = []

    def begin(self, activity: str, items: int = 0, total_bytes: int = 0) -> None:
        self.calls.append(("begin", activity, items, total_bytes))

    def advance(self, items: int, done_bytes: int, current: bytes = b"") -> None:
        self.calls.append(("advance", items, done_bytes))

    def end(self) -> None:
        self.calls.append(("end",))


def copying(items: int, done_bytes: int, total_items: int = 10) -> Standing:
    return Standing("session", "one: copying", "one", "copying", items, total_items, done_bytes, 1000)


def test_job_view_shows_one_bar_an_activity_and_how_much_further_it_is() -> None:
    recorder = Recorder()
    view = JobView(recorder)
    for standing in (copying(0, 0), copying(2, 300), copying(2, 300), copying(9, 900), Standing("idle", "idle")):
        view.stand(standing)
    assert recorder.calls == [
        ("end",),
        ("begin", "copying", 10, 1000),
        ("advance", 0, 0),
        ("advance", 2, 300),
        ("advance", 0, 0),
        ("advance", 7, 600),
        ("end",),
    ]


@pytest.mark.parametrize("again", [copying(1, 100), copying(9, 900, total_items=11)])
def test_job_view_takes_what_began_anew_for_another_activity(again: Standing) -> None:
    recorder = Recorder()
    view = JobView(recorder)
    view.stand(copying(9, 900))
    recorder.calls.clear()
    view.stand(again)
    assert recorder.calls == [
        ("end",),
        ("begin", "copying", again.total_items, 1000),
        ("advance", again.items, again.done_bytes),
    ]


def test_job_view_shows_events_by_their_severity_and_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    view = JobView(PlainReporter())
    news = [News(1, 2, "MayUnplug", 5, "one", "you may"), News(2, 2, "BadCopyFound", 3, "one", "it is bad")]
    for one in news:
        view.tell(one)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("you may\n", "it is bad\n")
    assert view.told == news


def test_plain_watch_says_changes_at_once_and_mere_figures_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(following.time, "monotonic", lambda: now)
    watch = PlainWatch()
    for sentence, activity, seconds in (
        ("copying 1%", "copying", 0.0),
        ("copying 2%", "copying", 1.0),
        ("copying 3%", "copying", 10.0),
        ("copying 3%", "copying", 10.0),
        ("checking 1%", "checking", 0.5),
    ):
        now += seconds
        watch.stand(Standing("session", sentence, "one", activity))
    assert capsys.readouterr().out.splitlines() == ["copying 1%", "copying 3%", "checking 1%"]
