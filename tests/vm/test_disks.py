"""Sessions on real USB disks, from plug to unplug. Each ends with a restore that equals its source."""

from __future__ import annotations

import pytest

from distbackupd.model.events import MayUnplug, SessionStarted
from tests.vm.machine import tell
from tests.vm.station import UNIT, Station, entry_of, finished, text_of


def test_an_ext4_disk_is_done_and_an_unchanged_one_is_released_at_once(docked: Station) -> None:
    docked.disk("shelf-01", partitions=1)
    news = docked.back_up("shelf-01")
    assert int(finished(news)["DISTBACKUP_COPIED_OBJECTS"]) > 20
    assert "skipped" not in text_of(news)
    news = docked.back_up("shelf-01")
    assert finished(news)["DISTBACKUP_COPIED_OBJECTS"] == "0"
    begin, end = (int(entry_of(kind, news)["__REALTIME_TIMESTAMP"]) for kind in (SessionStarted, MayUnplug))
    work, all_of_it = float(finished(news)["DISTBACKUP_SECONDS"]), (end - begin) / 1e6
    tell(f"an unchanged disk: {work:.1f} s of work, {all_of_it:.1f} s from its recognition until it was off")
    assert all_of_it < 30
    docked.assert_restores("shelf-01")


@pytest.mark.parametrize("filesystem", ["vfat", "exfat", "ntfs", "xfs", "btrfs"])
def test_a_disk_with_another_file_system_takes_a_session(docked: Station, filesystem: str) -> None:
    docked.disk(filesystem, filesystem)
    news = docked.back_up(filesystem)
    assert int(finished(news)["DISTBACKUP_COPIED_OBJECTS"]) > 20
    assert "skipped" not in text_of(news)
    docked.assert_restores(filesystem)


def test_a_luks2_disk_is_unlocked_backed_up_locked_and_switched_off(docked: Station) -> None:
    docked.disk("secret", key="/root/key")
    docked.machine.run("shred --remove /root/key")
    news = docked.back_up("secret")
    assert int(finished(news)["DISTBACKUP_COPIED_OBJECTS"]) > 20
    assert docked.machine.run("dmsetup ls") == "No devices found\n"
    docked.assert_restores("secret")


def test_a_plug_starts_a_stopped_daemon(docked: Station) -> None:
    docked.disk("starter")
    docked.machine.run(f"systemctl stop {UNIT}")
    assert "Started" in text_of(docked.back_up("starter"))
