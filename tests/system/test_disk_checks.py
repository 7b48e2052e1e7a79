"""Disks that were not left clean, or can only be read: mended or refused in one sentence, before anything is written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from distbackupd.hotplug.checking import check
from distbackupd.hotplug.commands import Commands, Finished, Word
from distbackupd.hotplug.mounts import SystemMounter
from distbackupd.model.errors import DiskGone, DiskReadOnly, DiskTrouble
from tests.bed.loop_disks import foreign_disk, loop_disk, make_image, mounted_at, plugged, run

_FAT32_DIRTY, _FAT12_DIRTY, _EXFAT_DIRTY = 0x41, 0x25, 0x6A


def set_byte(device: str, offset: int, value: int) -> None:
    with open(device, "r+b") as disk:
        disk.seek(offset)
        disk.write(bytes([value]))


def byte(device: str, offset: int) -> int:
    with open(device, "rb") as disk:
        os.fsync(disk)
        disk.seek(offset)
        return disk.read(1)[0]


class CountingCommands(Commands):
    """Remembers the names of what was run."""

    def __init__(self) -> None:
        super().__init__()
        self.run_so_far: list[str] = []

    def attempt(self, words: list[Word], given: bytes = b"") -> Finished:  # type: ignore[override]
        self.run_so_far.append(os.fsdecode(words[0]))
        return super().attempt(words, given)


@pytest.mark.needs("ext4", "debugfs")
def test_damage_that_needs_answers_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"))
    with loop_disk(tmp_path) as disk:
        for command in ("clri <2>", "set_super_value state 2"):
            run("debugfs", "-w", "-R", command, disk.device)
        with pytest.raises(DiskTrouble) as trouble, mounter.mounted(disk.volume, "photos-03"):
            pass
        assert str(trouble.value) == (
            f"photos-03 ({disk.device}) has a damaged file system that e2fsck does not mend without asking; "
            f"it was not mounted: run e2fsck {disk.device} and answer it, then plug it in again"
        )
        run("sh", "-c", f"e2fsck -y {disk.device} || [ $? = 1 ]")
        with mounter.mounted(disk.volume, "photos-03") as mount:
            assert mount.remark == ""


@pytest.mark.needs("ext4", "debugfs")
def test_checker_too_old_for_the_disk_leaves_it_to_the_driver(tmp_path: Path) -> None:
    with loop_disk(tmp_path) as disk:
        run("debugfs", "-w", "-R", "feature FEATURE_C31", disk.device)
        assert check(Commands(), disk.volume, "photos-03") == ""


@pytest.mark.needs("loop", "mkfs.vfat", "fsck.vfat")
@pytest.mark.parametrize(("megabytes", "flag"), [(600, _FAT32_DIRTY), (4, _FAT12_DIRTY)])
def test_fat_is_read_whole_only_if_its_driver_had_not_finished(tmp_path: Path, megabytes: int, flag: int) -> None:
    commands = CountingCommands()
    with foreign_disk(tmp_path, "vfat", megabytes) as volume:
        assert check(commands, volume, "usb") == ""
        assert commands.run_so_far == ["head"]
        set_byte(volume.device, flag, byte(volume.device, flag) | 1)
        assert check(commands, volume, "usb") == "its file system was not left clean, fsck.vfat mended it"
        assert byte(volume.device, flag) & 1 == 0
        assert check(commands, volume, "usb") == ""


@pytest.mark.needs("loop", "mkfs.exfat", "fsck.exfat", "mount.exfat-fuse")
def test_exfat_is_read_whole_only_if_its_driver_had_not_finished(tmp_path: Path) -> None:
    commands = CountingCommands()
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"), commands)
    with foreign_disk(tmp_path, "exfat") as volume:
        with mounter.mounted(volume, "usb") as mount:
            assert mount.filesystem_type == "exfat"
            (Path(os.fsdecode(mount.root)) / "file").write_bytes(b"content")
        assert "fsck.exfat" not in commands.run_so_far
        set_byte(volume.device, _EXFAT_DIRTY, 2)
        with mounter.mounted(volume, "usb"):
            pass
        assert "fsck.exfat" in commands.run_so_far


@pytest.mark.needs("loop", "mkfs.ntfs", "mount.ntfs")
def test_ntfs_that_windows_sleeps_on_is_refused(tmp_path: Path) -> None:
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"))
    with foreign_disk(tmp_path, "ntfs") as volume:
        with mounter.mounted(volume, "usb") as mount:
            (Path(os.fsdecode(mount.root)) / "hiberfil.sys").write_bytes(b"hibr" + bytes(8192))
        with pytest.raises(DiskReadOnly) as trouble, mounter.mounted(volume, "usb"):
            pass
        assert str(trouble.value) == (
            "usb can only be read, nothing was changed on it: its file system was not left clean; let Windows check and "
            f"eject it (chkdsk /f), or run ntfsfix --clear-dirty {volume.device}, then plug it in again"
        )
        with mounter.mounted(volume, "usb", read_only=True) as mount:
            assert mount.read_only


@pytest.mark.needs("ext4")
def test_write_protected_disk_is_not_checked_and_says_why_it_cannot_be_written(tmp_path: Path) -> None:
    commands = CountingCommands()
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"), commands)
    disk = make_image(tmp_path / "protected.img")
    with (
        plugged(disk, read_only=True) as volume,
        pytest.raises(DiskReadOnly, match="it has a write-protection switch that is on; turn it off"),
        mounter.mounted(volume, "photos-03"),
    ):
        pass
    assert "e2fsck" not in commands.run_so_far


@pytest.mark.needs("ext4")
def test_mount_that_somebody_made_read_only_says_what_to_do(tmp_path: Path) -> None:
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"))
    place = tmp_path / "elsewhere"
    with loop_disk(tmp_path) as disk:
        with (
            mounted_at(disk.device, place, "-o", "ro"),
            pytest.raises(
                DiskReadOnly, match=r"is mounted read-only at .*/elsewhere, nothing was changed on it; unmount it"
            ),
            mounter.mounted(disk.volume, "photos-03"),
        ):
            pass
        # As a service's sandbox shows what was mounted before the service started.
        with mounted_at(disk.device, place):
            run("mount", "-o", "remount,bind,ro", place)
            with pytest.raises(DiskReadOnly, match="where this program may not write") as trouble:  # noqa: SIM117
                with mounter.mounted(disk.volume, "photos-03"):
                    pass
            assert f"ReadWritePaths={place}" in str(trouble.value)


@pytest.mark.needs("ext4")
def test_disk_pulled_while_it_is_checked_is_gone(tmp_path: Path) -> None:
    with loop_disk(tmp_path) as disk:

        class PullingCommands(Commands):
            def attempt(self, words: list[Word], given: bytes = b"") -> Finished:  # type: ignore[override]
                disk.unplug()
                return super().attempt(words, given)

        with pytest.raises(DiskGone, match="photos-03 was pulled out while it was checked"):
            check(PullingCommands(), disk.volume, "photos-03")


@pytest.mark.needs("ext4")
def test_clean_disk_is_checked_mounted_and_released_in_no_time(tmp_path: Path) -> None:
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"))
    with loop_disk(tmp_path, megabytes=1024) as disk:
        began = time.monotonic()
        with mounter.mounted(disk.volume, "photos-03"):
            pass
        # A tenth of a second here; the rest is for machines that have more to do than this test.
        assert time.monotonic() - began < 0.5
