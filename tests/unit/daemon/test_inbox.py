from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from distbackupd.daemon.inbox import Inbox, StopToken
from distbackupd.model.disks import Volume
from distbackupd.model.inbox import DiskAppeared, DiskVanished, InboxEvent, JobDue, ReloadAsked, SourceTouched, StopAsked


def disk(device: str = "/dev/sdb1", uuid: str = "u1") -> DiskAppeared:
    return DiskAppeared(Volume(device, uuid, "ext4"))


def drain(inbox: Inbox) -> list[InboxEvent]:
    events = []
    while (event := inbox.get(0)) is not None and len(events) < 100:
        events.append(event)
        if isinstance(event, StopAsked):
            break
    return events


def filled(*events: InboxEvent) -> Inbox:
    inbox = Inbox()
    for event in events:
        inbox.post(event)
    return inbox


def test_get_empty_times_out() -> None:
    assert Inbox().get(0) is None
    assert Inbox().get(0.01) is None


def test_get_waits_for_a_post_of_another_thread() -> None:
    inbox = Inbox()
    poster = threading.Timer(0.02, inbox.post, [JobDue("scan")])
    poster.start()
    assert inbox.get(20) == JobDue("scan")
    poster.join()


def test_get_keeps_the_order() -> None:
    events: list[InboxEvent] = [JobDue("scan"), disk(), SourceTouched(b"/a"), ReloadAsked(), JobDue("tend")]
    assert drain(filled(*events)) == events


def test_post_same_work_is_pending_once() -> None:
    events: list[InboxEvent] = [disk(), SourceTouched(b"/a"), JobDue("scan"), ReloadAsked()]
    others: list[InboxEvent] = [SourceTouched(b"/b"), JobDue("tend"), disk("/dev/sdc1")]
    given_at_last = drain(filled(*events, *events, *others))
    assert len(given_at_last) == len(events + others)
    assert set(given_at_last) == {*events, *others}


def test_post_other_volume_on_the_device_replaces_the_pending_one() -> None:
    assert drain(filled(disk(uuid="old"), disk(uuid="new"))) == [disk(uuid="new")]


def test_post_vanished_takes_its_disk_away_and_no_other() -> None:
    inbox = filled(disk(), disk("/dev/sdc1"), DiskVanished("/dev/sdb1"))
    assert drain(inbox) == [disk("/dev/sdc1"), DiskVanished("/dev/sdb1")]


def test_post_plugged_again_is_pending_again() -> None:
    inbox = filled(disk(), DiskVanished("/dev/sdb1"), disk())
    assert drain(inbox) == [DiskVanished("/dev/sdb1"), disk()]


def test_post_stop_jumps_the_queue_and_stops_the_job_in_hand() -> None:
    inbox = filled(disk(), JobDue("scan"))
    inbox.get(0)
    assert not inbox.job_stop.is_set()
    inbox.post(StopAsked())
    assert inbox.job_stop.is_set()
    assert inbox.job_stop.reason == "the daemon is asked to end"
    assert inbox.get(0) == StopAsked()
    assert inbox.get(0) == StopAsked()


def test_post_vanished_stops_the_job_on_that_disk_only() -> None:
    inbox = filled(disk())
    inbox.get(0)
    inbox.post(DiskVanished("/dev/sdc1"))
    assert not inbox.job_stop.is_set()
    inbox.post(DiskVanished("/dev/sdb1"))
    assert inbox.job_stop.is_set()
    assert inbox.job_stop.reason == "/dev/sdb1 was unplugged"
    assert not inbox.stop.is_set()


def test_post_vanished_after_the_job_stops_nothing() -> None:
    inbox = filled(disk())
    inbox.get(0)
    inbox.get(0)
    inbox.post(DiskVanished("/dev/sdb1"))
    assert not inbox.job_stop.is_set()


def test_get_next_job_has_a_fresh_stop() -> None:
    inbox = filled(disk(), JobDue("scan"))
    inbox.get(0)
    inbox.post(DiskVanished("/dev/sdb1"))
    assert inbox.get(0) == JobDue("scan")
    assert not inbox.job_stop.is_set()


def test_take_touched_gives_all_by_path_and_leaves_the_rest() -> None:
    inbox = filled(SourceTouched(b"/b"), JobDue("scan"), SourceTouched(b"/a"))
    assert inbox.take_touched() == [b"/a", b"/b"]
    assert inbox.take_touched() == []
    assert drain(inbox) == [JobDue("scan")]


def test_keep_until_retry_is_not_pending() -> None:
    inbox = filled(disk())
    event = inbox.get(0)
    assert event is not None
    inbox.keep(event)
    assert inbox.waiting() == [disk()]
    assert inbox.get(0) is None
    inbox.retry()
    assert inbox.waiting() == []
    assert inbox.get(0) == disk()


def test_keep_disk_that_vanished_meanwhile_is_dropped() -> None:
    inbox = filled(disk())
    event = inbox.get(0)
    assert event is not None
    inbox.post(DiskVanished("/dev/sdb1"))
    inbox.keep(event)
    assert inbox.waiting() == []


def test_post_vanished_takes_a_kept_disk_away() -> None:
    inbox = filled(disk())
    event = inbox.get(0)
    assert event is not None
    inbox.keep(event)
    inbox.post(DiskVanished("/dev/sdb1"))
    inbox.retry()
    assert drain(inbox) == [DiskVanished("/dev/sdb1")]


def test_post_plugged_again_replaces_a_kept_disk() -> None:
    inbox = filled(disk(uuid="old"))
    event = inbox.get(0)
    assert event is not None
    inbox.keep(event)
    inbox.post(disk(uuid="new"))
    inbox.retry()
    assert drain(inbox) == [disk(uuid="new")]


def test_stop_token_first_reason_stays() -> None:
    token = StopToken()
    assert token.reason == ""
    token.set("one")
    token.set("two")
    assert token.reason == "one"
    assert StopToken(token).is_set()
    assert StopToken(token).reason == "one"


posts = st.one_of(
    st.builds(disk, st.sampled_from(["/dev/a", "/dev/b"]), st.sampled_from(["u1", "u2"])),
    st.builds(DiskVanished, st.sampled_from(["/dev/a", "/dev/b"])),
    st.builds(SourceTouched, st.sampled_from([b"/x", b"/y"])),
    st.builds(JobDue, st.sampled_from(["scan", "tend"])),
    st.just("get"),
    st.just("keep"),
    st.just("retry"),
)


@given(st.lists(posts, max_size=40))
def test_inbox_any_order_a_plugged_disk_is_worked_on_and_a_gone_one_is_not(steps: list[InboxEvent | str]) -> None:
    """Whatever comes when: at the end exactly the disks are given that are plugged in and were not given before."""
    inbox = Inbox()
    owed: dict[str, DiskAppeared] = {}
    hand: InboxEvent | None = None
    for step in steps:
        if step == "get":
            hand = inbox.get(0)
            if isinstance(hand, DiskAppeared):
                assert owed.pop(hand.volume.device) == hand
        elif step == "keep":
            if isinstance(hand, DiskAppeared):
                inbox.keep(hand)
                if not inbox.job_stop.is_set():
                    owed.setdefault(hand.volume.device, hand)
            hand = None
        elif step == "retry":
            inbox.retry()
        elif isinstance(step, InboxEvent):
            inbox.post(step)
            if isinstance(step, DiskAppeared):
                owed[step.volume.device] = step
            elif isinstance(step, DiskVanished):
                owed.pop(step.device, None)
    inbox.retry()
    given_at_last = [event for event in drain(inbox) if isinstance(event, DiskAppeared)]
    assert {event.volume.device: event for event in given_at_last} == owed
