"""What others see of the daemon, and what becomes of their wishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from distbackupd.daemon.board import Board
from distbackupd.daemon.inbox import Inbox
from distbackupd.model.disks import Volume
from distbackupd.model.events import Event, MayUnplug, Paused, Resumed
from distbackupd.model.inbox import BackupAsked, DiskAppeared, EjectAsked, JobDue, ReloadAsked, ScanAsked
from distbackupd.model.plans import BackupWish
from distbackupd.model.standing import Answer, DiskStanding, Protection, Standing, Told

COPYING = Standing("session", "photos-03: copying 5%", "photos-03", "copying")


class Ears:
    """A listener that only remembers."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.stands = self.protects = self.told = self.answered = self.heard.append


class Scene:
    def __init__(self) -> None:
        self.inbox = Inbox()
        self.lines: list[str] = []
        self.now = 1_000_000_000_000_000
        self.board = Board(Path("/catalogue"), self.inbox, self.lines.append, lambda: self.now)
        self.ears = Ears()
        self.end = self.board.subscribe(self.ears)

    def events(self) -> list[Event]:
        return [told.event for told in self.board.told_since(0)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_listeners_hear_everything_until_they_leave(scene: Scene) -> None:
    protection = Protection({1: 5})
    scene.board.show(COPYING)
    scene.board.protect(protection)
    scene.board.protect(Protection({1: 5}))
    scene.board.answer(3, 4, "no")
    scene.end()
    scene.board.show(Standing("idle", "idle"))
    assert scene.ears.heard == [COPYING, protection, Answer(3, 4, "no")]
    assert scene.lines == ["photos-03: copying 5%", "idle"]
    assert (scene.board.standing().state, scene.board.protection()) == ("idle", protection)


def test_told_numbers_grow_whatever_the_clock_does(scene: Scene) -> None:
    for step in (5_000, 0, -(10**15)):
        scene.now += step
        scene.board.tell(MayUnplug("photos-03", "u"))
    first, *later = scene.board.told_since(0)
    assert first == Told(10**12 + 5, 10**6, MayUnplug("photos-03", "u"))
    assert [told.number for told in later] == [first.number + 1, first.number + 2]
    assert scene.board.told_since(first.number) == later


def test_told_keeps_the_newest(scene: Scene) -> None:
    for number in range(1000):
        scene.board.tell(MayUnplug(str(number), "u"))
    kept = scene.board.told_since(0)
    assert 100 <= len(kept) < 1000
    assert kept[-1].event == MayUnplug("999", "u")


def test_wishes_become_work_with_numbers_of_their_own(scene: Scene) -> None:
    jobs = [scene.board.ask_backup(0, "one", BackupWish()), scene.board.ask_eject(0, "one"), scene.board.ask_scan(0)]
    assert [scene.inbox.get(0) for _ in jobs] == [
        BackupAsked(jobs[0], "one", BackupWish()),
        EjectAsked(jobs[1], "one"),
        ScanAsked(jobs[2]),
    ]
    assert len(set(jobs)) == 3


@pytest.mark.parametrize("name", ["photos-03", "uuid-of-photos-03"])
def test_eject_stops_the_session_of_that_disk_only(scene: Scene, name: str) -> None:
    scene.board.protect(Protection({}, (DiskStanding("photos-03", "uuid-of-photos-03", 1, 1, 1, 0, None),)))
    scene.inbox.post(DiskAppeared(Volume("/dev/sdb1", "f", "ext4")))
    scene.inbox.get(0)
    scene.board.show(COPYING)
    scene.board.ask_eject(0, "music-01")
    assert not scene.inbox.job_stop.is_set()
    scene.board.ask_eject(0, name)
    assert scene.inbox.job_stop.is_set()
    assert scene.inbox.job_stop.reason == "photos-03 is to be ejected"


def test_cancel_with_nothing_at_work_says_so(scene: Scene) -> None:
    assert not scene.board.cancel()
    scene.inbox.post(JobDue("scan"))
    scene.inbox.get(0)
    assert scene.board.cancel()


def test_cancel_of_one_job_leaves_the_others(scene: Scene) -> None:
    first, second, third = (scene.board.ask_scan(0) for _ in range(3))
    scene.inbox.get(0)
    assert scene.board.cancel(second)
    assert scene.ears.heard == [Answer(second, 130, "somebody cancelled it")]
    assert not scene.inbox.job_stop.asked
    assert scene.board.cancel(first)
    assert scene.inbox.job_stop.asked
    assert not scene.board.cancel(second)
    assert scene.inbox.get(0) == ScanAsked(third)


def test_pause_is_told_once_and_shown_until_it_ends(scene: Scene) -> None:
    scene.board.show(COPYING)
    scene.board.pause()
    scene.board.pause()
    assert scene.board.standing().state == "paused"
    assert scene.lines[-1] == "photos-03: paused; 'dsb resume' goes on"
    scene.inbox.post(ScanAsked(9))
    scene.inbox.post(ReloadAsked())
    assert scene.inbox.get(0) == ReloadAsked()
    assert scene.inbox.get(0) is None
    scene.board.resume()
    scene.board.resume()
    assert scene.events() == [Paused(), Resumed()]
    assert [scene.inbox.get(0), scene.inbox.get(0)] == [ScanAsked(9), JobDue("tend")]
