"""What stands still is told once, shown until it moves, and not waited for for ever; what moves in any way is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from distbackupd.daemon.board import Board
from distbackupd.daemon.inbox import Inbox
from distbackupd.daemon.vigil import GIVE_UP_SECONDS, TELL_SECONDS, Vigil
from distbackupd.model.disks import Volume
from distbackupd.model.events import AnswersAgain, Event, NotAnswering
from distbackupd.model.inbox import DiskAppeared, JobDue, StopAsked
from distbackupd.model.standing import Standing

COPYING = Standing("session", "shelf-01: copying 0% (0 bytes of 18.8 MB)", "shelf-01", "copying")
SCANNING = Standing("scanning", "hashing 25% (300 of 1,200)", "", "hashing")


class Scene:
    """Work in hand, seen every two seconds. ``answered`` and ``owed`` are what the disk's device tells."""

    def __init__(self, standing: Standing = COPYING) -> None:
        self.now = self.computed = 0.0
        self.answered, self.owed = 7, 1
        self.known = True
        self.lines: list[str] = []
        self.told: list[Event] = []
        self.given_up: list[str] = []
        self.inbox = Inbox()
        self.board = Board(Path("/catalogue"), self.inbox, self.lines.append)
        self.vigil = Vigil(
            self.inbox,
            self.board,
            self.told.append,
            self.given_up.append,
            lambda _device: (self.answered, self.owed) if self.known else None,
            lambda: self.now,
            lambda: self.computed,
        )
        self.inbox.post(DiskAppeared(Volume("/dev/sdb1", "f", "ext4")) if standing.disk else JobDue("scan"))
        self.inbox.get(0)
        self.board.show(standing)
        self.work = self.vigil.at_work()
        self.work.__enter__()
        self.vigil.look()

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 2
            self.vigil.look()

    def stop(self) -> None:
        self.board.stopping()
        self.inbox.post(StopAsked())


def test_look_at_a_disk_that_does_not_answer_tells_it_once_and_shows_for_how_long() -> None:
    scene = Scene()
    scene.pass_time(TELL_SECONDS - 2)
    assert scene.told == []
    assert scene.lines == [COPYING.sentence]
    scene.pass_time(184)
    assert scene.told == [NotAnswering("shelf-01", "disk", 120)]
    assert scene.board.standing().sentence == "shelf-01 has not answered for 5 min; other disks wait for it"
    assert scene.board.standing().disk == "shelf-01"
    scene.board.show(COPYING)
    assert "has not answered" in scene.lines[-1]
    scene.vigil.moved()
    scene.pass_time(2)
    assert scene.told[1:] == [AnswersAgain("shelf-01", 304)]
    assert scene.lines[-1] == COPYING.sentence
    scene.pass_time(TELL_SECONDS)
    assert scene.told[2:] == [NotAnswering("shelf-01", "disk", 120)]


@pytest.mark.parametrize(
    ("standing", "owed", "known", "words"),
    [
        (
            COPYING,
            1,
            True,
            "shelf-01 has not answered for 2 min; what was recorded is safe, and the work goes on as soon as",
        ),
        (COPYING, 0, True, "shelf-01, or a source, has not answered for 2 min; what was recorded is safe"),
        (COPYING, 0, False, "shelf-01, or a source, has not answered for 2 min; what was recorded is safe"),
        (SCANNING, 0, False, "a source has not answered for 2 min; nothing counts as deleted, and the work goes on"),
    ],
)
def test_look_blames_only_whom_the_kernel_waits_for(standing: Standing, owed: int, known: bool, words: str) -> None:
    scene = Scene(standing)
    scene.owed, scene.known = owed, known
    scene.pass_time(TELL_SECONDS + 2)
    (event,) = scene.told
    assert event.sentence.startswith(words)
    assert event.public_sentence == event.sentence


def test_look_at_a_disk_before_its_session_names_none() -> None:
    scene = Scene()
    scene.board.show(Standing("idle", "idle"))
    scene.pass_time(TELL_SECONDS)
    assert scene.told[0].sentence.startswith("the disk that was plugged in has not answered for 2 min; ")


def move(scene: Scene) -> None:
    scene.vigil.moved()


def answer(scene: Scene) -> None:
    scene.answered += 1


def compute(scene: Scene) -> None:
    scene.computed += 1


@pytest.mark.parametrize("sign", [move, answer, compute])
def test_look_at_work_that_gives_any_sign_tells_nothing_and_ends_nothing(sign) -> None:
    scene = Scene()
    scene.stop()
    for _ in range(20):
        scene.pass_time(min(TELL_SECONDS, GIVE_UP_SECONDS) - 6)
        sign(scene)
    assert (scene.told, scene.given_up) == ([], [])


def test_look_in_a_pause_and_without_work_tells_nothing() -> None:
    scene = Scene()
    scene.board.pause()
    scene.pass_time(1000)
    scene.board.resume()
    scene.work.__exit__(None, None, None)
    scene.pass_time(1000)
    assert not any(isinstance(event, NotAnswering) for event in scene.told)
    scene.stop()
    scene.pass_time(1000)
    assert scene.given_up == []


def test_look_at_what_stands_still_when_a_stop_is_asked_for_waits_a_little_and_gives_up_once() -> None:
    scene = Scene()
    scene.pass_time(20)
    scene.stop()
    scene.board.show(COPYING)
    assert scene.lines[-1] == "stopping at a good place"
    scene.pass_time(2)
    assert scene.board.standing().state == "stopping"
    assert scene.lines[-1] == "stopping: shelf-01 has not answered for 22 s; it is waited for a little longer"
    scene.pass_time(GIVE_UP_SECONDS)
    assert scene.lines[-1].startswith("stopped without waiting any longer: shelf-01 has not answered for ")
    assert scene.given_up[0] == (
        "shelf-01 has not answered for 46 s, so it is not waited for any longer; what was recorded is safe, and the next "
        "session goes on there: pull it out, or see to it, before the service is started again"
    )


def test_the_vigil_looks_by_itself_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbackupd.daemon.vigil.LOOK_SECONDS", 0.001)
    scene = Scene()
    scene.now = TELL_SECONDS + 1
    scene.vigil.start()
    while not scene.told:
        pass
    scene.vigil.stop()
    scene.vigil.stop()
    assert scene.told == [NotAnswering("shelf-01", "disk", 121)]
