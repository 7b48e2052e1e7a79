"""What happened, as values that know their sentence.

Every channel (terminal, journal, status, notification) tells the same :attr:`Event.sentence`. ``MESSAGE_ID`` is fixed
for ever: people filter the journal by it. ``severity`` is a syslog level: 3 error, 4 warning, 5 notice, 6 info.
``fields`` become ``DISTBACKUP_*`` fields of the journal.

What adapters post to the daemon's inbox is in :mod:`distbackupd.model.inbox`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from distbackupd.model.text import printable, say_copies, say_count, say_duration, say_size


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all that use cases report."""

    MESSAGE_ID: ClassVar[str] = ""
    severity: ClassVar[int] = 6

    @property
    def sentence(self) -> str:
        """What is told to people."""
        raise NotImplementedError

    @property
    def fields(self) -> dict[str, str]:
        """Names (without the ``DISTBACKUP_`` prefix) and values for machines."""
        return {}


@dataclass(frozen=True, slots=True)
class DiskEvent(Event):
    """Base of what concerns one backup disk, by its name and its own UUID."""

    disk: str
    uuid: str

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid}


@dataclass(frozen=True, slots=True)
class SessionStarted(DiskEvent):
    """A known disk is mounted and recognised; its cycle begins."""

    MESSAGE_ID: ClassVar[str] = "142d8816fb6a4c3ea3d42b60de0fad8a"
    severity: ClassVar[int] = 5
    root: str

    @property
    def sentence(self) -> str:
        return f"{self.disk}: recognised at {self.root}, starting"


@dataclass(frozen=True, slots=True)
class SessionFinished(DiskEvent):
    """A session came to its end. ``unplug`` tells whether the program unmounted the disk itself."""

    MESSAGE_ID: ClassVar[str] = "3f71c07eb0944c018414667bb53fea66"
    severity: ClassVar[int] = 5
    copied_objects: int
    copied_bytes: int
    deleted_objects: int
    deleted_bytes: int
    verified_objects: int
    skipped: int
    unplaced_objects: int
    unplaced_bytes: int
    seconds: float

    @property
    def sentence(self) -> str:
        done = []
        if self.copied_objects:
            done.append(f"copied {say_count(self.copied_objects, 'object')} ({say_size(self.copied_bytes)})")
        if self.deleted_objects:
            done.append(f"deleted {say_count(self.deleted_objects, 'object')} ({say_size(self.deleted_bytes)})")
        if self.verified_objects:
            done.append(f"checked {say_count(self.verified_objects, 'object')}")
        nothing = "nothing copied" if self.unplaced_objects else "nothing to do"
        text = f"{self.disk}: {', '.join(done) or nothing} in {say_duration(self.seconds)}"
        if self.skipped:
            text += f"; {say_count(self.skipped, 'file')} skipped, to be tried again"
        if self.unplaced_objects:
            text += f"; no room here for {say_count(self.unplaced_objects, 'object')} ({say_size(self.unplaced_bytes)})"
        return text

    @property
    def fields(self) -> dict[str, str]:
        return {
            "DISK": self.disk,
            "DISK_UUID": self.uuid,
            "COPIED_OBJECTS": str(self.copied_objects),
            "COPIED_BYTES": str(self.copied_bytes),
            "DELETED_OBJECTS": str(self.deleted_objects),
            "DELETED_BYTES": str(self.deleted_bytes),
            "VERIFIED_OBJECTS": str(self.verified_objects),
            "SKIPPED": str(self.skipped),
            "UNPLACED_OBJECTS": str(self.unplaced_objects),
            "UNPLACED_BYTES": str(self.unplaced_bytes),
            "SECONDS": f"{self.seconds:.1f}",
        }


@dataclass(frozen=True, slots=True)
class SessionFailed(DiskEvent):
    """Disk trouble ended a session early. What was recorded before stays true."""

    MESSAGE_ID: ClassVar[str] = "5fc474e6178942d4bd90d27a220b1659"
    severity: ClassVar[int] = 3
    reason: str

    @property
    def sentence(self) -> str:
        # Whoever mounts and unmounts names the disk.
        return self.reason if self.reason.startswith(f"{self.disk} ") else f"{self.disk}: stopped: {self.reason}"


@dataclass(frozen=True, slots=True)
class SessionInterrupted(DiskEvent):
    """Somebody asked to stop, or the program is shut down."""

    MESSAGE_ID: ClassVar[str] = "5fe8c807ad4842ddb34a2d7a1200aa4b"
    severity: ClassVar[int] = 5
    copied_objects: int

    @property
    def sentence(self) -> str:
        return (
            f"{self.disk}: interrupted after {say_count(self.copied_objects, 'object')}; "
            "what was copied is recorded, the next plug goes on there"
        )


@dataclass(frozen=True, slots=True)
class MayUnplug(DiskEvent):
    """Everything is on the disk, and the disk is unmounted, locked if it is encrypted, and off if it can be switched off."""

    MESSAGE_ID: ClassVar[str] = "7d01fb47f25549b68f13028325fe0338"
    severity: ClassVar[int] = 5
    powered_off: bool = False

    @property
    def sentence(self) -> str:
        return f"{self.disk} is done{' and switched off' if self.powered_off else ''}, you may unplug it"

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid, "POWERED_OFF": "yes" if self.powered_off else "no"}


@dataclass(frozen=True, slots=True)
class DriveStillNeeded(DiskEvent):
    """The disk is done, but another backup disk on the same drive waits for its session."""

    MESSAGE_ID: ClassVar[str] = "9a3c1d7a10f04c6e8b8f2f0a5c1ed6b4"
    severity: ClassVar[int] = 5
    next_disk: str

    @property
    def sentence(self) -> str:
        return f"{self.disk} is done; leave it plugged in, {self.next_disk} on the same drive comes next"


@dataclass(frozen=True, slots=True)
class DiskWanted(DiskEvent):
    """This disk would do the most good now. ``copies``: how many copies ``size`` bytes have that it has room for."""

    MESSAGE_ID: ClassVar[str] = "c2f5d9be6a7b4f0f9f57d27f6b1a0e35"
    severity: ClassVar[int] = 5
    copies: int
    size: int

    @property
    def sentence(self) -> str:
        return f"bring {self.disk}: {say_size(self.size)} {say_copies(self.copies)}"

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid, "COPIES": str(self.copies), "BYTES": str(self.size)}


@dataclass(frozen=True, slots=True)
class DiskNotSeen(DiskEvent):
    """A disk was not plugged in for so long that it may be forgotten, lost or dead."""

    MESSAGE_ID: ClassVar[str] = "3b0e9c44c3de4f6aa0b2c3f0d8f7a9e1"
    severity: ClassVar[int] = 4
    days: int

    @property
    def sentence(self) -> str:
        return f"{self.disk} was not seen for {say_count(self.days, 'day')}; bring it, or say 'dsb disk drop' if it is lost"

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid, "DAYS": str(self.days)}


@dataclass(frozen=True, slots=True)
class Braked(DiskEvent):
    """The sources look so wrong that nothing is deleted on any disk. ``reason`` tells why and what to do."""

    MESSAGE_ID: ClassVar[str] = "b1d0f7a43c5e4a0d8a6c94e2f3b7c8d5"
    severity: ClassVar[int] = 4
    reason: str

    @property
    def sentence(self) -> str:
        return f"{self.disk}: {self.reason}"


@dataclass(frozen=True, slots=True)
class BrakeReleased(Event):
    """Somebody let go of the brake."""

    MESSAGE_ID: ClassVar[str] = "4f6a2c9e8b1d4735a0e3d7c5f9b2e841"
    severity: ClassVar[int] = 5

    @property
    def sentence(self) -> str:
        return "the brake is off: what changed until now is deleted on disks as usual"


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """Somebody asked for rest: nothing is read, copied or scanned until :class:`Resumed`."""

    MESSAGE_ID: ClassVar[str] = "5d8f3e1b7c9a4d02b6a1e4f7c8d9b0a2"
    severity: ClassVar[int] = 5

    @property
    def sentence(self) -> str:
        return "paused; 'dsb resume' goes on"


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The pause is over."""

    MESSAGE_ID: ClassVar[str] = "e7c4b1a09f6d4385a2d3c5b8f1e0d796"
    severity: ClassVar[int] = 5

    @property
    def sentence(self) -> str:
        return "going on after the pause"


@dataclass(frozen=True, slots=True)
class StillMounted(DiskEvent):
    """The session is over, but somebody else had mounted the disk, so it stays mounted."""

    MESSAGE_ID: ClassVar[str] = "8a18b830245f4ac0a3e590f0b45dabb0"
    severity: ClassVar[int] = 5
    root: str

    @property
    def sentence(self) -> str:
        return f"{self.disk} is done; it was mounted at {self.root} before, so unmount it there before you unplug it"


@dataclass(frozen=True, slots=True)
class DiskRefused(Event):
    """A plugged disk looks like one of ours but must not be touched."""

    MESSAGE_ID: ClassVar[str] = "721ae61e2a01449f89962468e0b87d61"
    severity: ClassVar[int] = 4
    disk: str
    reason: str

    @property
    def sentence(self) -> str:
        return f"{self.disk}: {self.reason}"

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk}


@dataclass(frozen=True, slots=True)
class ScanStarted(Event):
    """Sources are being walked."""

    MESSAGE_ID: ClassVar[str] = "eac9f52711704edcb508b4309348e0b5"
    sources: int

    @property
    def sentence(self) -> str:
        return f"scanning {say_count(self.sources, 'source')}"


@dataclass(frozen=True, slots=True)
class ScanFinished(Event):
    """All sources were walked and what was new or changed is hashed."""

    MESSAGE_ID: ClassVar[str] = "f7195653373844d98d7387df70becd6e"
    entries: int
    new: int
    changed: int
    gone: int
    hashed: int
    hashed_bytes: int
    skipped: int
    locked: int
    seconds: float

    @property
    def sentence(self) -> str:
        text = (
            f"scanned {say_count(self.entries, 'entry', 'entries')} in {say_duration(self.seconds)}: "
            f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone"
        )
        if self.hashed:
            text += f"; hashed {say_count(self.hashed, 'file')} ({say_size(self.hashed_bytes)})"
        if self.locked:
            text += f"; {say_count(self.locked, 'folder')} left as known"
        if self.skipped:
            text += f"; {say_count(self.skipped, 'file')} skipped, to be tried again"
        return text

    @property
    def fields(self) -> dict[str, str]:
        return {
            "ENTRIES": str(self.entries),
            "NEW": str(self.new),
            "CHANGED": str(self.changed),
            "GONE": str(self.gone),
            "HASHED": str(self.hashed),
            "HASHED_BYTES": str(self.hashed_bytes),
            "SKIPPED": str(self.skipped),
            "LOCKED": str(self.locked),
        }


@dataclass(frozen=True, slots=True)
class SourceLocked(Event):
    """A source or folder could not be trusted in this scan; its files stay as they were."""

    MESSAGE_ID: ClassVar[str] = "5e800ba99a1444b5baecbbf493bb13f2"
    severity: ClassVar[int] = 4
    path: bytes
    reason: str

    @property
    def sentence(self) -> str:
        return f"{printable(self.path)}: {self.reason}; its files are kept as they were known"

    @property
    def fields(self) -> dict[str, str]:
        return {"PATH": printable(self.path)}


@dataclass(frozen=True, slots=True)
class FileSkipped(Event):
    """One file was left out this time."""

    MESSAGE_ID: ClassVar[str] = "fe242a5f4eca4ae6b1a24089c2169999"
    severity: ClassVar[int] = 4
    path: bytes
    reason: str

    @property
    def sentence(self) -> str:
        return f"{printable(self.path)}: skipped, {self.reason}; it will be tried again"

    @property
    def fields(self) -> dict[str, str]:
        return {"PATH": printable(self.path)}


@dataclass(frozen=True, slots=True)
class Remark(Event):
    """Something worth knowing that needs no action now."""

    MESSAGE_ID: ClassVar[str] = "0b14ecd1abf142f5867a5e43bf81eb82"
    severity: ClassVar[int] = 5
    text: str

    @property
    def sentence(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class BadCopyFound(DiskEvent):
    """A copy on a backup disk does not match its name."""

    MESSAGE_ID: ClassVar[str] = "023970d2732c437c9748c0e614373d4e"
    severity: ClassVar[int] = 3
    digest: str
    path: bytes
    what: str

    @property
    def sentence(self) -> str:
        name = f" ({printable(self.path)})" if self.path else ""
        return f"{self.disk}: bad copy of {self.digest[:16]}{name}: {self.what}"

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid, "OBJECT": self.digest}


@dataclass(frozen=True, slots=True)
class CopiesMended(DiskEvent):
    """Objects whose copies here were bad are copied again from their sources."""

    MESSAGE_ID: ClassVar[str] = "6c1f0b7e4a5d4e2f9d83b1c07a6e5f42"
    severity: ClassVar[int] = 5
    objects: int

    @property
    def sentence(self) -> str:
        return f"{self.disk}: copied {say_count(self.objects, 'bad object')} again from the sources"

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid, "OBJECTS": str(self.objects)}


@dataclass(frozen=True, slots=True)
class ContentLost(DiskEvent):
    """Bad copies were the last ones, and no source gives the contents any more. ``path``: of one of them."""

    MESSAGE_ID: ClassVar[str] = "d94e2a7b3f8c4b16a05d7e9c1f6b8a30"
    severity: ClassVar[int] = 3
    objects: int
    path: bytes

    @property
    def sentence(self) -> str:
        which = printable(self.path) or "a deleted file"
        many = f"{say_count(self.objects, 'content')}, that of {which} among them," if self.objects > 1 else which
        return (
            f"{self.disk}: the last good copy of {many} is gone and no source has it; what is left of it is in "
            "bad-objects on the disk: keep the disk, and look for it elsewhere"
        )

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid, "OBJECTS": str(self.objects), "PATH": printable(self.path)}


@dataclass(frozen=True, slots=True)
class SourceRotted(Event):
    """A source file is as it was in size, time and inode, but not in content.

    ``disks``: names of those that hold the good one, in words; empty: none does. ``written``: something was done to the file
    since it was read; perhaps somebody put its time back on purpose.
    """

    MESSAGE_ID: ClassVar[str] = "a3d58c1e6f2b49708e4c7b90d5f1a6e2"
    severity: ClassVar[int] = 3
    path: bytes
    disks: str
    unreadable: bool = False
    written: bool = False

    @property
    def sentence(self) -> str:
        name = printable(self.path)
        what = "its medium cannot read it any more" if self.unreadable else "its content changed, but not its size and time"
        cause = ", so it rotted or somebody put its time back" if self.written else ", so it rotted"
        where = f"the good content is on {self.disks}" if self.disks else "no disk has the good content"
        return f"{name}: {what}{'' if self.unreadable else cause}; {where}, see 'dsb heal'"

    @property
    def fields(self) -> dict[str, str]:
        return {"PATH": printable(self.path)}


@dataclass(frozen=True, slots=True)
class SourceHealed(Event):
    """A rotten source file has its good content again."""

    MESSAGE_ID: ClassVar[str] = "1e7b9d3c5a4f4c08b2e6d0f8a7c39b54"
    severity: ClassVar[int] = 5
    path: bytes

    @property
    def sentence(self) -> str:
        return f"{printable(self.path)}: its good content is back"

    @property
    def fields(self) -> dict[str, str]:
        return {"PATH": printable(self.path)}


@dataclass(frozen=True, slots=True)
class WatchLimited(Event):
    """Not every folder can be watched."""

    MESSAGE_ID: ClassVar[str] = "bb22248754e04ecc9e485f59fe8213c7"
    severity: ClassVar[int] = 4
    watched: int
    folders: int

    @property
    def sentence(self) -> str:
        return (
            f"only {self.watched:,} of {self.folders:,} folders are watched for changes, "
            "the scheduled scan covers the rest; raise fs.inotify.max_user_watches with sysctl to watch all"
        )
