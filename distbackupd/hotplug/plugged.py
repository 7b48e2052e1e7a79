"""One event for each plug, however often udev repeats itself. Pure: no udev in here."""

from __future__ import annotations

from collections.abc import Iterable

from distbackupd.model.disks import Volume
from distbackupd.model.inbox import DiskAppeared, DiskVanished


class PluggedVolumes:
    """The volumes that are plugged in as far as was told, by device.

    Each call gives the events that are news, in the order in which they happened. A volume that appeared is not told
    again until its device went away or carries another file system.
    """

    def __init__(self) -> None:
        self._volumes: dict[str, Volume] = {}

    def seen(self, device: str, volume: Volume | None) -> list[DiskAppeared | DiskVanished]:
        """The device was looked at: it carries ``volume`` now, or nothing usable, or is gone (both None)."""
        known = self._volumes.get(device)
        if known and volume and known.filesystem_uuid == volume.filesystem_uuid:
            self._volumes[device] = volume
            return []
        events: list[DiskAppeared | DiskVanished] = []
        if known:
            del self._volumes[device]
            events.append(DiskVanished(device))
        if volume:
            self._volumes[device] = volume
            events.append(DiskAppeared(volume))
        return events

    def listed(self, volumes: Iterable[Volume]) -> list[DiskAppeared | DiskVanished]:
        """Exactly these volumes are plugged in now; what is not among them went away unnoticed."""
        now = {volume.device: volume for volume in volumes}
        gone = [device for device in self._volumes if device not in now]
        events = [event for device in gone for event in self.seen(device, None)]
        return events + [event for device, volume in now.items() for event in self.seen(device, volume)]
