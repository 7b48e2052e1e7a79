"""The daemon's values as D-Bus carries them, and back. Nothing that was made here can be refused by the bus.

What every user of the machine gets to see is made here too, and it is an allow-list: names of disks, figures, times, words
of our own. What is not on it (paths, UUIDs, reasons) has no way to a property or a signal; ``details_of`` alone is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distbackupd.control.interface import Variant, WireAnswer, WireNews, WireOutcome
from distbackupd.model.errors import EXIT_CODES
from distbackupd.model.events import BRAKE_IS_ON, DiskWanted
from distbackupd.model.plans import BackupWish
from distbackupd.model.problems import FailedScan, Unread
from distbackupd.model.standing import Answer, DiskStanding, Protection, Standing, Told
from distbackupd.model.text import printable


@dataclass(frozen=True, slots=True)
class News:
    """An event that the daemon told, as it comes over the bus.

    ``kind`` is the name of its class in :mod:`distbackupd.model.events`; ``disk`` is empty if it concerns none;
    ``severity`` is a syslog level (3 error, 4 warning, 5 notice, 6 info); ``time``: unix seconds. ``number`` grows with
    each event, also over restarts of the daemon.
    """

    number: int
    time: int
    kind: str
    severity: int
    disk: str
    sentence: str
    fields: dict[str, str] = field(default_factory=dict)


def news_of(told: Told) -> WireNews | None:
    """An event as ``Told`` and ``Events`` carry it to everybody; None: it is not for everybody."""
    sentence = told.event.public_sentence
    return _news(told, sentence, told.event.public_fields) if sentence else None


def details_of(told: Told) -> WireNews:
    """An event as ``Details`` carries it, in whole."""
    return _news(told, told.event.sentence, told.event.fields)


def _news(told: Told, sentence: str, fields: Mapping[str, str]) -> WireNews:
    shown = {printable(name): printable(value) for name, value in fields.items()}
    event = told.event
    disk = shown.get("DISK", "")
    return told.number, told.time, type(event).__name__, event.severity, disk, printable(sentence), shown


def standing_properties(standing: Standing) -> dict[str, Variant]:
    """The properties that tell what the daemon does, by their names."""
    progress: dict[str, Variant] = {}
    if standing.activity:
        progress = {
            "activity": ("s", printable(standing.activity)),
            "items": ("t", max(0, standing.items)),
            "total-items": ("t", max(0, standing.total_items)),
            "bytes": ("t", max(0, standing.done_bytes)),
            "total-bytes": ("t", max(0, standing.total_bytes)),
            "seconds": ("d", float(standing.seconds)),
        }
    return {
        "State": ("s", standing.state),
        "Status": ("s", printable(standing.sentence)),
        "Disk": ("s", printable(standing.disk)),
        "Paused": ("b", standing.state == "paused"),
        "Progress": ("a{sv}", progress),
    }


def standing_from(properties: Mapping[str, Variant]) -> Standing:
    """The other way round."""
    progress = _plain(properties["Progress"][1])
    return Standing(
        state=properties["State"][1],
        sentence=properties["Status"][1],
        disk=properties["Disk"][1],
        activity=progress.get("activity", ""),
        items=progress.get("items", 0),
        total_items=progress.get("total-items", 0),
        done_bytes=progress.get("bytes", 0),
        total_bytes=progress.get("total-bytes", 0),
        seconds=progress.get("seconds", 0.0),
    )


def protection_properties(protection: Protection) -> dict[str, Variant]:
    """The properties that tell what is protected how well, by their names."""
    wanted: dict[str, Variant] = {}
    if protection.wanted:
        wanted = {
            "disk": ("s", printable(protection.wanted.disk)),
            "copies": ("u", protection.wanted.copies),
            "bytes": ("t", max(0, protection.wanted.size)),
            "sentence": ("s", printable(protection.wanted.sentence)),
        }
    unread: dict[str, Variant] = {}
    if protection.unread.sentence:
        unread = {
            "files": ("t", protection.unread.files),
            "bytes": ("t", protection.unread.size),
            "folders": ("t", protection.unread.folders),
            "sentence": ("s", protection.unread.sentence),
        }
    failed_scan: dict[str, Variant] = {}
    if protection.failed_scan:
        failed_scan = {
            "since": ("x", protection.failed_scan.since),
            "sentence": ("s", protection.failed_scan.public_sentence),
        }
    return {
        "BytesByCopies": ("a{ut}", dict(protection.bytes_by_copies)),
        "Disks": ("aa{sv}", [_disk(disk) for disk in protection.disks]),
        "Wanted": ("a{sv}", wanted),
        "LastScan": ("x", protection.last_scan or 0),
        "Brake": ("s", BRAKE_IS_ON if protection.brake else ""),
        "Unread": ("a{sv}", unread),
        "FailedScan": ("a{sv}", failed_scan),
        "Advice": ("s", printable(protection.advice)),
        "Unconfirmed": ("(tt)", protection.unconfirmed),
    }


def protection_from(properties: Mapping[str, Variant]) -> Protection:
    """The other way round, without what is not for everybody."""
    wanted = _plain(properties["Wanted"][1])
    unread, failed = _plain(properties["Unread"][1]), _plain(properties["FailedScan"][1])
    return Protection(
        bytes_by_copies=properties["BytesByCopies"][1],
        disks=tuple(_disk_from(disk) for disk in properties["Disks"][1]),
        wanted=DiskWanted(wanted["disk"], "", wanted["copies"], wanted["bytes"]) if wanted else None,
        last_scan=properties["LastScan"][1] or None,
        brake=properties["Brake"][1],
        unread=Unread(unread["files"], unread["bytes"], unread["folders"]) if unread else Unread(),
        failed_scan=FailedScan(failed["since"], "") if failed else None,
        advice=properties["Advice"][1],
        unconfirmed=properties["Unconfirmed"][1],
    )


def _disk(disk: DiskStanding) -> dict[str, Variant]:
    return {
        "name": ("s", printable(disk.name)),
        "capacity": ("t", max(0, disk.capacity)),
        "used": ("t", max(0, disk.used)),
        "objects": ("t", max(0, disk.objects)),
        "only-here": ("t", max(0, disk.only_here)),
        "last-session": ("x", disk.last_session_at or 0),
    }


def _disk_from(wire: Mapping[str, Variant]) -> DiskStanding:
    disk = _plain(wire)
    return DiskStanding(
        name=disk["name"],
        uuid="",
        capacity=disk["capacity"],
        used=disk["used"],
        objects=disk["objects"],
        only_here=disk["only-here"],
        last_session_at=disk["last-session"] or None,
    )


def answer_of(answer: Answer) -> WireAnswer:
    """A job's end as ``Answered`` carries it to everybody: the meaning of its exit code."""
    return answer.job, answer.exit_code, EXIT_CODES.get(answer.exit_code, "") if answer.exit_code else ""


def outcome_of(answer: Answer) -> WireOutcome:
    """A job's end as ``Outcome`` carries it, in whole."""
    return answer.exit_code, printable(answer.sentence)


_REPEATED = 40
LONGEST_NAME = 255
LONGEST_PATH = 4096
"""Bytes, but for the characters of a caller that a sentence repeats."""


def disk_named(name: str) -> str:
    """What a caller names a disk. Raises ValueError, a sentence, if no disk can have that name."""
    if not name or len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        raise ValueError(f"a disk is named by 1 to {LONGEST_NAME} bytes; nothing was changed")
    return name


_OPTIONS = {
    "limit": ("t", "copy_limit", "a number of bytes"),
    "maxcopies": ("u", "copies_limit", "a number of copies, 1 or more"),
    "flush": ("b", "evict", "true or false"),
    "update": ("b", "update", "true or false"),
    "ignore-lock": ("b", "ignore_lock", "true or false"),
}
"""Of each option of ``BackUp`` the type, the field of :class:`BackupWish`, and what is meant."""


def wish_from(options: Mapping[str, Variant]) -> BackupWish:
    """What the options of ``BackUp`` say. Raises ValueError, a sentence, for an option that cannot be meant."""
    wish: dict[str, Any] = {}
    for name, (signature, value) in options.items():
        if name not in _OPTIONS:
            raise ValueError(f"there is no option '{_shortened(name)}' of BackUp; there are {', '.join(_OPTIONS)}")
        expected, attribute, meaning = _OPTIONS[name]
        if signature != expected:
            raise ValueError(
                f"the option '{name}' of BackUp is {meaning}, of D-Bus type '{expected}', not '{_shortened(signature)}'"
            )
        if name == "limit" and value >= 1 << 63:
            raise ValueError(f"limit {value} is more than any disk holds; {meaning} is meant")
        if name == "maxcopies" and value < 1:
            raise ValueError(f"maxcopies {value} is no number of copies; 1 or more is meant")
        wish[attribute] = value
    return BackupWish(**wish)


def wish_options(wish: BackupWish) -> dict[str, Variant]:
    """The other way round; what is as usual is left out."""
    usual = BackupWish()
    return {
        name: (signature, getattr(wish, attribute))
        for name, (signature, attribute, _) in _OPTIONS.items()
        if getattr(wish, attribute) != getattr(usual, attribute)
    }


def _shortened(text: str) -> str:
    """What a caller wrote, as a sentence may repeat it."""
    return printable(text if len(text) <= _REPEATED else f"{text[:_REPEATED]}…")


def _plain(wire: Mapping[str, Variant]) -> dict[str, Any]:
    return {name: value for name, (_, value) in wire.items()}
