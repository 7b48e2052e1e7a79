"""The virtual machine itself does what the other tests rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.machine import Machine, tell


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The image of an empty disk of 64 MiB."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    return path


def test_a_usb_disk_is_one_for_udev_systemd_and_udisks2(machine: Machine, disk: Path) -> None:
    machine.plug("stick", disk)
    device = machine.device("stick")
    machine.run(f"mkfs.ext4 -q -L shelf {device} && udevadm wait --timeout=30 /dev/disk/by-label/shelf")
    assert "ID_BUS=usb\n" in machine.run(f"udevadm info {device}")
    assert "active (plugged)" in machine.run("systemctl status /dev/disk/by-label/shelf")
    machine.run(f"mount {device} /mnt")
    refused = machine.call(f"udisksctl power-off --block-device {device}")
    assert refused.status == 1
    assert "The drive in use: " in refused.err
    tell(f"udisksctl power-off of a mounted disk: {refused.err.strip()}")
    machine.run(f"umount /mnt && udisksctl power-off --block-device {device} && test ! -e {device}")


def test_a_disk_that_is_pulled_out_while_it_is_written_fails_and_can_be_plugged_again(machine: Machine, disk: Path) -> None:
    machine.plug("stick", disk, bytes_per_second=1 << 20)
    machine.run(f"mkfs.ext4 -q {machine.device('stick')} && mount {machine.device('stick')} /mnt")
    writing = machine.start("dd if=/dev/zero of=/mnt/zeros bs=1M count=40 oflag=direct 2>&1")
    machine.run("until [ -s /mnt/zeros ]; do :; done")
    machine.unplug("stick")
    told, _ = writing.communicate(timeout=60)
    assert "error writing '/mnt/zeros'" in told
    tell(told.splitlines()[0])
    machine.run("umount --lazy /mnt")
    machine.plug("stick", disk)
    machine.run(f"e2fsck -p {machine.device('stick')} || test $? = 1; mount {machine.device('stick')} /mnt")
