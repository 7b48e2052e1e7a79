"""Clocks that are wrong or jump: what is recorded, deleted and measured then, with a real catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from distbackupd.engine.braking import release, standing_brake
from distbackupd.engine.overview import protection
from distbackupd.engine.ports.catalogue import SessionSummary
from distbackupd.engine.reminders import is_reminder_due, remind
from distbackupd.engine.scan_failures import failed_scan, failures_remembered
from distbackupd.engine.timekeeping import as_recorded, glance_at_clock, look_at_clock
from distbackupd.model.disks import BackupDisk
from distbackupd.model.events import ClockWrong
from tests.unit.engine.scenes import Scene, scene_at

DAY = 86_400
YEAR = 365 * DAY


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


def fill(scene: Scene, count: int = 60) -> BackupDisk:
    for number in range(count):
        scene.write(f"{number}", f"text {number}")
    scene.scan()
    disk = scene.add_disk("one")
    scene.back_up(disk)
    return disk


def delete(scene: Scene, first: int, behind: int) -> None:
    for number in range(first, behind):
        (scene.real / str(number)).unlink()


def recorded(scene: Scene) -> list[int]:
    versions = list(scene.catalogue.history.versions(b"/"))
    return [moment for version in versions for moment in (version.seen, version.gone) if moment]


def test_scan_with_the_clock_in_1970_lets_no_session_delete_a_last_copy(scene: Scene) -> None:
    disk = fill(scene)
    delete(scene, 0, 5)
    newest, wrong = max(recorded(scene)), scene.clock.now() - 3600
    scene.clock.jump(-wrong)
    scene.scan()
    assert min(recorded(scene)) >= 1_700_000_000
    assert max(recorded(scene)) > newest
    (told,) = scene.reporter.told(ClockWrong)
    assert "behind what was recorded last" in told.sentence
    scene.scan()
    assert len(scene.reporter.told(ClockWrong)) == 1
    scene.clock.jump(wrong)
    scene.back_up(disk)
    assert len(scene.held(disk)) == 60
    scene.clock.pass_time(31 * DAY)
    scene.back_up(disk)
    assert len(scene.held(disk)) == 55


def test_session_with_the_clock_a_year_ahead_deletes_nothing_and_the_grace_goes_on_afterwards(scene: Scene) -> None:
    disk = fill(scene)
    delete(scene, 0, 5)
    scene.scan()
    scene.clock.jump(YEAR)
    scene.back_up(disk)
    assert len(scene.held(disk)) == 60
    assert "jumped 365 days ahead" in scene.reporter.told(ClockWrong)[0].sentence
    scene.clock.pass_time(10 * DAY)
    scene.scan()
    scene.clock.jump(-YEAR)
    scene.clock.pass_time(19 * DAY)
    scene.back_up(disk)
    assert len(scene.held(disk)) == 60
    scene.clock.pass_time(2 * DAY)
    scene.back_up(disk)
    assert len(scene.held(disk)) == 55


def test_excursion_ahead_is_set_back_and_freezes_nothing(scene: Scene) -> None:
    disk = fill(scene)
    scene.clock.jump(YEAR)
    scene.write("future", "seen in the future")
    delete(scene, 0, 5)
    scene.scan()
    scene.back_up(disk, share=1)
    assert max(recorded(scene)) > scene.clock.now() - DAY
    scene.clock.jump(-YEAR)
    glance_at_clock(scene.bench)
    meant = as_recorded(scene.bench, scene.clock.now())
    assert b"/future" in {entry.path for entry in scene.catalogue.history.listing(b"/", meant)}
    look_at_clock(scene.bench)
    now = scene.clock.now()
    assert max(recorded(scene)) <= now + 2
    assert b"/future" in {entry.path for entry in scene.catalogue.history.listing(b"/", now + 2)}
    known = scene.catalogue.disks.find("one")
    assert known.last_session_at <= now + 2
    assert max(scene.catalogue.disks.verified_at(known.id).values()) <= now + 2
    assert int(scene.catalogue.sessions.recall("last_scan")) <= now + 2
    delete(scene, 5, 40)
    scene.scan()
    assert "of 56 files" in standing_brake(scene.bench).sentence
    release(scene.bench)
    scene.clock.pass_time(31 * DAY)
    scene.back_up(disk)
    assert len(scene.held(disk)) == 21


def test_disk_is_not_taken_for_set_back_after_an_excursion(scene: Scene) -> None:
    disk = fill(scene)
    scene.clock.jump(YEAR)
    scene.back_up(disk)
    scene.clock.jump(-YEAR)
    scene.back_up(disk)
    scene.assert_complete(disk)


def test_clock_that_jumps_within_a_session_is_not_heard_before_the_next_look(scene: Scene) -> None:
    look_at_clock(scene.bench)
    before = scene.bench.clock.now()
    scene.clock.jump(YEAR)
    scene.clock.pass_time(60)
    assert scene.bench.clock.now() == before + 60
    scene.clock.jump(-2 * YEAR)
    assert scene.bench.clock.now() == before + 60


def test_machine_that_was_off_for_a_month_counts_a_week(scene: Scene) -> None:
    disk = fill(scene)
    delete(scene, 0, 5)
    scene.scan()
    scene.clock.pass_time(20 * DAY)
    scene.scan()
    scene.clock.restart(off=40 * DAY)
    scene.back_up(disk)
    assert len(scene.held(disk)) == 60
    assert scene.reporter.told(ClockWrong) == []
    assert "a week of that counts" in scene.reporter.sentences()
    scene.clock.pass_time(4 * DAY)
    scene.back_up(disk)
    assert len(scene.held(disk)) == 55


def test_what_changes_in_the_second_of_a_release_counts(scene: Scene) -> None:
    fill(scene)
    release(scene.bench)
    delete(scene, 0, 30)
    scene.clock.pass_time(-10)
    scene.scan()
    assert standing_brake(scene.bench).on


def test_catalogue_of_an_older_version_is_never_before_what_it_recorded(scene: Scene) -> None:
    fill(scene)
    newest = max(recorded(scene))
    scene.catalogue.sessions.remember("clock", "null")
    scene.clock.jump(-YEAR)
    scene.write("new")
    scene.scan()
    assert max(recorded(scene)) > newest


def test_excursion_ahead_tells_no_disk_from_one_that_was_away_and_reminds_when_the_clock_is_believed(scene: Scene) -> None:
    fill(scene)
    remind(scene.bench, 90 * DAY)
    scene.reporter.events.clear()
    scene.clock.jump(YEAR)
    look_at_clock(scene.bench)
    scene.clock.pass_time(1800)
    look_at_clock(scene.bench)
    assert not is_reminder_due(scene.bench)
    scene.clock.pass_time(3600)
    look_at_clock(scene.bench)
    assert is_reminder_due(scene.bench)
    scene.clock.jump(-YEAR)
    look_at_clock(scene.bench)
    assert not is_reminder_due(scene.bench)
    scene.clock.pass_time(DAY)
    assert is_reminder_due(scene.bench)


def test_scan_that_failed_in_the_future_failed_when_the_clock_is_right_again(scene: Scene) -> None:
    fill(scene)
    scene.clock.jump(YEAR)
    look_at_clock(scene.bench)
    with suppress(ZeroDivisionError), failures_remembered(scene.bench, whole=True):
        raise ZeroDivisionError
    scene.clock.jump(-YEAR)
    look_at_clock(scene.bench)
    failed = failed_scan(scene.bench)
    assert failed is not None
    assert failed.since <= scene.clock.now()


def test_session_that_failed_in_the_future_keeps_nobody_from_bringing_its_disk_for_a_year(scene: Scene) -> None:
    disk = fill(scene)
    scene.write("one more", "that lacks a copy")
    scene.scan()
    assert protection(scene.bench).wanted
    scene.clock.jump(YEAR)
    look_at_clock(scene.bench)
    now = scene.bench.clock.now()
    session = scene.catalogue.sessions.start(disk, now)
    scene.catalogue.sessions.finish(session, SessionSummary("one", now, now, "failed", 0, 0, 0, 0, "it failed"))
    assert not protection(scene.bench).wanted
    scene.clock.jump(-YEAR)
    look_at_clock(scene.bench)
    assert protection(scene.bench).wanted


def test_folders_listed_in_the_future_are_listed_again_in_turn(scene: Scene) -> None:
    disk = fill(scene)
    scene.clock.jump(YEAR)
    scene.back_up(disk)
    listed = {folder.listed_at for folder in scene.catalogue.disks.left(disk.id).values()}
    assert max(listed) > scene.clock.now() - DAY
    scene.clock.jump(-YEAR)
    look_at_clock(scene.bench)
    assert max(folder.listed_at for folder in scene.catalogue.disks.left(disk.id).values()) <= scene.clock.now() + 2
