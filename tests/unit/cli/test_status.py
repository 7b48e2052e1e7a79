from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from distbackupd.cli.status import Report, print_report
from distbackupd.engine.ports import SessionSummary
from distbackupd.model.events import DiskWanted
from distbackupd.model.standing import DiskStanding, Protection, Standing

NOW = 1_700_000_000
SESSION = SessionSummary(
    "one", NOW - 7300, NOW - 7200, "finished", 5, 500, 0, 0, "one: copied 5 objects (500 bytes) in 99 s"
)
FAILED = SessionSummary("two", NOW - 9300, NOW - 9200, "failed", 0, 0, 0, 0, "")
FULL = Report(
    activity="one: copying 41% (41 of 100 bytes)",
    standing=Standing("session", "one: copying 41% (41 of 100 bytes)", "one", "copying", 4, 10, 41, 100, 12.34),
    protection=Protection(
        {2: 7, 0: 5, 1: 3_100_000_000_000},
        (
            DiskStanding("one", "u-1", 4_000_000_000_000, 3_000_000_000_000, 12, 9_000_000, NOW - 7200),
            DiskStanding("two", "u-2", 4_000_000_000_000, 0, 0, 0, None),
        ),
        DiskWanted("two", "u-2", 1, 3_100_000_000_000),
        NOW - 3600,
    ),
    entries=98,
    sessions=[SESSION, FAILED],
)
EMPTY = Report("", None, Protection(), 0, [])


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr("distbackupd.cli.status.time.time", lambda: NOW)
    yield
    monkeypatch.undo()
    time.tzset()


def test_print_report_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(FULL, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "Now: one: copying 41% (41 of 100 bytes)",
        "Last scan: 1 h ago",
        "No copy: 5 bytes",
        "1 copy: 3.10 TB",
        "2 copies: 7 bytes",
        "one: 3.00 TB of 4.00 TB used, 2 h ago; 9.00 MB only here",
        "two: 0 bytes of 4.00 TB used, never backed up to",
        "Next: bring two: 3.10 TB have one copy only",
        "Last sessions:",
        "  2023-11-14 20:11 one: copied 5 objects (500 bytes) in 99 s",
        "  2023-11-14 19:38 two: failed",
    ]


def test_print_report_of_nothing_says_what_to_do_first(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(EMPTY, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "Now: nothing is at work on this catalogue",
        "Last scan: never; 'dsb update' makes one",
        "No disk is known yet: 'dsb disk add NAME PATH' makes one known.",
    ]


def test_print_report_as_json_has_the_same_keys_whatever_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(FULL, as_json=True)
    full = json.loads(capsys.readouterr().out)
    print_report(EMPTY, as_json=True)
    empty = json.loads(capsys.readouterr().out)
    assert full.keys() == empty.keys()
    assert (full["daemon"], full["disk"], full["entries"]) == ("session", "one", 98)
    assert full["progress"] == {
        "activity": "copying",
        "items": 4,
        "total_items": 10,
        "bytes": 41,
        "total_bytes": 100,
        "seconds": 12.3,
    }
    assert full["copies"] == {"0": 5, "1": 3_100_000_000_000, "2": 7}
    assert full["wanted"]["sentence"] == "bring two: 3.10 TB have one copy only"
    assert full["sessions"][0]["outcome"] == "finished"
    nothing = {key: empty[key] for key in ("activity", "disk", "progress", "last_scan", "wanted")}
    assert nothing == dict.fromkeys(nothing)
    assert empty["daemon"] == "absent"
