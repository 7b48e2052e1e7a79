"""Letting a disk go: what is said is true, and nothing is switched off that is still needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distbackupd.engine.enrolment import enrol
from distbackupd.engine.release import eject
from distbackupd.engine.reminders import is_reminder_due, remind
from distbackupd.engine.session import SessionOptions, back_up_disk, back_up_volume
from distbackupd.engine.verification import VerificationOptions
from distbackupd.model.disks import BackupDisk, Volume
from distbackupd.model.errors import DiskTrouble, UsageError
from distbackupd.model.events import DiskNotSeen, DiskWanted, DriveInUse, DriveStillNeeded, MayUnplug, Remark, StillMounted
from distbackupd.model.plans import Policy
from distbackupd.store.folder_store import FolderStore
from tests.unit.engine.scenes import NEVER, Scene, scene_at

OPTIONS = SessionOptions(Policy(), VerificationOptions(share=0), power_off=True)
KEY = b"open sesame"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        opened.bench = replace(opened.bench, open_store=lambda root, mount: FolderStore(root, mount.filesystem_type))
        opened.write("a", "content")
        opened.scan()
        yield opened


def enrolled(scene: Scene, name: str, volume: Volume, key: bytes | None = None) -> BackupDisk:
    """The disk on the volume, made known while it is mounted somewhere, and unmounted again."""
    place = scene.place / "media" / name
    scene.mounter.mount_elsewhere(volume, place)
    disk = enrol(scene.bench, name, os.fsencode(place), None, luks_key=key).disk
    scene.mounter.release(volume, name)
    scene.mounter.log.clear()
    scene.reporter.events.clear()
    return disk


def test_done_disk_is_switched_off_and_may_be_unplugged(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    disk = enrolled(scene, "one", volume)
    back_up_volume(scene.bench, volume, OPTIONS, NEVER)
    assert scene.mounter.log == ["mount one", "unmount one", f"power off {volume.device}"]
    assert scene.reporter.told(MayUnplug) == [MayUnplug("one", disk.uuid, powered_off=True)]
    assert MayUnplug("one", "u", powered_off=True).sentence == "one is done and switched off, you may unplug it"


def test_done_disk_that_cannot_be_switched_off_may_be_unplugged_too(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    scene.mounter.can_power_off = False
    disk = enrolled(scene, "one", volume)
    back_up_volume(scene.bench, volume, OPTIONS, NEVER)
    assert scene.reporter.told(MayUnplug) == [MayUnplug("one", disk.uuid)]


def test_done_disk_is_left_on_where_that_is_set(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    enrolled(scene, "one", volume)
    back_up_volume(scene.bench, volume, replace(OPTIONS, power_off=False), NEVER)
    assert scene.mounter.log == ["mount one", "unmount one"]


def test_drive_with_two_disks_is_switched_off_after_the_last(scene: Scene) -> None:
    first = scene.mounter.new_disk()
    second = scene.mounter.new_disk(beside=first)
    stranger = scene.mounter.new_disk(beside=first)
    enrolled(scene, "one", first)
    enrolled(scene, "two", second)
    back_up_volume(scene.bench, first, OPTIONS, NEVER, waiting=[stranger, second])
    assert scene.reporter.told(MayUnplug) == []
    (needed,) = scene.reporter.told(DriveStillNeeded)
    assert needed.sentence == "one is done; leave it plugged in, two on the same drive comes next"
    back_up_volume(scene.bench, second, OPTIONS, NEVER, waiting=[stranger])
    assert [event.disk for event in scene.reporter.told(MayUnplug)] == ["two"]


def test_drive_on_which_somebody_uses_something_else_is_left_on(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    films = scene.mounter.new_disk(beside=volume)
    disk = enrolled(scene, "one", volume)
    scene.mounter.mount_elsewhere(films, scene.place / "media" / "films")
    back_up_volume(scene.bench, volume, OPTIONS, NEVER)
    assert scene.mounter.log == ["mount one", "unmount one"]
    assert scene.reporter.told(MayUnplug) == []
    (in_use,) = scene.reporter.told(DriveInUse)
    assert "films, unmount that before you unplug it" in in_use.sentence
    eject(scene.bench, disk)
    assert scene.reporter.told(MayUnplug) == []
    scene.mounter.release(films, "films")
    eject(scene.bench, disk)
    assert len(scene.reporter.told(MayUnplug)) == 1


def test_disk_on_another_drive_does_not_keep_this_one_on(scene: Scene) -> None:
    first, second = scene.mounter.new_disk(), scene.mounter.new_disk()
    enrolled(scene, "one", first)
    enrolled(scene, "two", second)
    back_up_volume(scene.bench, first, OPTIONS, NEVER, waiting=[second])
    assert [event.disk for event in scene.reporter.told(MayUnplug)] == ["one"]


def test_encrypted_disk_is_unlocked_and_locked_again(scene: Scene) -> None:
    container = scene.mounter.new_disk(key=KEY)
    disk = enrolled(scene, "one", container, KEY)
    assert disk.luks_uuid == container.filesystem_uuid
    back_up_volume(scene.bench, container, OPTIONS, NEVER)
    assert scene.mounter.log == [
        "unlock one",
        "mount one",
        "unmount one",
        "lock one",
        f"power off {container.device}",
    ]
    assert len(scene.reporter.told(MayUnplug)) == 1


def test_encrypted_disk_is_backed_up_by_name_too(scene: Scene) -> None:
    container = scene.mounter.new_disk(key=KEY)
    disk = enrolled(scene, "one", container, KEY)
    begun: list[Volume] = []
    back_up_disk(scene.bench, disk, OPTIONS, NEVER, begun.append)
    assert begun == [container]
    assert len(scene.reporter.told(MayUnplug)) == 1


def test_enrol_with_a_wrong_key_changes_nothing(scene: Scene) -> None:
    container = scene.mounter.new_disk(key=KEY)
    with pytest.raises(UsageError):
        enrolled(scene, "one", container, b"open poppy")
    assert scene.catalogue.disks.all() == []
    assert not (scene.place / "media" / "one" / "distbackup-disk.json").exists()


def test_enrol_with_a_key_for_a_plain_disk_is_refused(scene: Scene) -> None:
    with pytest.raises(UsageError, match="does not lie in a LUKS container"):
        enrolled(scene, "one", scene.mounter.new_disk(), KEY)


def test_what_was_mended_is_told(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    enrolled(scene, "one", volume)
    scene.mounter.leave_unclean(volume, "its file system was mended")
    back_up_volume(scene.bench, volume, OPTIONS, NEVER)
    assert "one: its file system was mended" in [event.sentence for event in scene.reporter.told(Remark)]


def test_named_disk_that_somebody_mounted_stays_mounted(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    disk = enrolled(scene, "one", volume)
    scene.mounter.mount_elsewhere(volume, scene.place / "media" / "one")
    begun: list[Volume] = []
    back_up_disk(scene.bench, disk, OPTIONS, NEVER, begun.append)
    assert [item.device for item in begun] == [volume.device]
    assert len(scene.reporter.told(StillMounted)) == 1
    assert scene.mounter.log == []


def test_named_disk_that_is_not_here_says_what_to_do(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    disk = enrolled(scene, "one", volume)
    scene.mounter.unplug(volume)
    with pytest.raises(DiskTrouble, match="is not here: plug it in"):
        back_up_disk(scene.bench, disk, OPTIONS, NEVER, lambda _volume: None)


def test_eject_unmounts_what_somebody_mounted(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    disk = enrolled(scene, "one", volume)
    scene.mounter.mount_elsewhere(volume, scene.place / "media" / "one")
    eject(scene.bench, disk)
    assert scene.mounter.mounts() == []
    assert scene.reporter.told(MayUnplug) == [MayUnplug("one", disk.uuid, powered_off=True)]


def test_eject_names_who_holds_the_disk(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    disk = enrolled(scene, "one", volume)
    scene.mounter.mount_elsewhere(volume, scene.place / "media" / "one")
    scene.mounter.keep_busy(volume, "PID 7 (bash)")
    with pytest.raises(DiskTrouble, match=r"PID 7 \(bash\)"):
        eject(scene.bench, disk)
    assert scene.reporter.told(MayUnplug) == []


def test_eject_what_is_not_plugged_in_is_refused(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    disk = enrolled(scene, "one", volume)
    scene.mounter.unplug(volume)
    with pytest.raises(DiskTrouble, match="not plugged in"):
        eject(scene.bench, disk)


def test_remind_once_a_day_of_what_stayed_away_and_what_to_bring(scene: Scene) -> None:
    volume = scene.mounter.new_disk()
    disk = enrolled(scene, "one", volume)
    scene.mounter.unplug(volume)
    assert is_reminder_due(scene.bench)
    remind(scene.bench, 90 * 86_400)
    assert [type(event) for event in scene.reporter.events] == [DiskWanted]
    assert not is_reminder_due(scene.bench)
    scene.clock.pass_time(90 * 86_400)
    assert is_reminder_due(scene.bench)
    scene.reporter.events.clear()
    remind(scene.bench, 0)
    assert scene.reporter.told(DiskNotSeen) == []
    remind(scene.bench, 90 * 86_400)
    assert scene.reporter.told(DiskNotSeen) == [DiskNotSeen("one", disk.uuid, 90)]
    scene.clock.pass_time(-400 * 86_400)  # a clock that was set back must not silence us for a year
    assert is_reminder_due(scene.bench)
