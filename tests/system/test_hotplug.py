"""Hotplug with real parts: a udevd of our own, loop disks, and disks that fail."""

from __future__ import annotations

import os
import queue
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distbackupd.hotplug.commands import Commands
from distbackupd.hotplug.devices import plugged_volumes, udev_context, volumes_with_uuid
from distbackupd.hotplug.enrolled import ENROLLED_FOLDER, EnrolledDisks
from distbackupd.hotplug.held import held
from distbackupd.hotplug.monitor import DiskMonitor
from distbackupd.hotplug.mounts import SystemMounter
from distbackupd.model.disks import Volume
from distbackupd.model.errors import DiskGone, DiskTrouble
from distbackupd.model.inbox import DiskAppeared, DiskVanished, InboxEvent
from tests.bed.fault_disk import fault_disk
from tests.bed.loop_disks import foreign_disk, loop_disk, make_image, mounted_at, plugged, run
from tests.bed.stand_in_luks import make_luks_image, stand_in_luks
from tests.bed.waiting import wait_until


class Inbox:
    """What the monitor posted. Other tests of this machine plug disks too: only known UUIDs and devices count."""

    def __init__(self) -> None:
        self._events: queue.Queue[InboxEvent] = queue.Queue()
        self.post = self._events.put

    def expect(self, *expected: InboxEvent, quiet: str = "") -> None:
        """These events come next, in any order, and none other about their devices, or the quiet one, in between."""
        waiting = list(expected)
        devices = {quiet} | {_device(event) for event in waiting}
        while waiting:
            event = self._events.get(timeout=10)
            if event in waiting:
                waiting.remove(event)
            else:
                assert _device(event) not in devices, f"{event} came while {waiting} was expected"


def _device(event: InboxEvent) -> str:
    return event.volume.device if isinstance(event, DiskAppeared) else getattr(event, "device", "")


@contextmanager
def monitoring(receive_buffer: int = 1 << 20) -> Iterator[Inbox]:
    inbox = Inbox()
    monitor = DiskMonitor(inbox.post, receive_buffer)
    monitor.start()
    try:
        yield inbox
    finally:
        monitor.stop()


def settle() -> None:
    run("udevadm", "settle", "--timeout=10")


@pytest.mark.needs("ext4", "btrfs")
@pytest.mark.inside_private_udevd
def test_monitor_tells_each_plug_once(tmp_path: Path) -> None:
    early = make_image(tmp_path / "early.img", label="photos 03 ä")
    with plugged(early) as early_volume:
        settle()
        with monitoring() as inbox:
            inbox.expect(DiskAppeared(early_volume))
            with (
                loop_disk(tmp_path, "ext4", "two") as second,
                loop_disk(tmp_path, "btrfs", "three") as third,
            ):
                two, three = second.volume, third.volume
                inbox.expect(DiskAppeared(two), DiskAppeared(three))
                for action in ("add", "change"):
                    run("udevadm", "trigger", "--settle", f"--action={action}", two.device)
            # Had a repeated event been posted, it would come here, before the device is told to be gone.
            inbox.expect(DiskVanished(two.device), DiskVanished(three.device))
            early.unplug()
            inbox.expect(DiskVanished(early_volume.device))
            inbox.expect(DiskAppeared(early.plug()))
            run("udevadm", "trigger", "--settle", "--action=remove", early.device)
            inbox.expect(DiskVanished(early.device))


@pytest.mark.needs("ext4", "sfdisk", "partx", "mkswap")
@pytest.mark.inside_private_udevd
def test_monitor_tells_partitions_but_no_swap(tmp_path: Path) -> None:
    image = tmp_path / "partitioned.img"
    image.touch()
    os.truncate(image, 40 << 20)
    subprocess.run(["sfdisk", "-q", image], input="label: gpt\nsize=16M\nsize=16M\n", text=True, check=True)
    with monitoring() as inbox:
        disk = run("losetup", "--find", "--show", image)
        try:
            run("partx", "--add", disk)
            settle()
            run("mkswap", "-q", f"{disk}p2")
            run("mkfs.ext4", "-q", "-U", "7e1f1e4c-5b6f-4f0e-9d3e-0c1b7c3c9a11", "-L", "one", f"{disk}p1")
            settle()
            inbox.expect(DiskAppeared(Volume(f"{disk}p1", "7e1f1e4c-5b6f-4f0e-9d3e-0c1b7c3c9a11", "ext4", "one")))
            run("partx", "--delete", disk)
            inbox.expect(DiskVanished(f"{disk}p1"))
        finally:
            subprocess.run(["partx", "--delete", disk], capture_output=True, check=False)
            run("losetup", "--detach", disk)


@pytest.mark.needs("ext4")
@pytest.mark.inside_private_udevd
def test_monitor_lists_again_when_events_were_lost(tmp_path: Path) -> None:
    held, release = threading.Event(), threading.Event()
    inbox = Inbox()

    def slow_post(event: InboxEvent) -> None:
        inbox.post(event)
        held.set()
        assert release.wait(30)

    first, second = (make_image(tmp_path / f"{name}.img") for name in ("first", "second"))
    monitor = DiskMonitor(slow_post, receive_buffer=4096)
    with plugged(first) as gone_meanwhile:
        settle()
        monitor.start()
        try:
            assert held.wait(10)
            for _ in range(40):
                run("udevadm", "trigger", "--settle", "--action=change", first.device)
            with plugged(second) as came_meanwhile:
                first.unplug()
                settle()
                release.set()
                inbox.expect(DiskAppeared(gone_meanwhile))
                inbox.expect(DiskVanished(gone_meanwhile.device), DiskAppeared(came_meanwhile))
        finally:
            release.set()
            monitor.stop()


@pytest.mark.needs("ext4")
@pytest.mark.inside_private_udevd
def test_mounter_knows_uuids_from_udev_and_clones(tmp_path: Path) -> None:
    mounter = SystemMounter(b"/run/distbackup-mnt")
    with loop_disk(tmp_path, label="one") as disk:
        settle()
        volume = disk.volume
        assert mounter.attached(volume.filesystem_uuid) == [volume]
        with mounter.mounted(volume, "one") as mount:
            assert mount in mounter.mounts()
            assert mounter.mount_of(mount.root) == mount
        copy = tmp_path / "copy.img"
        run("cp", disk.image, copy)
        device = run("losetup", "--find", "--show", copy)
        settle()
        found = [clone.device for clone in mounter.attached(volume.filesystem_uuid)]
        run("losetup", "--detach", device)
        assert found == sorted([device, volume.device])


@pytest.mark.needs("btrfs")
@pytest.mark.inside_private_udevd
def test_btrfs_on_two_devices_is_one_volume(tmp_path: Path) -> None:
    with loop_disk(tmp_path, "btrfs") as first, loop_disk(tmp_path, "btrfs") as second:
        run("mkfs.btrfs", "-q", "-f", "-d", "single", "-m", "single", first.device, second.device)
        settle()
        uuid = run("blkid", "-p", "-o", "value", "-s", "UUID", first.device)
        volumes = volumes_with_uuid(uuid, Commands())
        assert len(volumes) == 1
        with mounted_at(second.device, tmp_path / "elsewhere") as elsewhere:
            with SystemMounter(b"/run/distbackup-mnt").mounted(volumes[0], "pool") as mount:
                assert (mount.root, mount.ours) == (os.fsencode(elsewhere), False)
            other = Volume(second.device, uuid, "btrfs")
            with SystemMounter(b"/run/distbackup-mnt").mounted(other, "pool") as mount:
                assert not mount.ours


@pytest.mark.needs("loop", "cryptsetup")
@pytest.mark.inside_private_udevd
def test_monitor_tells_a_container_unless_somebody_unlocked_it(tmp_path: Path) -> None:
    disk = make_luks_image(tmp_path / "luks.img", b"secret")
    with stand_in_luks(tmp_path) as commands, plugged(disk) as container:
        settle()
        assert container.encrypted
        assert volumes_with_uuid(container.filesystem_uuid, Commands()) == [container]
        with monitoring() as inbox:
            inbox.expect(DiskAppeared(container))
        commands.unlock_by_somebody(container.device, "luks-desktop")
        settle()
        assert container not in plugged_volumes(udev_context())
        with monitoring() as inbox, loop_disk(tmp_path) as other:
            inbox.expect(DiskAppeared(other.volume))
            # Locked again, to be taken away: had that been told as a plug, it would come here.
            commands.lock_all()
            run("udevadm", "trigger", "--settle", "--action=change", container.device)
            gone = other.device
            other.unplug()
            inbox.expect(DiskVanished(gone), quiet=container.device)
            disk.unplug()
            inbox.expect(DiskVanished(container.device))
            inbox.expect(DiskAppeared(disk.plug()))


@pytest.mark.needs("ext4", "cryptsetup")
@pytest.mark.inside_private_udevd("udev/75-distbackupd.rules")
def test_rule_starts_the_daemon_for_enrolled_disks_only(tmp_path: Path) -> None:
    run("mkdir", "-p", tmp_path / "var")
    # The mount namespace is our own: the machine's /var stays as it is.
    run("mount", "--bind", tmp_path / "var", ENROLLED_FOLDER.parent)
    enrolled, foreign = (make_image(tmp_path / f"{name}.img") for name in ("enrolled", "foreign"))
    encrypted = make_luks_image(tmp_path / "encrypted.img", b"secret")
    EnrolledDisks().note({disk.filesystem_uuid: ["disk"] for disk in (enrolled, encrypted)})
    with plugged(enrolled), plugged(foreign), plugged(encrypted):
        settle()
        for device in (enrolled.device, encrypted.device):
            told = run("udevadm", "info", "--query=property", device).splitlines()
            assert "SYSTEMD_WANTS=distbackupd.service" in told
            assert "UDISKS_AUTO=0" in told
            assert any(line.startswith("TAGS=") and ":systemd:" in line for line in told)
        assert "SYSTEMD_WANTS" not in run("udevadm", "info", "--query=property", foreign.device)
        # As if device-mapper had made it for us: not new to us, but not for the desktop either.
        name = f'KERNEL=="{os.path.basename(enrolled.device)}", ENV{{DM_NAME}}="distbackup-1"\n'
        Path("/run/udev/rules.d/70-dm.rules").write_text(name)
        run("udevadm", "control", "--reload")
        run("udevadm", "trigger", "--settle", "--action=change", enrolled.device)
        told = run("udevadm", "info", "--query=property", enrolled.device).splitlines()
        assert "UDISKS_AUTO=0" in told
        assert not any(line.startswith("SYSTEMD_WANTS=") for line in told)
        assert volumes_with_uuid(enrolled.filesystem_uuid, Commands()) == []
        Path("/run/udev/rules.d/70-dm.rules").unlink()
        run("udevadm", "control", "--reload")
        EnrolledDisks().note({enrolled.filesystem_uuid: []})
        run("udevadm", "trigger", "--settle", "--action=change", enrolled.device)
        assert "SYSTEMD_WANTS" not in run("udevadm", "info", "--query=property", enrolled.device)
    run("umount", ENROLLED_FOLDER.parent)


@pytest.mark.needs("ext4", "xfs", "btrfs")
@pytest.mark.parametrize("filesystem_type", ["ext4", "xfs", "btrfs"])
def test_every_file_system_mounts_with_safe_options(tmp_path: Path, filesystem_type: str) -> None:
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"))
    with loop_disk(tmp_path, filesystem_type) as disk, mounter.mounted(disk.volume, "disk") as mount:
        line = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if disk.device in line)
        assert {"rw", "nosuid", "nodev", "noexec", "noatime"} <= set(line.split()[3].split(","))
        assert mounter.mount_of(mount.root).filesystem_type == filesystem_type
        assert mounter.mount_of(mount.root).filesystem_uuid == disk.filesystem_uuid
        with mounter.mounted(disk.volume, "disk") as again:
            assert (again.root, again.ours) == (mount.root, False)


@pytest.mark.needs("ext4")
def test_mounted_prefers_the_whole_file_system_to_a_part(tmp_path: Path) -> None:
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"))
    with loop_disk(tmp_path) as disk, mounted_at(disk.device, tmp_path / "whole") as whole:
        (whole / "part").mkdir()
        with mounted_at(str(whole / "part"), tmp_path / "part", "--bind"), mounter.mounted(disk.volume, "disk") as mount:
            assert mount.root == os.fsencode(whole)
        with (
            mounted_at(str(whole / "part"), tmp_path / "part", "--bind"),
            mounted_at("none", whole, "-t", "tmpfs"),
            mounter.mounted(disk.volume, "disk") as mount,
        ):
            assert mount.root == os.fsencode(tmp_path / "part")
            assert os.fsencode(whole) in [listed.root for listed in mounter.mounts() if listed.filesystem_type == "tmpfs"]


@pytest.mark.needs("ext4")
def test_mounted_no_file_system_says_so_and_leaves_no_folder(tmp_path: Path) -> None:
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"))
    with loop_disk(tmp_path) as disk:
        with open(disk.device, "r+b") as device:
            device.write(bytes(1 << 16))
        with pytest.raises(DiskTrouble, match=r"photos .*does not carry the file system that udev told of") as trouble:  # noqa: SIM117
            with mounter.mounted(disk.volume, "photos"):
                pass
    assert "\n" not in str(trouble.value)
    assert not (tmp_path / "mnt").exists()


@pytest.mark.needs("ext4")
def test_mounted_waits_until_the_user_lets_go(tmp_path: Path) -> None:
    pauses: list[float] = []
    with loop_disk(tmp_path) as disk:
        held: list[int] = []

        def let_go(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                os.close(held.pop())

        mounter = SystemMounter(os.fsencode(tmp_path / "mnt"), sleep=let_go)
        with mounter.mounted(disk.volume, "disk") as mount:
            held.append(os.open(mount.root, os.O_RDONLY))
        assert pauses == sorted(pauses)
        assert len(pauses) == 3
        assert not os.path.exists(mount.root)


@pytest.mark.needs("ext4")
def test_busy_mount_names_mounts_and_loop_devices_on_it(tmp_path: Path) -> None:
    pauses: list[float] = []
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"), sleep=pauses.append)
    with loop_disk(tmp_path) as disk, loop_disk(tmp_path) as other:
        with pytest.raises(DiskTrouble) as trouble:  # noqa: PT012, SIM117
            with mounter.mounted(disk.volume, "disk") as mount:
                root = Path(os.fsdecode(mount.root))
                (root / "image").write_bytes(bytes(1 << 16))
                loop = run("losetup", "--find", "--show", root / "image")
                (root / "below").mkdir()
                run("mount", other.device, root / "below")
        run("umount", root / "below")
        run("losetup", "--detach", loop)
        wait_until(lambda: mounter.unmount_leftovers() == [], "the leftover is unmounted")
        assert not root.exists()
    assert f"what is mounted at {root}/below" in str(trouble.value)
    assert f"{loop} (attached to {root}/image)" in str(trouble.value)
    assert 4.5 < sum(pauses) < 5.5


@pytest.mark.needs("ext4")
def test_leftovers_of_a_killed_daemon_are_unmounted_or_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "mnt"
    with loop_disk(tmp_path) as disk, loop_disk(tmp_path) as busy:
        run("mkdir", "-p", folder / "idle", folder / "busy", folder / "empty")
        run("mount", disk.device, folder / "idle")
        run("mount", busy.device, folder / "busy")
        mounter = SystemMounter(os.fsencode(folder))
        with (folder / "busy" / "open").open("w"):
            sentences = mounter.unmount_leftovers()
        assert len(sentences) == 1
        assert f"PID {os.getpid()}" in sentences[0]
        assert os.listdir(folder) == ["busy"]
        with mounter.mounted(busy.volume, "named otherwise") as mount:
            assert (mount.root, mount.ours) == (os.fsencode(folder / "busy"), True)
        assert os.listdir(folder) == []


@pytest.mark.needs("nbd", "ext4")
def test_writes_that_are_lost_on_exit_are_told(tmp_path: Path) -> None:
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"))
    with fault_disk(tmp_path / "fault") as disk:
        with pytest.raises(DiskTrouble, match="did not take the last writes"):  # noqa: PT012, SIM117
            with mounter.mounted(disk.volume, "photos") as mount:
                with open(mount.root + b"/file", "wb") as file:
                    file.write(bytes(1 << 20))
                disk.break_writes()
        assert os.listdir(tmp_path / "mnt") == []
        disk.mend()
        with mounter.mounted(disk.volume, "photos"):
            pass


@pytest.mark.needs("nbd", "ext4")
def test_disk_that_dies_is_unmounted_and_told(tmp_path: Path) -> None:
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"), sleep=lambda seconds: None)
    with fault_disk(tmp_path / "fault") as disk:
        with pytest.raises(DiskTrouble, match="did not take the last writes"):  # noqa: PT012, SIM117
            with mounter.mounted(disk.volume, "photos") as mount:
                with open(mount.root + b"/file", "wb") as file:
                    file.write(bytes(1 << 20))
                disk.die()
        assert os.listdir(tmp_path / "mnt") == []


@pytest.mark.needs("loop", "mkfs.ntfs", "mount.ntfs")
def test_ntfs_mounts_with_the_driver_that_is_there(tmp_path: Path) -> None:
    with foreign_disk(tmp_path, "ntfs") as volume:
        mounter = SystemMounter(os.fsencode(tmp_path / "mnt"))
        with mounter.mounted(volume, "usb") as mount:
            assert mount.filesystem_type == "ntfs"
            assert mounter.mount_of(mount.root) == mount
            with mounter.mounted(volume, "again") as again:
                assert (again.root, again.ours) == (mount.root, False)


@pytest.mark.needs("ext4")
def test_surprise_removal_cleans_the_dead_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A loop device that is mounted cannot be pulled, so the kernel's word that the device is gone is faked.
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"), sleep=lambda seconds: None)
    with loop_disk(tmp_path) as disk:
        with pytest.raises(DiskGone, match="photos was pulled out"):  # noqa: PT012, SIM117
            with mounter.mounted(disk.volume, "photos") as mount:
                held = os.open(mount.root, os.O_RDONLY)
                monkeypatch.setattr("distbackupd.hotplug.sysfs.is_gone", lambda number: True)
        assert not os.path.exists(mount.root)
        os.close(held)


@pytest.mark.needs("root", "ext4", "sfdisk", "partx")
@pytest.mark.inside_private_udevd
def test_mounter_knows_what_else_of_a_drive_is_mounted(tmp_path: Path) -> None:
    image = tmp_path / "shared.img"
    image.touch()
    os.truncate(image, 40 << 20)
    subprocess.run(["sfdisk", "-q", image], input="label: gpt\nsize=16M\nsize=16M\n", text=True, check=True)
    drive = run("losetup", "--find", "--show", image)
    mounter = SystemMounter(os.fsencode(tmp_path / "mounts"))
    try:
        run("partx", "--add", drive)
        settle()
        ours = Volume(f"{drive}p1", "7e1f1e4c-5b6f-4f0e-9d3e-0c1b7c3c9a11", "ext4")
        for part, uuid in ((f"{drive}p1", ours.filesystem_uuid), (f"{drive}p2", "7e1f1e4c-5b6f-4f0e-9d3e-0c1b7c3c9a12")):
            run("mkfs.ext4", "-q", "-U", uuid, part)
        with loop_disk(tmp_path) as other, mounted_at(other.device, tmp_path / "other drive"):
            assert mounter.also_mounted(ours) == []
            with mounted_at(f"{drive}p2", tmp_path / "films"):
                assert mounter.also_mounted(ours) == [str(tmp_path / "films")]
            with mounter.mounted(ours, "photos-03"):
                assert mounter.also_mounted(ours) == []
    finally:
        subprocess.run(["partx", "--delete", drive], capture_output=True, check=False)
        run("losetup", "--detach", drive)


@pytest.mark.needs("ext4")
def test_mounted_disk_that_took_the_place_of_another_is_refused_untouched(tmp_path: Path) -> None:
    """udev's word is older than the disk; or its node is no longer that of the device that sysfs tells of."""
    mounter = SystemMounter(os.fsencode(tmp_path / "mnt"))
    with loop_disk(tmp_path) as disk, loop_disk(tmp_path) as other:
        before = other.image.read_bytes()
        expected = Volume(other.device, disk.filesystem_uuid, "ext4")
        with pytest.raises(DiskTrouble, match="does not carry the file system"), mounter.mounted(expected, "photos"):
            pass
        assert other.image.read_bytes() == before
        swapped = tmp_path / "node"
        os.mknod(swapped, stat.S_IFBLK | 0o600, os.stat(other.device).st_rdev)
        with (
            pytest.raises(DiskGone, match="another device now"),
            held(Volume(str(swapped), disk.filesystem_uuid, ""), "photos"),
        ):
            pass


@pytest.mark.needs("ext4")
def test_held_device_is_not_given_to_another_disk(tmp_path: Path) -> None:
    with loop_disk(tmp_path) as disk:
        device, volume = disk.device, disk.volume
        with held(volume, "photos") as number:
            run("losetup", "--detach", device)
            with loop_disk(tmp_path) as other:
                assert (other.device, os.stat(other.device).st_rdev) != (device, number)
        disk.device = ""
