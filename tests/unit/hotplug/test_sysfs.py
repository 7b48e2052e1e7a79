from __future__ import annotations

import os
from pathlib import Path

import pytest

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.commands import CommandFailed, Commands, Word
from distbackupd.hotplug.power import power_off
from tests.fakes.sysfs import USB, FakeSysfs


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSysfs:
    monkeypatch.setattr(sysfs, "SYSFS", tmp_path)
    return FakeSysfs(tmp_path)


def test_numbers_and_nodes_lead_to_each_other(fake: FakeSysfs) -> None:
    device = fake.add("cciss!c0d0")
    assert device == "/dev/cciss/c0d0"
    assert sysfs.device_of(sysfs.number_of(device)) == device
    assert sysfs.number_of("/dev/nothing") == 0
    assert sysfs.device_of(os.makedev(9, 9)) is None


def test_is_gone_without_room_or_entry(fake: FakeSysfs) -> None:
    disk, empty = fake.add("sdb"), fake.add("sdc", size=0)
    assert [sysfs.is_gone(sysfs.number_of(device)) for device in (disk, empty)] == [False, True]
    assert sysfs.devices_with_room() == [disk]
    number = sysfs.number_of(disk)
    fake.unplug("sdb")
    assert sysfs.is_gone(number)
    assert sysfs.is_gone(0)


def test_unlocked_container_is_seen_from_both_sides_and_dies_with_its_disk(fake: FakeSysfs) -> None:
    fake.add("sdb")
    part = fake.add("sdb1", place=f"{USB}/sdb", partition="1")
    inside = fake.add("dm-0", "devices/virtual/block", dm=("distbackup-1", "CRYPT-LUKS2-1-distbackup-1"))
    assert sysfs.mapping_on(part) is None
    fake.build("dm-0", "sdb1")
    assert sysfs.mapping_on(part) == ("distbackup-1", inside)
    assert sysfs.container_under(inside) == part
    assert sysfs.container_under(part) is None
    assert not sysfs.is_built_upon(part)
    assert sysfs.crypt_mappings() == [("distbackup-1", part)]
    assert sysfs.drives_under(inside) == sysfs.drives_under(part) == {"/dev/sdb"}
    assert sysfs.number_of("/dev/mapper/distbackup-1") == sysfs.number_of(inside)
    number = sysfs.number_of(inside)
    assert not sysfs.is_gone(number)
    fake.unplug("sdb1")
    assert sysfs.is_gone(number)
    assert sysfs.crypt_mappings() == [("distbackup-1", "")]


def test_partition_that_begins_with_its_disk_is_told_from_others(fake: FakeSysfs) -> None:
    disk = fake.add("sdb")
    twin = fake.add("sdb1", place=f"{USB}/sdb", partition="1", start="0")
    other = fake.add("sdb2", place=f"{USB}/sdb", partition="2", start="2048")
    assert [sysfs.begins_with_its_disk(device) for device in (disk, twin, other)] == [False, True, False]
    assert sysfs.partitions_that_begin_with(disk) == {twin}
    assert sysfs.partitions_that_begin_with(other) == set()


def test_multipath_lies_on_several_drives_and_hides_what_it_is_built_upon(fake: FakeSysfs) -> None:
    first, second, other = fake.add("sdb"), fake.add("sdc"), fake.add("sdd")
    path = fake.add("dm-0", "devices/virtual/block", dm=("mpatha", "mpath-1"))
    for disk in ("sdb", "sdc"):
        fake.build("dm-0", disk)
    assert [sysfs.is_built_upon(device) for device in (first, second, other, path)] == [True, True, False, False]
    assert sysfs.mapping_on(first) is None
    assert sysfs.drives_under(path) == {first, second}
    assert sysfs.drives_under("/dev/nothing") == set()


def test_is_write_protected_reads_the_switch(fake: FakeSysfs) -> None:
    assert sysfs.is_write_protected(fake.add("sdb", ro="1"))
    assert not sysfs.is_write_protected(fake.add("sdc"))


class Refusing(Commands):
    """Runs nothing; every command says this."""

    def __init__(self, said: str = "") -> None:
        super().__init__()
        self.said = said
        self.asked: list[Word] = []

    def run(self, words: list[Word], given: bytes = b"") -> bytes:  # type: ignore[override]
        self.asked = words
        if self.said:
            raise CommandFailed(self.said, 1)
        return b""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("udisksctl is not installed", "/dev/sdb stays switched on: udisksctl is not installed"),
        (
            "Error powering off drive: The drive in use",
            "/dev/sdb stays switched on: Error powering off drive: The drive in use",
        ),
        ("(udisksctl): GLib-GIO-CRITICAL **: g_dbus", "/dev/sdb stays switched on: udisks2 knows no such drive"),
    ],
)
def test_power_off_refused_is_no_error_and_tells_why(
    fake: FakeSysfs, caplog: pytest.LogCaptureFixture, said: str, told: str
) -> None:
    caplog.set_level("INFO")
    assert not power_off(fake.add("sdb", device="usb"), Refusing(said))
    assert caplog.messages == [told]


def test_power_off_asks_udisks_about_hardware_only(fake: FakeSysfs) -> None:
    commands = Refusing()
    assert power_off(fake.add("sdb", device="usb"), commands)
    assert commands.asked == ["udisksctl", "power-off", "--no-user-interaction", "--block-device", "/dev/sdb"]
    commands.asked = []
    assert not power_off(fake.add("loop0", "devices/virtual/block"), commands)
    assert commands.asked == []
