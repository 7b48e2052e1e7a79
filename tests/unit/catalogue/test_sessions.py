"""History, and small facts."""

from __future__ import annotations

from pathlib import Path

from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.engine.ports import SessionSummary
from tests.unit.catalogue.making import add_disk


def test_sessions_come_newest_first_and_unfinished_ones_say_so(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        disk = add_disk(catalogue, "one")
        first = catalogue.sessions.start(disk, 10)
        catalogue.sessions.start(disk, 30)
        summary = SessionSummary("one", 10, 20, "finished", 1, 2**40, 3, 4, "one: done ä")
        catalogue.sessions.finish(first, summary)
    with open_catalogue(tmp_path) as catalogue:
        assert catalogue.sessions.recent(10) == [SessionSummary("one", 30, None, "running", 0, 0, 0, 0, ""), summary]
        assert len(catalogue.sessions.recent(1)) == 1


def test_remember_keeps_the_last_value(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        assert catalogue.sessions.recall("last_scan") is None
        for value in ("1", "2"):
            catalogue.sessions.remember("last_scan", value)
    with open_catalogue(tmp_path, read_only=True) as catalogue:
        assert catalogue.sessions.recall("last_scan") == "2"
