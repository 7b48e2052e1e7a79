"""Block devices as the kernel lists them in sysfs: no device is opened, and no node below /dev is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SYSFS = Path("/sys")

_NO_NUMBER = 0

_ANSWERED = (0, 4, 11, 15)
"""Places in a device's ``stat``: reads, writes, discards, flushes."""
_IN_FLIGHT = 8


def number_of(device: str) -> int:
    """The number of a block device by its node, 0 where there is no such device."""
    return _read_number(_entry(device))


def device_of(number: int) -> str | None:
    """The node of the block device with this number, as udev names it: ``/dev/dm-0``, not ``/dev/mapper/music``."""
    for fact in _read(_entry_of_number(number) / "uevent").splitlines():
        if fact.startswith("DEVNAME="):
            return "/dev/" + fact.removeprefix("DEVNAME=")
    return None


def is_gone(number: int) -> bool:
    """Whether the device with this number was pulled out: sysfs knows it no more, or it has no room any more.

    An unlocked LUKS container outlives its disk: it is gone when no device below it is there.
    """
    entry = _entry_of_number(number)
    if int(_read(entry / "size") or "0") == 0:
        return True
    return _is_crypt(entry) and all(is_gone(_read_number(below)) for below in _neighbours(entry, "slaves"))


def is_write_protected(device: str) -> bool:
    """Whether the kernel refuses every write to it, as with a switch on the disk."""
    return _read(_entry(device) / "ro") == "1"


def is_hardware(drive: str) -> bool:
    """Whether there is a device behind it that could be unplugged; a loop device is none."""
    return (_entry(drive) / "device").exists()


def requests_of(device: str) -> tuple[int, int] | None:
    """How many requests the device has answered, and for how many answers the kernel waits now; None: nobody knows."""
    figures = [int(word) for word in _read(_entry(device) / "stat").split()]
    if len(figures) < _IN_FLIGHT + 1:
        return None
    return sum(figures[place] for place in _ANSWERED if place < len(figures)), figures[_IN_FLIGHT]


def devices_with_room() -> list[str]:
    """The nodes of all block devices that hold anything; empty loop devices and card readers are none."""
    numbers = [_read_number(entry) for entry in sorted((SYSFS / "class/block").iterdir())]
    return [device for number in numbers if not is_gone(number) and (device := device_of(number))]


def is_built_upon(device: str) -> bool:
    """Whether multipath, RAID or LVM shows what is on the device on one of its own. (An unlocked container does not.)"""
    return any(not _is_crypt(above) for above in _neighbours(_entry(device), "holders"))


def begins_with_its_disk(device: str) -> bool:
    """Whether it is a partition in which everything shows that is on the whole disk.

    mkfs.vfat makes such a one, for Windows: its boot sector is a partition table too, of a partition that begins at 0.
    """
    entry = _entry(device)
    return (entry / "partition").exists() and _read(entry / "start") == "0"


def partitions_that_begin_with(disk: str) -> set[str]:
    """The nodes of the partitions in which everything shows that is on this whole disk."""
    nodes = (device_of(_read_number(path.parent)) for path in _entry(disk).glob("*/partition"))
    return {node for node in nodes if node and begins_with_its_disk(node)}


def mapping_on(device: str) -> tuple[str, str] | None:
    """The name and the node of what the container on this device is unlocked as; None: it is locked."""
    for above in _neighbours(_entry(device), "holders"):
        if _is_crypt(above) and (node := device_of(_read_number(above))):
            return _read(above / "dm/name"), node
    return None


def container_under(device: str) -> str | None:
    """The node of the container that this device is the unlocked inside of; None: it is no such device."""
    entry = _entry(device)
    below = _neighbours(entry, "slaves") if _is_crypt(entry) else []
    return next((node for one in below if (node := device_of(_read_number(one)))), None)


def crypt_mappings() -> list[tuple[str, str]]:
    """The name of each unlocked container, and its node: empty if the container was pulled out."""
    entries = [path.parent.parent for path in sorted((SYSFS / "class/block").glob("*/dm/name"))]
    return [(_read(one / "dm/name"), container_under(f"/dev/{one.name}") or "") for one in entries if _is_crypt(one)]


def drives_under(device: str) -> set[str]:
    """The nodes of the whole disks that the device lies on, through partitions and device-mapper; empty: it is gone."""
    return {node for disk in _disks_under(_entry(device)) if (node := device_of(_read_number(disk)))}


def _is_crypt(entry: Path) -> bool:
    """Whether this device (by its folder in sysfs) is the unlocked inside of a container."""
    return _read(entry / "dm/uuid").startswith("CRYPT-")


def _disks_under(entry: Path) -> Iterator[Path]:
    below = _neighbours(entry, "slaves")
    for one in below:
        yield from _disks_under(one)
    if not below and entry.exists():
        real = entry.resolve()
        yield real.parent if (real / "partition").exists() else real


def _neighbours(entry: Path, kind: str) -> list[Path]:
    """Devices below (``slaves``) or above (``holders``) this one; those that are gone are left out."""
    with suppress(OSError):
        return [SYSFS / "class/block" / name for name in sorted(os.listdir(entry / kind))]
    return []


def _entry(device: str) -> Path:
    """Its folder in sysfs. ``/dev/mapper/music`` is found also where a private /dev lacks that link."""
    if device.startswith("/dev/mapper/") and not os.path.exists(device):
        named = (path.parent.parent for path in (SYSFS / "class/block").glob("*/dm/name"))
        return next((one for one in named if _read(one / "dm/name") == device[12:]), SYSFS / "nothing")
    return SYSFS / "class/block" / os.path.realpath(device).removeprefix("/dev/").replace("/", "!")


def _entry_of_number(number: int) -> Path:
    return SYSFS / f"dev/block/{os.major(number)}:{os.minor(number)}"


def _read_number(entry: Path) -> int:
    major, separator, minor = _read(entry / "dev").partition(":")
    return os.makedev(int(major), int(minor)) if separator else _NO_NUMBER


def _read(path: Path) -> str:
    """A fact in one file; empty where there is none."""
    try:
        return path.read_text("utf-8", "replace").rstrip("\n")
    except OSError:
        return ""
