from __future__ import annotations

from pathlib import Path

import pytest

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.commands import Commands
from distbackupd.hotplug.devices import join_members, probe_properties, volume_from_properties
from distbackupd.model.disks import Volume
from tests.fakes.sysfs import USB, FakeSysfs

USABLE = {"ID_FS_USAGE": "filesystem", "ID_FS_UUID": "1111-2222", "ID_FS_TYPE": "vfat"}


def test_volume_from_properties_decodes_the_label() -> None:
    properties = {**USABLE, "ID_FS_LABEL": "photos_03_ä", "ID_FS_LABEL_ENC": "photos\\x2003\\x20ä"}
    assert volume_from_properties("/dev/sdb", properties) == Volume("/dev/sdb", "1111-2222", "vfat", "photos 03 ä")


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"ID_FS_USAGE": "filesystem"},
        {"ID_FS_USAGE": "crypto", "ID_FS_UUID": "u", "ID_FS_TYPE": "BitLocker"},
        {"ID_FS_USAGE": "other", "ID_FS_UUID": "u", "ID_FS_TYPE": "swap"},
        {"ID_FS_USAGE": "raid", "ID_FS_UUID": "u", "ID_FS_TYPE": "LVM2_member"},
        {**USABLE, "ID_FS_TYPE": "btrfs", "ID_BTRFS_READY": "0"},
    ],
)
def test_volume_from_properties_unusable_is_none(properties: dict[str, str]) -> None:
    assert volume_from_properties("/dev/sdb", properties) is None


def test_volume_from_properties_of_a_disk_that_is_its_own_partition_is_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysfs, "SYSFS", tmp_path)
    fake = FakeSysfs(tmp_path)
    disk, twin = fake.add("sdb"), fake.add("sdb1", place=f"{USB}/sdb", partition="1", start="0")
    assert [volume.device for volume in join_members({disk: USABLE, twin: USABLE})] == [disk]


def test_join_members_clones_are_told_each() -> None:
    volumes = join_members({"/dev/sdc": USABLE, "/dev/sdb": USABLE})
    assert [volume.device for volume in volumes] == ["/dev/sdb", "/dev/sdc"]


def test_join_members_of_one_btrfs_are_one_volume_and_a_clone_of_one_makes_two() -> None:
    first, second = ({**USABLE, "ID_FS_TYPE": "btrfs", "ID_FS_UUID_SUB": sub} for sub in ("a", "b"))
    assert [volume.device for volume in join_members({"/dev/sdb": first, "/dev/sdc": second})] == ["/dev/sdb"]
    volumes = join_members({"/dev/sdb": first, "/dev/sdc": second, "/dev/sdd": second})
    assert [volume.device for volume in volumes] == ["/dev/sdc", "/dev/sdd"]


def test_join_members_nothing_usable_is_empty() -> None:
    assert join_members({"/dev/sdb": {"ID_FS_USAGE": "crypto", "ID_FS_UUID": "u"}}) == []


def test_probe_properties_of_nothing_is_empty() -> None:
    assert probe_properties("/dev/null", Commands()) == {}
    assert probe_properties("/dev/no-such-device", Commands()) == {}
