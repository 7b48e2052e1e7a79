"""What happens in scans, and to files on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from distbackupd.model.events.base import THE_JOURNAL, Event, Figure, written
from distbackupd.model.text import printable, say_count, say_duration, say_size, say_unconfirmed


@dataclass(frozen=True, slots=True)
class ScanStarted(Event):
    """Sources are being walked."""

    MESSAGE_ID: ClassVar[str] = "eac9f52711704edcb508b4309348e0b5"
    sources: int

    @property
    def sentence(self) -> str:
        return f"scanning {say_count(self.sources, 'source')}"

    @property
    def public_sentence(self) -> str:
        return self.sentence


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
    confirmed: int = 0
    unconfirmed: int = 0
    unconfirmed_bytes: int = 0

    @property
    def sentence(self) -> str:
        text = (
            f"scanned {say_count(self.entries, 'entry', 'entries')} in {say_duration(self.seconds)}: "
            f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone"
        )
        if self.hashed:
            text += f"; hashed {say_count(self.hashed, 'file')} ({say_size(self.hashed_bytes)})"
        if self.confirmed:
            text += f"; read {say_count(self.confirmed, 'file')} again"
        if self.locked:
            text += f"; {say_count(self.locked, 'folder')} left as known"
        if self.skipped:
            text += f"; {say_count(self.skipped, 'file')} skipped, to be tried again"
        if self.unconfirmed:
            text += f"; {say_unconfirmed(self.unconfirmed, self.unconfirmed_bytes)}"
        return text

    @property
    def public_sentence(self) -> str:
        return self.sentence

    @property
    def figures(self) -> dict[str, Figure]:
        return {
            "ENTRIES": self.entries,
            "NEW": self.new,
            "CHANGED": self.changed,
            "GONE": self.gone,
            "HASHED": self.hashed,
            "HASHED_BYTES": self.hashed_bytes,
            "SKIPPED": self.skipped,
            "LOCKED": self.locked,
            "CONFIRMED": self.confirmed,
            "UNCONFIRMED": self.unconfirmed,
            "UNCONFIRMED_BYTES": self.unconfirmed_bytes,
        }


@dataclass(frozen=True, slots=True)
class ScanFailed(Event):
    """A scan ended with an error. Told once, until a scan comes to its end."""

    MESSAGE_ID: ClassVar[str] = "b5dbf6b1d6ad4b0a9f0de0a6c7e2f814"
    severity: ClassVar[int] = 3
    reason: str

    @property
    def sentence(self) -> str:
        return (
            f"the scan failed: {printable(self.reason)}; what it had recorded is kept, what changed since has no copy, "
            "and it is tried again"
        )

    @property
    def public_sentence(self) -> str:
        return f"the scan failed; what changed since the last good one has no copy, and it is tried again; {THE_JOURNAL}"


@dataclass(frozen=True, slots=True)
class ContentsChanged(Event):
    """Files were read again, and hold something else although their size and time are the same. ``path``: of one of them."""

    MESSAGE_ID: ClassVar[str] = "b6a0f4e2d7c94b11a85e3f90c2d6471b"
    severity: ClassVar[int] = 5
    path: bytes
    files: int

    @property
    def sentence(self) -> str:
        if self.files > 1:
            others = say_count(self.files - 1, "other file")
            return (
                f"{printable(self.path)} and {others} changed although their size and time are the same; what they hold now "
                "is backed up, and what they held is kept as a former version"
            )
        return (
            f"{printable(self.path)}: its content changed although its size and time are the same; what it holds now is "
            "backed up, and what it held is kept as a former version"
        )

    @property
    def public_sentence(self) -> str:
        return (
            f"{say_count(self.files, 'file')} changed with size and time the same; what they hold now is backed up, and "
            f"what they held is kept as a former version; {THE_JOURNAL}"
        )

    @property
    def figures(self) -> dict[str, Figure]:
        return {"FILES": self.files}

    @property
    def fields(self) -> dict[str, str]:
        return {"PATH": printable(self.path), **written(self.figures)}


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
    def public_sentence(self) -> str:
        return f"a source or folder could not be looked through; its files are kept as they were known, {THE_JOURNAL}"

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
class WatchLimited(Event):
    """Not every folder can be watched: ``watched`` of ``folders``, and nothing at all in so many other ``sources``."""

    MESSAGE_ID: ClassVar[str] = "bb22248754e04ecc9e485f59fe8213c7"
    severity: ClassVar[int] = 4
    watched: int
    folders: int
    sources: int = 0

    @property
    def sentence(self) -> str:
        what = f"only {self.watched:,} of {self.folders:,} folders are watched for changes"
        if self.sources:
            nothing = "no folder of " + say_count(self.sources, "source")
            what = f"{what}, and {nothing}" if self.watched < self.folders else f"{nothing} is watched for changes"
        return f"{what}; the scheduled scan covers the rest; raise fs.inotify.max_user_watches with sysctl to watch all"

    @property
    def public_sentence(self) -> str:
        return self.sentence
