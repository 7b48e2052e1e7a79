"""What happens with a backup disk from plug to unplug, and which one should come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from distbackupd.model.events.base import THE_JOURNAL, DiskEvent, Event, Figure, written
from distbackupd.model.text import say_copies, say_count, say_duration, say_size

Culprit = Literal["disk", "source", "either"]
"""Who does not answer."""


@dataclass(frozen=True, slots=True)
class SessionStarted(DiskEvent):
    """A known disk is mounted and recognised; its cycle begins."""

    MESSAGE_ID: ClassVar[str] = "142d8816fb6a4c3ea3d42b60de0fad8a"
    severity: ClassVar[int] = 5
    root: str

    @property
    def sentence(self) -> str:
        return f"{self.disk}: recognised at {self.root}, starting"

    @property
    def public_sentence(self) -> str:
        return f"{self.disk}: recognised, starting"


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
    def public_sentence(self) -> str:
        return self.sentence

    @property
    def figures(self) -> dict[str, Figure]:
        return {
            "COPIED_OBJECTS": self.copied_objects,
            "COPIED_BYTES": self.copied_bytes,
            "DELETED_OBJECTS": self.deleted_objects,
            "DELETED_BYTES": self.deleted_bytes,
            "VERIFIED_OBJECTS": self.verified_objects,
            "SKIPPED": self.skipped,
            "UNPLACED_OBJECTS": self.unplaced_objects,
            "UNPLACED_BYTES": self.unplaced_bytes,
            "SECONDS": float(self.seconds),
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

    @property
    def public_sentence(self) -> str:
        return f"{self.disk}: stopped because of trouble with the disk; what was recorded stays true, {THE_JOURNAL}"


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

    @property
    def public_sentence(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class NotAnswering(Event):
    """The work in hand has stood still for so many seconds: ``disk`` (its name, empty where none is at work), or a source.

    ``culprit``: which of them the kernel waits for, as far as it tells.
    """

    MESSAGE_ID: ClassVar[str] = "b7a0c2d94e6f4d1c8a35f1e02c7b9d64"
    severity: ClassVar[int] = 4
    disk: str
    culprit: Culprit
    seconds: int

    @property
    def sentence(self) -> str:
        for_so_long = f"has not answered for {say_duration(self.seconds)}"
        if self.culprit == "source":
            return (
                f"a source {for_so_long}; nothing counts as deleted, and the work goes on as soon as it answers: "
                "if it does not, unmount its file system, or stop its server"
            )
        disk = self.disk or "the disk that was plugged in"
        who = disk if self.culprit == "disk" else f"{disk}, or a source,"
        return (
            f"{who} {for_so_long}; what was recorded is safe, and the work goes on as soon as it answers: "
            "if it does not, pull it out, look at its cable and its power, and plug it in again"
        )

    @property
    def public_sentence(self) -> str:
        return self.sentence

    @property
    def figures(self) -> dict[str, Figure]:
        return {"SECONDS": self.seconds}

    @property
    def public_fields(self) -> dict[str, str]:
        return {"DISK": self.disk, **written(self.figures)}


@dataclass(frozen=True, slots=True)
class AnswersAgain(Event):
    """What :class:`NotAnswering` told of is over, after so many seconds. ``disk`` as there."""

    MESSAGE_ID: ClassVar[str] = "e41d7b3a90c54f2f9b6c08d5a72e1f38"
    severity: ClassVar[int] = 5
    disk: str
    seconds: int

    @property
    def sentence(self) -> str:
        return f"{self.disk or 'what did not answer'}: answers again after {say_duration(self.seconds)}, the work goes on"

    @property
    def public_sentence(self) -> str:
        return self.sentence

    @property
    def figures(self) -> dict[str, Figure]:
        return {"SECONDS": self.seconds}

    @property
    def public_fields(self) -> dict[str, str]:
        return {"DISK": self.disk, **written(self.figures)}


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
    def public_sentence(self) -> str:
        return self.sentence

    @property
    def figures(self) -> dict[str, Figure]:
        return {"POWERED_OFF": self.powered_off}


@dataclass(frozen=True, slots=True)
class DriveStillNeeded(DiskEvent):
    """The disk is done, but another backup disk on the same drive waits for its session."""

    MESSAGE_ID: ClassVar[str] = "9a3c1d7a10f04c6e8b8f2f0a5c1ed6b4"
    severity: ClassVar[int] = 5
    next_disk: str

    @property
    def sentence(self) -> str:
        return f"{self.disk} is done; leave it plugged in, {self.next_disk} on the same drive comes next"

    @property
    def public_sentence(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class DriveInUse(DiskEvent):
    """The disk is done, but somebody has mounted something else of the same drive, at ``places``."""

    MESSAGE_ID: ClassVar[str] = "d2b7c1f46e0a4b0f9c35a8e1f7d46b93"
    severity: ClassVar[int] = 4
    places: str

    @property
    def sentence(self) -> str:
        text = f"{self.disk} is done; its drive also carries what is mounted at {self.places}"
        return f"{text}, unmount that before you unplug it"

    @property
    def public_sentence(self) -> str:
        return f"{self.disk} is done; something else on its drive is mounted, unmount that before you unplug it"


@dataclass(frozen=True, slots=True)
class StillMounted(DiskEvent):
    """The session is over, but somebody else had mounted the disk, so it stays mounted."""

    MESSAGE_ID: ClassVar[str] = "8a18b830245f4ac0a3e590f0b45dabb0"
    severity: ClassVar[int] = 5
    root: str

    @property
    def sentence(self) -> str:
        return f"{self.disk} is done; it was mounted at {self.root} before, so unmount it there before you unplug it"

    @property
    def public_sentence(self) -> str:
        return f"{self.disk} is done; it was mounted before, so unmount it before you unplug it"


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
    def public_sentence(self) -> str:
        return f"{self.disk}: it looks like this disk, but is not used, and nothing was backed up to it; {THE_JOURNAL}"

    @property
    def public_fields(self) -> dict[str, str]:
        return {"DISK": self.disk}


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
    def public_sentence(self) -> str:
        return self.sentence

    @property
    def figures(self) -> dict[str, Figure]:
        return {"COPIES": self.copies, "BYTES": self.size}


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
    def public_sentence(self) -> str:
        return self.sentence

    @property
    def figures(self) -> dict[str, Figure]:
        return {"DAYS": self.days}
