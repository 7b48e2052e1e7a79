"""What there is to be done, as values: adapters post them to the daemon's inbox, its loop works them off."""

from __future__ import annotations

from dataclasses import dataclass

from distbackupd.model.disks import Volume
from distbackupd.model.plans import BackupWish


@dataclass(frozen=True, slots=True)
class DiskAppeared:
    """A file system is plugged in (or was, when the daemon started)."""

    volume: Volume


@dataclass(frozen=True, slots=True)
class DiskVanished:
    """A block device is gone. ``device`` is its node."""

    device: str


@dataclass(frozen=True, slots=True)
class SourceTouched:
    """Something below this real folder may have changed and has rested since."""

    real_path: bytes


@dataclass(frozen=True, slots=True)
class JobDue:
    """A regular job's time has come: ``scan``, ``tend`` (look whether sources, disks or settings changed), or ``show`` (how
    things stand: nothing is looked for).
    """

    job: str


@dataclass(frozen=True, slots=True)
class BackupAsked:
    """Somebody wants a session with an enrolled disk that is here. ``job`` numbers what is asked, for the answer."""

    job: int
    disk: str
    wish: BackupWish


@dataclass(frozen=True, slots=True)
class EjectAsked:
    """Somebody wants to unplug this enrolled disk: it shall be unmounted, locked and powered off."""

    job: int
    disk: str


@dataclass(frozen=True, slots=True)
class ScanAsked:
    """Somebody wants all sources to be scanned now."""

    job: int


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """SIGHUP: read the configuration again."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """SIGTERM or SIGINT."""


Asked = BackupAsked | EjectAsked | ScanAsked
InboxEvent = DiskAppeared | DiskVanished | SourceTouched | JobDue | Asked | ReloadAsked | StopAsked
