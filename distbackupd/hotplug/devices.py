"""What udev knows of block devices, and what blkid finds on them where no udevd runs.

Each function makes a libudev context of its own: libudev objects belong to one thread, and a context is cheap.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping

import pyudev

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.commands import CommandFailed, Commands
from distbackupd.model.disks import LUKS, Volume
from distbackupd.model.errors import DistbackupError

_UDEV_DATABASE = "/run/udev/data"
OUR_MAPPINGS = "distbackup-"
"""Begins the device-mapper names of what this program unlocks, so that a later one takes over what a killed one left."""

_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")


def udev_context() -> pyudev.Context:
    """A libudev context for the calling thread; raises DistbackupError where libudev is missing."""
    try:
        return pyudev.Context()
    except ImportError as error:
        raise DistbackupError("libudev.so.1 is not there, so disks cannot be seen; install libudev1") from error


def volume_from_properties(device: str, properties: Mapping[str, str], inside: bool = False) -> Volume | None:
    """The volume that these udev properties tell of; None if they tell of no usable file system or LUKS container.

    A btrfs of several devices of which some are still missing is not usable either. What this program itself unlocked
    is part of its container's session, and a volume only for who asks for what is ``inside``. Where a whole disk shows
    again as a partition of itself, the disk is the volume.
    """
    usable = properties.get("ID_FS_USAGE") == "filesystem" or properties.get("ID_FS_TYPE") == LUKS
    filesystem_uuid = properties.get("ID_FS_UUID")
    if not usable or not filesystem_uuid or properties.get("ID_BTRFS_READY") == "0":
        return None
    if properties.get("DM_NAME", "").startswith(OUR_MAPPINGS) and not inside:
        return None
    if sysfs.begins_with_its_disk(device):
        return None
    label = properties.get("ID_FS_LABEL_ENC", "").encode("utf-8", "surrogateescape")
    label = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), label)
    return Volume(device, filesystem_uuid, properties.get("ID_FS_TYPE", ""), label.decode("utf-8", "replace"))


def plugged_volumes(context: pyudev.Context) -> list[Volume]:
    """Every volume in udev's database that is for us to use, one for each device: members and clones are all told."""
    return [volume for volume in known_volumes(context) if not is_left_alone(volume)]


def is_left_alone(volume: Volume) -> bool:
    """Whether it is a container that somebody else unlocked: what is in it is a volume of its own."""
    mapping = sysfs.mapping_on(volume.device) if volume.encrypted else None
    return mapping is not None and not mapping[0].startswith(OUR_MAPPINGS)


def known_volumes(context: pyudev.Context) -> list[Volume]:
    """Every volume in udev's database, those that are left alone too."""
    devices = context.list_devices(subsystem="block")
    devices.match_property("ID_FS_USAGE", "filesystem").match_property("ID_FS_TYPE", LUKS)  # either of them
    volumes = [volume_from_properties(node, device.properties) for device in devices if (node := device.device_node)]
    return [volume for volume in volumes if volume]


def volumes_with_uuid(filesystem_uuid: str, commands: Commands) -> list[Volume]:
    """Every plugged-in volume with this UUID, by device; more than one are clones.

    One file system that shows on several devices is not cloned. A device that another one is built upon (multipath,
    LVM, RAID: sysfs names its ``holders``) is left out, the one on top counts. For members see :func:`join_members`.
    Where no udevd ever ran, all devices are probed with blkid, which needs root.
    """
    if os.path.exists(_UDEV_DATABASE):
        matching = udev_context().list_devices(subsystem="block").match_property("ID_FS_UUID", filesystem_uuid)
        found = {node: dict(device.properties) for device in matching if (node := device.device_node)}
    else:
        probed = {device: probe_properties(device, commands) for device in sysfs.devices_with_room()}
        found = {device: told for device, told in probed.items() if told.get("ID_FS_UUID") == filesystem_uuid}
    return join_members({device: told for device, told in found.items() if not sysfs.is_built_upon(device)})


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


def properties_of(device: str, commands: Commands) -> dict[str, str]:
    """What udev knows of a device, or where it knows no UUID what blkid finds on it."""
    known = properties_known_to_udev(sysfs.number_of(device))
    return known if "ID_FS_UUID" in known else probe_properties(device, commands)


def properties_known_to_udev(number: int) -> dict[str, str]:
    """What udev knows of the block device with this number; empty where it knows nothing."""
    try:
        return dict(pyudev.Devices.from_device_number(udev_context(), "block", number).properties)
    except (pyudev.DeviceNotFoundError, DistbackupError):
        return {}


def probe_properties(device: str, commands: Commands) -> dict[str, str]:
    """What blkid reads from the device itself, under udev's names; empty where it finds nothing or may not read."""
    try:
        told = commands.attempt(["blkid", "-p", "-o", "udev", "--", device]).output.decode("utf-8", "replace")
    except CommandFailed:
        return {}
    return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
