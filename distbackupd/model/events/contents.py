"""What becomes of copies on disks, and of contents that rot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from distbackupd.model.events.base import THE_JOURNAL, DiskEvent, Event, Figure, written
from distbackupd.model.text import printable, say_count


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
    def public_sentence(self) -> str:
        return f"{self.disk}: a bad copy was found; {THE_JOURNAL}"

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid, "OBJECT": self.digest}


@dataclass(frozen=True, slots=True)
class CopiesGone(DiskEvent):
    """Objects that a disk should hold do not lie on it any more; ``alone`` of them no other disk has."""

    MESSAGE_ID: ClassVar[str] = "5b1e9f0c7d3a4e86b2c4a7f1930d6e58"
    severity: ClassVar[int] = 4
    objects: int
    alone: int

    @property
    def sentence(self) -> str:
        are = f"{say_count(self.objects, 'object')} that should lie on it {'is' if self.objects == 1 else 'are'} gone"
        only = f", {self.alone:,} of them with no other copy" if self.alone else ""
        return f"{self.disk}: {are}{only}; what the sources still have is copied again, and lost+found may hold the rest"

    @property
    def public_sentence(self) -> str:
        return self.sentence

    @property
    def figures(self) -> dict[str, Figure]:
        return {"OBJECTS": self.objects, "ALONE": self.alone}


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
    def public_sentence(self) -> str:
        return self.sentence

    @property
    def figures(self) -> dict[str, Figure]:
        return {"OBJECTS": self.objects}


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
    def public_sentence(self) -> str:
        many = say_count(self.objects, "content")
        return f"{self.disk}: the last good copy of {many} is gone and no source has it: keep the disk; {THE_JOURNAL}"

    @property
    def figures(self) -> dict[str, Figure]:
        return {"OBJECTS": self.objects}

    @property
    def fields(self) -> dict[str, str]:
        return {"DISK": self.disk, "DISK_UUID": self.uuid, **written(self.figures), "PATH": printable(self.path)}


@dataclass(frozen=True, slots=True)
class SourceRotted(Event):
    """A source file is as it was in size, times and inode, but not in content.

    ``disks``: names of those that hold the good one, in words; empty: none does.
    """

    MESSAGE_ID: ClassVar[str] = "a3d58c1e6f2b49708e4c7b90d5f1a6e2"
    severity: ClassVar[int] = 3
    path: bytes
    disks: str
    unreadable: bool = False

    @property
    def sentence(self) -> str:
        name = printable(self.path)
        what = "its content changed, but not its size and time, so it rotted"
        if self.unreadable:
            what = "its medium cannot read it any more"
        where = f"the good content is on {self.disks}" if self.disks else "no disk has the good content"
        return f"{name}: {what}; {where}, see 'dsb heal'"

    @property
    def public_sentence(self) -> str:
        what = "its medium cannot read it any more" if self.unreadable else "its content changed, but not its size and time"
        good = "a disk has the good content" if self.disks else "no disk has the good content"
        return f"a source file is damaged: {what}; {good}, see 'sudo dsb heal'"

    @property
    def fields(self) -> dict[str, str]:
        return {"PATH": printable(self.path)}


@dataclass(frozen=True, slots=True)
class SourceHealed(Event):
    """A rotten source file has its good content again. ``kept``: the real path of what it replaced."""

    MESSAGE_ID: ClassVar[str] = "1e7b9d3c5a4f4c08b2e6d0f8a7c39b54"
    severity: ClassVar[int] = 5
    path: bytes
    kept: bytes

    @property
    def sentence(self) -> str:
        return f"{printable(self.path)}: its good content is back; what it held is kept as {printable(self.kept)}"

    @property
    def public_sentence(self) -> str:
        return "a damaged source file has its good content again"

    @property
    def fields(self) -> dict[str, str]:
        return {"PATH": printable(self.path), "KEPT": printable(self.kept)}
