from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distbackupd.agent.notices import (
    LOCKED_SHOWN,
    SENTENCES_KEPT,
    Action,
    Narrator,
    Notice,
    Stage,
    Telling,
    Urgency,
    Withdrawn,
    capital,
    still_matters,
)
from distbackupd.control.wire import News, details_of
from distbackupd.model import events
from distbackupd.model.events import (
    AnswersAgain,
    BadCopyFound,
    Braked,
    BrakeLifted,
    BrakeReleased,
    ClockWrong,
    ContentLost,
    ContentsChanged,
    CopiesGone,
    CopiesMended,
    DiskNotSeen,
    DiskRefused,
    DiskWanted,
    DriveInUse,
    DriveStillNeeded,
    Event,
    FileSkipped,
    MayUnplug,
    NotAnswering,
    Paused,
    Remark,
    Resumed,
    ScanFailed,
    ScanFinished,
    ScanStarted,
    SessionFailed,
    SessionFinished,
    SessionInterrupted,
    SessionStarted,
    SourceHealed,
    SourceLocked,
    SourceRotted,
    StillMounted,
    WatchLimited,
)
from distbackupd.model.standing import Told

STARTED = SessionStarted("photos-03", "u3", "/run/distbackup-mnt/photos-03")
FINISHED = SessionFinished("photos-03", "u3", 212, 517_000_000_000, 0, 0, 40, 2, 0, 0, 2280.0)
OFF = MayUnplug("photos-03", "u3", powered_off=True)
NOT_OFF = MayUnplug("photos-03", "u3", powered_off=False)
FAILED = SessionFailed("photos-03", "u3", "photos-03 was pulled out; what was copied is recorded, plug it in again")
BAD = BadCopyFound("photos-03", "u3", "ab" * 32, b"/photos/a.jpg", "its content differs")
ROTTED = SourceRotted(b"/photos/a.jpg", "photos-03 and photos-04")
LOST = ContentLost("photos-03", "u3", 2, b"/photos/a.jpg")
WANTED = DiskWanted("music-01", "u1", 1, 3_100_000_000_000)
UNSEEN = DiskNotSeen("old-7", "u7", 90)
REFUSED = DiskRefused("photos-03", "it is a clone of another plugged-in disk")
LOCKED = SourceLocked(b"/videos", "its folder is empty")
ONE_OF_EACH = [
    STARTED, FINISHED, OFF, NOT_OFF, FAILED, BAD, WANTED, UNSEEN, REFUSED, LOCKED,
    CopiesGone("photos-03", "u3", 200, 3),
    ROTTED, LOST, CopiesMended("photos-03", "u3", 2), SourceHealed(b"/photos/a.jpg", b"/photos/a.jpg.replaced-2026-11-26"),
    SessionInterrupted("photos-03", "u3", 7), DriveStillNeeded("photos-03", "u3", "photos-04"),
    DriveInUse("photos-03", "u3", "/media/me/films"),
    NotAnswering("photos-03", "disk", 120), AnswersAgain("photos-03", 150),
    StillMounted("photos-03", "u3", "/media/me/photos"), Paused(), Resumed(), ScanStarted(2),
    ScanFinished(9, 1, 2, 3, 4, 5, 6, 7, 8.0), ScanFailed("the catalogue is damaged"),
    Braked("photos-03", "u3", "the brake is on: 900 vanished. Say so"), BrakeReleased(), BrakeLifted(),
    ClockWrong("the clock jumped"),
    FileSkipped(b"/a", "it is being written"), ContentsChanged(b"/a", 2), Remark("so"), WatchLimited(1, 2),
]  # fmt: skip


def news(*told: Event, first: int = 1) -> list[News]:
    return [News(*details_of(Told(number, 1_700_000_000, event))) for number, event in enumerate(told, first)]


def tell(*told: Event, narrator: Narrator | None = None) -> Telling:
    narrator = narrator or Narrator()
    return [one for each in news(*told) for one in narrator.hear(each)]


def last(*told: Event) -> Notice:
    """The notice that these end with."""
    notice = tell(*told)[-1]
    assert isinstance(notice, Notice)
    return notice


def screen(telling: Telling) -> dict[str, Notice]:
    """What is on the screen at the end."""
    shown: dict[str, Notice] = {}
    for told in telling:
        if isinstance(told, Notice):
            shown[told.key] = told
        else:
            shown.pop(told.key, None)
    return shown


def test_every_kind_of_event_is_thought_of_here() -> None:
    bases = {events.Event, events.DiskEvent}
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert {type(event) for event in ONE_OF_EACH} == kinds - bases


def test_hear_what_only_the_journal_needs_tells_nothing() -> None:
    quiet = (
        Paused, Resumed, ContentsChanged, CopiesMended, ScanStarted, ScanFinished, FileSkipped, Remark, WatchLimited,
        SessionFinished,
    )  # fmt: skip
    for event in ONE_OF_EACH:
        assert (tell(event) == []) == isinstance(event, quiet), event


def test_hear_a_flood_of_skipped_files_tells_nothing() -> None:
    assert tell(*[FileSkipped(b"/a/%d" % number, "gone") for number in range(5000)]) == []


def test_hear_what_stands_still_is_shown_until_it_moves() -> None:
    still = NotAnswering("photos-03", "disk", 120)
    (notice,) = [notice for notice in screen(tell(STARTED, still)).values() if notice.title != "Backing up to photos-03"]
    assert notice.title == "photos-03 does not answer"
    assert notice.body.startswith("photos-03 has not answered for 2 min; what was recorded is safe")
    (notice,) = screen(tell(NotAnswering("", "source", 120))).values()
    assert notice.title == "The backup stands still"
    assert list(screen(tell(STARTED, still, AnswersAgain("photos-03", 150)))) == ["disk:photos-03"]
    assert list(screen(tell(still, STARTED))) == ["disk:photos-03"]


def test_hear_a_session_begins_offers_progress() -> None:
    notice = tell(STARTED)[0]
    assert isinstance(notice, Notice)
    assert (notice.title, notice.actions, notice.urgency) == ("Backing up to photos-03", (Action.PROGRESS,), Urgency.NORMAL)


def test_hear_a_session_ends_takes_the_place_of_its_beginning() -> None:
    shown = screen(tell(STARTED, FINISHED, OFF))
    (done,) = shown.values()
    assert done.title == "You may unplug photos-03"
    assert done.body == (
        "It is done and switched off\n"
        "Copied 212 objects (517 GB), checked 40 objects in 38 min; 2 files skipped, to be tried again"
    )
    assert done.actions == (Action.DETAILS,)
    assert done.stays


def test_hear_a_disk_that_could_not_be_switched_off_offers_to_eject_it() -> None:
    assert Action.EJECT in last(STARTED, FINISHED, NOT_OFF).actions
    mounted = last(STARTED, FINISHED, StillMounted("photos-03", "u3", "/media/me/photos"))
    assert Action.EJECT in mounted.actions
    assert "still mounted" in mounted.title
    assert "/media/me/photos" in mounted.body


def test_hear_another_disk_on_the_drive_comes_next_says_leave_it() -> None:
    notice = last(STARTED, FINISHED, DriveStillNeeded("photos-03", "u3", "photos-04"))
    assert notice.title == "photos-03 is done"
    assert notice.body.startswith("Leave it plugged in, photos-04 on the same drive comes next")


def test_hear_a_failure_then_unplug_still_tells_the_failure() -> None:
    (notice,) = screen(tell(STARTED, FAILED, NOT_OFF)).values()
    assert notice.urgency is Urgency.CRITICAL
    assert notice.title == "photos-03: backup stopped"
    assert "was pulled out" in notice.body
    assert "unplug" in notice.body


def test_hear_a_failure_is_forgotten_by_the_next_session() -> None:
    (notice,) = screen(tell(STARTED, FAILED, STARTED, FINISHED, OFF)).values()
    assert notice.urgency is Urgency.NORMAL
    assert notice.title == "You may unplug photos-03"


def test_hear_bad_copies_are_counted_and_outlast_the_session() -> None:
    shown = screen(tell(STARTED, BAD, BAD, BAD, FINISHED, OFF))
    assert shown["bad:photos-03"].title == "3 bad copies on photos-03"
    assert shown["disk:photos-03"].title == "You may unplug photos-03"


def test_hear_only_failures_are_critical() -> None:
    for event in ONE_OF_EACH:
        for told in tell(event):
            if isinstance(told, Notice):
                assert (told.urgency is Urgency.CRITICAL) == (event.severity <= 3), event


def test_hear_locked_sources_are_one_notice() -> None:
    locked = [SourceLocked(b"/s%d" % number, "its folder is empty") for number in range(50)]
    (notice,) = screen(tell(*locked)).values()
    lines = notice.body.splitlines()
    assert len(lines) == LOCKED_SHOWN + 1
    assert lines[0].startswith("/s0: its folder is empty")
    assert lines[-1] == "and 47 more"
    assert "more" not in last(*locked, ScanStarted(2), LOCKED).body


def test_hear_the_wanted_disk_is_plugged_in_withdraws_the_wish() -> None:
    assert screen(tell(WANTED)).keys() == {"wanted"}
    assert last(WANTED).title == "Bring music-01"
    assert last(WANTED).body == "3.10 TB have one copy only"
    assert "wanted" in screen(tell(WANTED, STARTED))
    assert "wanted" not in screen(tell(WANTED, SessionStarted("music-01", "u1", "/x")))


def test_hear_a_disk_that_stayed_away_until_it_comes() -> None:
    assert last(UNSEEN).title == "old-7 was not seen for 90 days"
    assert "unseen:old-7" not in screen(tell(UNSEEN, SessionStarted("old-7", "u7", "/x")))


def test_hear_trouble_with_a_volume_of_two_disks_ends_both_sessions() -> None:
    narrator = Narrator()
    both = SessionFailed("one, two", "u", "one, two: no answer")
    shown = screen(tell(SessionStarted("one", "1", "/x"), SessionStarted("two", "2", "/x"), both, narrator=narrator))
    assert shown.keys() == {"disk:one"}
    assert shown["disk:one"].urgency is Urgency.CRITICAL
    assert narrator.running == []


def test_hear_an_error_of_an_unknown_kind_is_told_and_less_is_not() -> None:
    def unknown(severity: int) -> Telling:
        return Narrator().hear(News(1, 1, "SkyFell", severity, "", "the sky fell", {}))

    assert unknown(4) == []
    (notice,) = unknown(3)
    assert isinstance(notice, Notice)
    assert notice.body == "the sky fell"


def test_orphaned_tells_of_running_sessions_once() -> None:
    narrator = Narrator()
    tell(STARTED, narrator=narrator)
    (notice,) = narrator.orphaned()
    assert isinstance(notice, Notice)
    assert (notice.key, notice.urgency) == ("disk:photos-03", Urgency.CRITICAL)
    assert "Leave the disk plugged in" in notice.body
    assert narrator.orphaned() == []


def test_details_are_the_newest_sentences_and_what_goes_on() -> None:
    narrator = Narrator()
    tell(STARTED, *[BAD] * 20, FINISHED, OFF, narrator=narrator)
    lines = narrator.details("photos-03", "idle; bring music-01").body.splitlines()
    assert len(lines) == SENTENCES_KEPT + 1
    assert lines[-2:] == ["photos-03 is done and switched off, you may unplug it", "Now: idle; bring music-01"]
    assert narrator.details("never-heard-of").body


def test_progress_takes_the_place_of_the_beginning() -> None:
    narrator = Narrator()
    began = tell(STARTED, narrator=narrator)[0]
    notice = narrator.progress("photos-03", "photos-03: copying 41% (212 of 517 GB), 38 min left", 41)
    assert notice.key == began.key
    assert (notice.body, notice.percent) == ("Copying 41% (212 of 517 GB), 38 min left", 41)


def test_still_matters_shows_each_key_once_and_no_session_that_ended() -> None:
    telling = tell(STARTED, FINISHED, OFF, WANTED, WANTED, SessionStarted("shelf-2", "u2", "/x"))
    assert [notice.key for notice in still_matters(telling, [], first=False)] == ["disk:photos-03", "wanted"]
    assert [notice.key for notice in still_matters(telling, ["shelf-2"], first=False)] == [
        "disk:photos-03",
        "wanted",
        "disk:shelf-2",
    ]


def test_still_matters_at_the_first_time_leaves_history_out() -> None:
    telling = tell(FAILED, STARTED, FINISHED, OFF, WANTED, BAD)
    assert [notice.key for notice in still_matters(telling, [], first=True)] == ["wanted", "bad:photos-03"]


def test_capital_leaves_names_and_paths_as_they_are() -> None:
    assert capital("a: copied 1 object", "a") == "Copied 1 object"
    assert capital("shelf-1 was pulled out", "shelf-1") == "shelf-1 was pulled out"
    assert capital("/photos: its folder is empty", "") == "/photos: its folder is empty"
    assert len(capital("x" * 5000, "")) == 400


@given(st.lists(st.sampled_from(ONE_OF_EACH), max_size=40))
def test_hear_any_story_keeps_one_notification_per_disk(story: list[Event]) -> None:
    narrator = Narrator()
    telling = tell(*story, narrator=narrator)
    keys = {told.key for told in telling}
    assert keys <= {
        "disk:photos-03",
        "details:photos-03",
        "bad:photos-03",
        "lost:photos-03",
        "gone:photos-03",
        "other:photos-03",
        "rotted",
        "unseen:photos-03",
        "unseen:old-7",
        "wanted",
        "locked",
        "brake",
        "clock",
        "scan",
        "still",
    }
    running = screen(telling).get("disk:photos-03")
    assert (running is not None and running.stage is Stage.BEGUN) == (narrator.running == ["photos-03"])
    for told in telling:
        assert isinstance(told, Withdrawn) or (told.title and "\n" not in told.title and len(told.actions) <= 3)
    shown = still_matters(telling, narrator.running, first=False)
    assert {notice.key: notice for notice in shown} == screen(telling)


def test_hear_a_failed_scan_stays_until_a_scan_of_everything_succeeds() -> None:
    finished = ScanFinished(9, 1, 2, 3, 4, 5, 6, 7, 8.0)
    failed = ScanFailed("the catalogue is damaged")
    shown = screen(tell(ScanStarted(2), failed, finished))
    assert shown["scan"].title == "The backup's scan failed", "what was touched was scanned since, not everything"
    assert shown["scan"].body.startswith("The scan failed: the catalogue is damaged;")
    assert screen(tell(ScanStarted(2), failed, finished, ScanStarted(2), finished)) == {}


def test_hear_the_brake_stays_until_it_is_released() -> None:
    reason = "the brake is on: of 900 files 400 vanished. Nothing is deleted on any disk; say 'dsb brake release'"
    braked = Braked("photos-03", "u3", reason)
    notice = last(braked)
    assert (notice.title, notice.stays) == ("Nothing is deleted: the sources look wrong", True)
    assert notice.body == "Of 900 files 400 vanished. Nothing is deleted on any disk; say 'dsb brake release'"
    assert screen(tell(braked, Braked("music-01", "u1", reason))).keys() == {"brake"}
    assert screen(tell(braked, BrakeReleased())) == {}


def test_hear_rotten_sources_are_one_notice_that_stays_until_they_are_healed() -> None:
    narrator = Narrator()
    first, second = tell(ROTTED, SourceRotted(b"/photos/b.jpg", ""), narrator=narrator)
    assert isinstance(first, Notice)
    assert isinstance(second, Notice)
    assert (first.title, second.title) == ("1 damaged source file", "2 damaged source files")
    assert (first.key, first.urgency, first.stays) == (second.key, Urgency.CRITICAL, True)
    assert "/photos/a.jpg: its content changed, but not its size and time, so it rotted" in first.body
    assert "the good content is on photos-03 and photos-04, see 'dsb heal'" in first.body
    assert "no disk has the good content" in second.body
    assert tell(SourceHealed(b"/photos/b.jpg", b"/photos/b.jpg.replaced-2026-11-26"), narrator=narrator) == [
        Withdrawn(first.key)
    ]


def test_hear_content_that_is_lost_is_told_loudly() -> None:
    (notice,) = tell(LOST)
    assert isinstance(notice, Notice)
    assert (notice.urgency, notice.stays) == (Urgency.CRITICAL, True)
    assert "the last good copy of 2 contents, that of /photos/a.jpg among them, is gone" in notice.body.replace(
        "The", "the", 1
    )
