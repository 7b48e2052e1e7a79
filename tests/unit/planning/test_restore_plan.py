from __future__ import annotations

from distbackupd.model.disks import BackupDisk
from distbackupd.planning.disk_choice import Share
from distbackupd.planning.restore_plan import plan_restore


def disk(number: int) -> BackupDisk:
    uuid = f"00000000-0000-4000-8000-{number:012d}"
    return BackupDisk(number, uuid, f"disk-{number}", 10**12, b"", None, None, b"", 0)


DISKS = [disk(1), disk(2), disk(3)]
ONE, TWO, BOTH = frozenset({1}), frozenset({2}), frozenset({1, 2})


def test_plan_restore_time_is_told_of_disks_whose_speed_was_measured():
    plan = plan_restore({ONE: Share(1, 2000), TWO: Share(1, 1000)}, DISKS, (), {}, {1: 100.0})
    assert [(planned.disk.id, planned.seconds) for planned in plan.disks] == [(1, 20.0), (2, None)]
    assert plan.seconds is None
    assert plan_restore({ONE: Share(1, 2000), TWO: Share(1, 1000)}, DISKS, (), {}, {1: 100.0, 2: 50.0}).seconds == 40.0


def test_plan_restore_disk_with_something_of_its_own_cannot_be_replaced():
    plan = plan_restore({ONE: Share(1, 10), BOTH: Share(1, 10), frozenset({2, 3}): Share(1, 10)}, DISKS, (), {}, {})
    assert [(planned.disk.id, planned.replaceable) for planned in plan.disks] == [(1, False), (2, True)]


def test_plan_restore_holder_that_may_not_be_asked_for_replaces_nothing():
    plan = plan_restore({BOTH: Share(1, 10), frozenset({3}): Share(2, 5)}, DISKS[:1], (), {}, {})
    assert [(planned.disk.id, planned.replaceable) for planned in plan.disks] == [(1, False)]
    assert plan.lost == Share(2, 5)
    assert plan.share == Share(1, 10)


def test_plan_restore_nothing_wanted_needs_no_disk_and_no_time():
    plan = plan_restore({}, DISKS, {1}, {}, {1: 100.0})
    assert (plan.disks, plan.share, plan.seconds) == ((), Share(0, 0), None)
