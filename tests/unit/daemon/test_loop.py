from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from distbackupd.daemon import loop as loop_module
from distbackupd.daemon.inbox import Inbox
from distbackupd.daemon.loop import IDLE_SILENCE, Loop
from distbackupd.engine.ports import Stop
from distbackupd.model.disks import Volume
from distbackupd.model.errors import CatalogueDamaged, CataloguePlaceTrouble, CatalogueTrouble, DiskTrouble, Interrupted
from distbackupd.model.inbox import (
    BackupAsked,
    DiskAppeared,
    DiskVanished,
    EjectAsked,
    InboxEvent,
    JobDue,
    ReloadAsked,
    ScanAsked,
    SourceTouched,
    StopAsked,
)
from distbackupd.model.plans import BackupWish
from distbackupd.notify.readiness import Heart
from tests.bed.waiting import wait_until
from tests.fakes.engine import FakeEngine, wait_until_stopped

DISK = DiskAppeared(Volume("/dev/sdb1", "u1", "ext4"))
SECOND = DiskAppeared(Volume("/dev/sdc1", "u2", "ext4"))
TEND = JobDue("tend")
SCAN = JobDue("scan")


class Household:
    def __init__(self, done: list[object]) -> None:
        self.done = done
        self.on_idle: Callable[[], None] = lambda: None
        self.awake = False
        self.looks = 0
        self.answers: list[tuple[int, int, str]] = []
        self.hindrances: list[str] = []

    def reload(self) -> None:
        self.done.append("reload")

    def tend(self) -> None:
        self.done.append("tend")

    def watch_clock(self) -> None:
        self.looks += 1

    def idle(self) -> None:
        self.on_idle()

    @contextmanager
    def copying(self) -> Iterator[None]:
        self.awake = True
        yield
        self.awake = False

    def answer(self, job: int, exit_code: int, sentence: str) -> None:
        self.answers.append((job, exit_code, sentence))

    def hindered(self, trouble: CatalogueTrouble | None) -> None:
        self.hindrances.append("" if trouble is None else str(trouble))


class Scene:
    def __init__(self) -> None:
        self.inbox = Inbox()
        self.engine = FakeEngine()
        self.done = self.engine.done
        self.household = Household(self.done)
        self.heart = Heart("engine", IDLE_SILENCE)
        self.loop = Loop(self.inbox, self.engine, self.household, self.heart)

    def work_off(self, *events: InboxEvent) -> int:
        for event in events:
            self.inbox.post(event)
        return self.loop.run_once()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_run_once_each_event_is_done_in_order(scene: Scene) -> None:
    assert scene.work_off(SCAN, DISK, TEND, ReloadAsked(), DiskVanished("/dev/sdx")) == 0
    assert scene.done == [("scan", None), ("back up", "/dev/sdb1"), "tend", "reload"]


def test_disk_touched_folders_are_scanned_first_in_one_go(scene: Scene) -> None:
    scene.work_off(DISK, SourceTouched(b"/b"), SourceTouched(b"/a"))
    assert scene.done == [("scan", [b"/a", b"/b"]), ("back up", "/dev/sdb1")]


def test_disk_comes_after_a_scan_of_new_sources(scene: Scene) -> None:
    scene.engine.unscanned_name = "one more source"
    scene.work_off(DISK, SourceTouched(b"/b"))
    assert scene.done == [("scan", None), ("back up", "/dev/sdb1")]


def test_touched_folders_that_are_pending_go_together(scene: Scene) -> None:
    scene.work_off(SourceTouched(b"/b"), TEND, SourceTouched(b"/a"))
    assert scene.done == [("scan", [b"/a", b"/b"]), "tend"]


def test_brake_that_a_look_at_some_folders_put_on_is_confirmed_by_a_scan_of_everything(scene: Scene) -> None:
    scene.engine.scan_awaited = True
    scene.work_off(SourceTouched(b"/a"), TEND)
    assert scene.done == [("scan", [b"/a"]), "tend", ("scan", None)]


def test_scan_of_everything_takes_touched_folders_along(scene: Scene) -> None:
    scene.work_off(SCAN, SourceTouched(b"/a"))
    assert scene.done == [("scan", None)]


@pytest.mark.parametrize(
    ("events", "later"),
    [
        ([SCAN], ("scan", None)),
        ([SourceTouched(b"/a")], ("scan", [b"/a"])),
        ([DISK, SourceTouched(b"/a"), SourceTouched(b"/b")], ("scan", [b"/a", b"/b"])),
    ],
)
def test_disk_that_waited_for_a_scan_for_long_enough_goes_first(
    scene: Scene, events: list[InboxEvent], later: tuple[object, ...]
) -> None:
    def read_a_giant_file(stop: Stop) -> None:
        scene.engine.on_scan = lambda _stop: None
        if DISK not in events:
            scene.inbox.post(DISK)
        assert stop.is_set()
        raise Interrupted("stopped while a file was read; it will be read again")

    scene.loop = Loop(scene.inbox, scene.engine, scene.household, scene.heart, disk_patience=0)
    scene.engine.on_scan = read_a_giant_file
    assert scene.work_off(*events) == 0
    assert scene.done == [("back up", "/dev/sdb1")]
    assert scene.work_off(TEND) == 0
    assert scene.done == [("back up", "/dev/sdb1"), "tend", later]


def test_scan_gives_way_to_no_disk_that_came_just_now_and_to_none_that_left(scene: Scene) -> None:
    def read_a_giant_file(stop: Stop) -> None:
        scene.inbox.post(DISK)
        assert not stop.is_set()
        scene.inbox.post(DiskVanished("/dev/sdb1"))
        assert not stop.is_set()

    scene.engine.on_scan = read_a_giant_file
    scene.work_off(SCAN)
    assert scene.done == [("scan", None)]


def test_scan_of_new_sources_is_finished_before_the_first_session(scene: Scene) -> None:
    scene.loop = Loop(scene.inbox, scene.engine, scene.household, scene.heart, disk_patience=0)
    scene.engine.unscanned_name = "one more source"
    scene.engine.on_scan = lambda stop: None if not stop.is_set() else pytest.fail("it is to go on")
    scene.work_off(DISK)
    assert scene.done == [("scan", None), ("back up", "/dev/sdb1")]


def test_clock_is_watched_by_a_loop_that_never_rests(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("distbackupd.daemon.loop.time.monotonic", lambda: now)
    scene.loop = Loop(scene.inbox, scene.engine, scene.household, scene.heart)
    rounds = 0

    def another() -> None:
        nonlocal now, rounds
        now, rounds = now + 10, rounds + 1
        scene.inbox.post(StopAsked() if rounds == 10 else SourceTouched(b"/a"))

    scene.household.on_idle = another
    scene.loop.run()
    assert scene.household.looks == 3


def test_show_looks_for_nothing(scene: Scene) -> None:
    assert scene.work_off(JobDue("show")) == 0
    assert scene.done == []


def test_unknown_disk_is_left_alone(scene: Scene) -> None:
    scene.engine.ours = False
    assert scene.work_off(DISK) == 0


def test_busy_disk_is_kept_and_tried_again_at_tend(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.engine.busy = True
    assert scene.work_off(DISK, SourceTouched(b"/a")) == 6
    assert scene.work_off(TEND) == 6
    assert len(caplog.records) == 1
    assert "dsb is at work on this catalogue; waiting with the disk on /dev/sdb1 and 1 changed folder" in caplog.text
    scene.engine.busy = False
    scene.done.clear()
    assert scene.work_off(TEND) == 0
    assert scene.done == ["tend", ("scan", [b"/a"]), ("back up", "/dev/sdb1")]
    assert scene.inbox.waiting() == []


def test_busy_scan_is_kept_with_its_folders(scene: Scene) -> None:
    scene.engine.busy = True
    scene.work_off(SCAN, SourceTouched(b"/a"))
    assert set(scene.inbox.waiting()) == {SCAN, SourceTouched(b"/a")}


def test_busy_again_later_is_told_again(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.engine.busy = True
    scene.work_off(SCAN)
    scene.engine.busy = False
    scene.work_off(TEND)
    scene.engine.busy = True
    scene.work_off(SCAN)
    assert len(caplog.records) == 2


def test_error_that_the_engine_told_already_is_not_told_again(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    trouble = CatalogueTrouble("there is no room left for the catalogue")
    trouble.told = True

    def fail(_volume: object, _stop: object) -> None:
        raise trouble

    scene.engine.on_back_up = fail
    assert scene.work_off(DISK) == 5
    assert caplog.records == []


def full(*_: object) -> None:
    raise CataloguePlaceTrouble("the disk with the catalogue is full")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "FIRST_PAUSE", 0.0)


@pytest.mark.usefixtures("at_once")
def test_full_catalogue_disk_is_told_once_and_nothing_is_forgotten(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.engine.on_scan = full
    scene.engine.on_back_up = lambda *_: full()
    assert (
        scene.work_off(SCAN, SourceTouched(b"/a"), DISK, SourceTouched(b"/b"), BackupAsked(7, "photos-03", BackupWish()))
        == 5
    )
    scene.work_off(TEND)
    assert scene.household.hindrances == ["the disk with the catalogue is full"]
    assert caplog.records == []
    assert scene.household.answers == [(7, 5, "the disk with the catalogue is full")]
    scene.engine.on_scan = lambda _stop: None
    scene.engine.on_back_up = lambda *_: None
    scene.done.clear()
    scene.work_off(TEND)
    assert scene.household.hindrances[1:] == [""]
    assert ("scan", None) in scene.done
    assert ("back up", "/dev/sdb1") in scene.done


def test_full_catalogue_disk_is_tried_again_after_a_while_only(scene: Scene) -> None:
    scene.engine.on_scan = full
    scene.work_off(SCAN, TEND, TEND)
    assert scene.inbox.waiting() == [SCAN]
    scene.engine.on_scan = lambda _stop: None
    scene.work_off(SourceTouched(b"/a"))  # something else shows that there is room again
    assert scene.inbox.waiting() == []
    assert scene.household.hindrances == ["the disk with the catalogue is full", ""]


def test_damaged_catalogue_is_told_once_and_its_events_do_not_come_again(scene: Scene) -> None:
    def damaged(*_: object) -> None:
        raise CatalogueDamaged("the catalogue is damaged")

    scene.engine.on_scan = damaged
    assert scene.work_off(SCAN, SourceTouched(b"/a"), TEND, SourceTouched(b"/a")) == 5
    assert scene.household.hindrances == ["the catalogue is damaged"]
    assert scene.inbox.waiting() == []


def test_disk_unplugged_while_it_is_backed_up_stops_the_session_and_the_loop_goes_on(scene: Scene) -> None:
    begun = threading.Event()
    scene.engine.on_back_up = lambda volume, stop: wait_until_stopped(stop, begun) if volume.device == "/dev/sdb1" else None
    unplug = threading.Thread(target=lambda: begun.wait(20) and scene.inbox.post(DiskVanished("/dev/sdb1")))
    unplug.start()
    assert scene.work_off(DISK, SECOND) == 0
    unplug.join()
    assert scene.done == [("back up", "/dev/sdc1")]
    assert not scene.inbox.stop.is_set()


def test_disk_unplugged_while_folders_are_scanned_is_not_backed_up(scene: Scene) -> None:
    scene.engine.on_scan = lambda _stop: scene.inbox.post(DiskVanished("/dev/sdb1"))
    scene.work_off(DISK, SourceTouched(b"/a"))
    assert scene.done == [("scan", [b"/a"])]


def test_run_stop_ends_the_job_in_hand_and_the_loop(scene: Scene) -> None:
    begun = threading.Event()
    scene.engine.on_back_up = lambda _volume, stop: wait_until_stopped(stop, begun)
    scene.inbox.post(DISK)
    scene.inbox.post(SECOND)
    stopper = threading.Thread(target=lambda: begun.wait(20) and scene.inbox.post(StopAsked()))
    stopper.start()
    scene.loop.run()
    stopper.join()
    assert scene.done == []


def test_run_idle_wakes_for_a_post(scene: Scene) -> None:
    scene.household.on_idle = lambda: scene.inbox.post(StopAsked()) if scene.done else scene.inbox.post(SCAN)
    scene.loop.run()
    assert scene.done == [("scan", None)]


def test_run_once_stopped_says_interrupted(scene: Scene) -> None:
    assert scene.work_off(StopAsked(), DISK) == 130
    assert scene.done == []


def test_expected_error_is_told_in_its_sentence_and_the_next_event_is_done(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_volume: object, _stop: object) -> None:
        raise CatalogueTrouble("/var/lib/distbackup: the catalogue is broken")

    scene.engine.on_back_up = fail
    assert scene.work_off(DISK, SCAN) == 5
    assert scene.done == [("scan", None)]
    assert caplog.messages == ["/var/lib/distbackup: the catalogue is broken"]
    assert caplog.records[0].exc_info is None


def test_bug_is_told_with_its_traceback_and_the_next_event_is_done(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_volume: object, _stop: object) -> None:
        raise ZeroDivisionError

    scene.engine.on_back_up = fail
    assert scene.work_off(DISK, SCAN) == 1
    assert scene.done == [("scan", None)]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


def test_bug_in_idle_does_not_end_the_loop(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    def idle() -> None:
        scene.inbox.post(StopAsked() if scene.done else SCAN)
        raise ZeroDivisionError

    scene.household.on_idle = idle
    scene.loop.run()
    assert scene.done == [("scan", None)]
    assert len(caplog.records) == 2


def test_heart_at_work_may_be_silent_for_longer(scene: Scene) -> None:
    later = time.monotonic() + IDLE_SILENCE + 60
    seen: list[bool] = []
    scene.engine.on_scan = lambda _stop: seen.append(scene.heart.alive(later))
    scene.work_off(SCAN)
    assert seen == [True]
    assert not scene.heart.alive(later + 60)


# --- what somebody asks for ------------------------------------------------------------------------------------------


def test_asked_backup_is_done_and_answered(scene: Scene) -> None:
    wish = BackupWish(copy_limit=5)
    awake: list[bool] = []
    scene.engine.on_back_up = lambda _volume, _stop: awake.append(scene.household.awake)
    assert scene.work_off(SourceTouched(b"/a"), BackupAsked(7, "photos-03", wish)) == 0
    assert scene.done == [("scan", [b"/a"]), ("back up", "photos-03", wish)]
    assert scene.household.answers == [(7, 0, "")]
    assert awake == [True]
    assert not scene.household.awake


def test_asked_backup_with_update_scans_everything_first(scene: Scene) -> None:
    scene.work_off(BackupAsked(7, "photos-03", BackupWish(update=True)))
    assert scene.done[0] == ("scan", None)


def test_asked_for_what_cannot_be_done_is_answered_in_a_sentence(scene: Scene) -> None:
    def refuse(_name: str) -> None:
        raise DiskTrouble("photos-03 is still mounted, in use by PID 7 (bash)")

    scene.engine.on_eject = refuse
    scene.work_off(BackupAsked(1, "nonsense", BackupWish()), EjectAsked(2, "photos-03"), ScanAsked(3))
    assert scene.household.answers == [
        (1, 2, "there is no disk 'nonsense'"),
        (2, 4, "photos-03 is still mounted, in use by PID 7 (bash)"),
        (3, 0, ""),
    ]


def test_asked_while_another_program_works_is_answered_and_not_kept(scene: Scene) -> None:
    scene.engine.busy = True
    scene.work_off(ScanAsked(3))
    assert scene.household.answers == [(3, 6, "dsb is at work on this catalogue")]
    assert scene.inbox.waiting() == []


def test_asked_backup_ends_when_its_disk_is_pulled_out(scene: Scene) -> None:
    def pull_out(volume: Volume, stop: Stop) -> None:
        scene.inbox.post(DiskVanished(volume.device))
        wait_until_stopped(stop)

    scene.engine.on_back_up = pull_out
    assert scene.work_off(BackupAsked(4, "photos-03", BackupWish())) == 0
    assert scene.household.answers == [(4, 130, "/dev/photos-03 was unplugged")]


def test_cancelled_work_is_answered_and_the_next_begins(scene: Scene) -> None:
    def cancel(stop: Stop) -> None:
        assert scene.inbox.cancel("somebody cancelled it")
        wait_until_stopped(stop)

    scene.engine.on_scan = cancel
    scene.work_off(ScanAsked(1), EjectAsked(2, "photos-03"))
    assert scene.household.answers == [(1, 130, "somebody cancelled it"), (2, 0, "")]


def test_disk_hears_which_disks_wait(scene: Scene) -> None:
    seen = []
    scene.engine.on_back_up = lambda _volume, _stop: seen.append(scene.engine.waiting)
    scene.work_off(DISK, SECOND)
    assert seen == [[SECOND.volume], []]


def test_reminder_comes_with_tending_and_never_disturbs(scene: Scene) -> None:
    scene.work_off(TEND)
    assert scene.engine.reminders == 1
    scene.engine.busy = True
    assert scene.work_off(TEND) == 0


def test_paused_work_rests_and_gives_signs_of_life(scene: Scene) -> None:
    lives: list[None] = []
    inbox = Inbox(lambda: lives.append(None))
    loop = Loop(inbox, scene.engine, scene.household, scene.heart)
    resting = threading.Event()

    def look(stop: Stop) -> None:
        assert inbox.pause()
        resting.set()
        assert not stop.is_set()

    scene.engine.on_scan = look
    inbox.post(ScanAsked(1))
    worker = threading.Thread(target=loop.run_once)
    worker.start()
    assert resting.wait(10)
    wait_until(lambda: lives, "a sign of life")
    assert scene.household.answers == []
    assert inbox.resume()
    worker.join(10)
    assert scene.household.answers == [(1, 0, "")]


def test_paused_work_still_ends_when_its_disk_is_pulled_out(scene: Scene) -> None:
    def look(volume: Volume, stop: Stop) -> None:
        scene.inbox.pause()
        scene.inbox.post(DiskVanished(volume.device))
        assert stop.is_set()

    scene.engine.on_back_up = look
    scene.work_off(DISK)
    assert scene.done == [("back up", "/dev/sdb1")]


def test_run_with_nothing_to_do_sources_are_read_again_until_something_comes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "LOOK_SECONDS", 0.01)
    stops: list[bool] = []

    def reread(stop: Stop) -> None:
        stops.append(stop.is_set())
        scene.inbox.post(DISK)
        stops.append(stop.is_set())

    scene.engine.on_reread = reread
    scene.engine.on_back_up = lambda _volume, _stop: scene.inbox.post(StopAsked())
    scene.loop.run()
    assert stops == [False, True]
    assert scene.done == [("back up", "/dev/sdb1")]


def test_run_in_a_pause_nothing_is_read_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "LOOK_SECONDS", 0.01)
    reread = threading.Event()
    looks = 0
    get = scene.inbox.get

    def counted(timeout: float | None = None) -> InboxEvent | None:
        nonlocal looks
        looks += 1
        return get(timeout)

    monkeypatch.setattr(scene.inbox, "get", counted)
    scene.engine.on_reread = lambda _stop: reread.set()
    scene.inbox.pause()
    thread = threading.Thread(target=scene.loop.run)
    thread.start()
    wait_until(lambda: looks > 3, "the loop looked around")
    assert not reread.is_set()
    scene.inbox.resume()
    assert reread.wait(20)
    scene.inbox.post(StopAsked())
    thread.join(20)


def test_run_reading_again_pauses_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "LOOK_SECONDS", 0.01)
    begun, ended = threading.Event(), threading.Event()

    def reread(stop: Stop) -> None:
        begun.set()
        wait_until(stop.is_set, "the pause is noticed")
        ended.set()

    scene.engine.on_reread = reread
    thread = threading.Thread(target=scene.loop.run)
    thread.start()
    assert begun.wait(20)
    scene.inbox.pause()
    assert ended.wait(20)
    scene.inbox.post(StopAsked())
    thread.join(20)
