"""What udev knows of block devices, and what blkid finds on them where no udevd runs.

Each function makes a libudev context of its own: libudev objects belong to one thread, and a context is cheap.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Mapping

import pyudev

from distbackupd.model.disks import Volume
from distbackupd.model.errors import DistbackupError

_UDEV_DATABASE = "/run/udev/data"
_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")


def udev_context() -> pyudev.Context:
    """A libudev context for the calling thread; raises DistbackupError where libudev is missing."""
    try:
        return pyudev.Context()
    except ImportError as error:
        raise DistbackupError("libudev.so.1 is not there, so disks cannot be seen; install libudev1") from error


def volume_from_properties(device: str, properties: Mapping[str, str]) -> Volume | None:
    """The volume that these udev properties tell of; None if they tell of no usable file system.

    A btrfs of several devices of which some are still missing is not usable either.
    """
    filesystem_uuid = properties.get("ID_FS_UUID")
    if properties.get("ID_FS_USAGE") != "filesystem" or not filesystem_uuid or properties.get("ID_BTRFS_READY") == "0":
        return None
    label = properties.get("ID_FS_LABEL_ENC", "").encode("utf-8", "surrogateescape")
    label = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), label)
    return Volume(device, filesystem_uuid, properties.get("ID_FS_TYPE", ""), label.decode("utf-8", "replace"))


def plugged_volumes(context: pyudev.Context) -> list[Volume]:
    """Every volume in udev's database, one for each device: members and clones are all told."""
    devices = context.list_devices(subsystem="block").match_property("ID_FS_USAGE", "filesystem")
    volumes = [volume_from_properties(node, device.properties) for device in devices if (node := device.device_node)]
    return [volume for volume in volumes if volume]


def volumes_with_uuid(filesystem_uuid: str) -> list[Volume]:
    """Every plugged-in volume with this UUID, by device; more than one are clones.

    One file system that shows on several devices is not cloned. A device that another one is built upon (multipath,
    LVM, RAID: sysfs names its ``holders``) is left out, the one on top counts. For members see :func:`join_members`.
    Where no udevd ever ran, all devices are probed with blkid, which needs root.
    """
    if os.path.exists(_UDEV_DATABASE):
        matching = udev_context().list_devices(subsystem="block").match_property("ID_FS_UUID", filesystem_uuid)
        found = {node: dict(device.properties) for device in matching if (node := device.device_node)}
    else:
        probed = {device: probe_properties(device) for device in _devices_with_room()}
        found = {device: told for device, told in probed.items() if told.get("ID_FS_UUID") == filesystem_uuid}
    return join_members({device: told for device, told in found.items() if not _is_built_upon(device)})


def join_members(devices: Mapping[str, Mapping[str, str]]) -> list[Volume]:
    """The volumes among devices with one UUID, given their udev properties: clones each, members as one.

    Members differ in ``ID_FS_UUID_SUB``, the device's own UUID (btrfs), while a clone repeats it. So there are as many
    volumes as devices with the most frequent ``ID_FS_UUID_SUB``, and those devices are the ones that are told.
    """
    groups: dict[str, list[Volume]] = defaultdict(list)
    for device, properties in sorted(devices.items()):
        if volume := volume_from_properties(device, properties):
            groups[properties.get("ID_FS_UUID_SUB", "")].append(volume)
    return max(groups.values(), key=len, default=[])


def properties_known_to_udev(number: int) -> dict[str, str]:
    """What udev knows of the block device with this number; empty where it knows nothing."""
    try:
        return dict(pyudev.Devices.from_device_number(udev_context(), "block", number).properties)
    except (pyudev.DeviceNotFoundError, DistbackupError):
        return {}


def probe_properties(device: str) -> dict[str, str]:
    """What blkid reads from the device itself, under udev's names; empty where it finds nothing or may not read."""
    command = ["blkid", "-p", "-o", "udev", device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def is_gone(number: int) -> bool:
    """Whether the device with this number was pulled out: sysfs knows it no more, or it has no room any more."""
    try:
        with open(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/size", encoding="ascii") as size:
            return int(size.read()) == 0
    except OSError:
        return True


def _devices_with_room() -> list[str]:
    numbers = {name: f"/sys/class/block/{name}/dev" for name in sorted(os.listdir("/sys/class/block"))}
    return [f"/dev/{name.replace('!', '/')}" for name, path in numbers.items() if not is_gone(_read_number(path))]


def _read_number(path: str) -> int:
    with open(path, encoding="ascii") as number:
        major, minor = number.read().split(":")
    return os.makedev(int(major), int(minor))


def _is_built_upon(device: str) -> bool:
    try:
        return bool(os.listdir(f"/sys/class/block/{os.path.basename(os.path.realpath(device))}/holders"))
    except OSError:
        return False
