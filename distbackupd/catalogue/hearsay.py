"""What a stranger's catalogue, or distbackup's database (``former``), may say: values of columns, and what must hold.

The tables and columns themselves are those that our own migrations make; here stands only what they do not say. Whatever
passes is something that this program could have written, whoever wrote it.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, NamedTuple, get_type_hints

import msgspec

from distbackupd.catalogue.encoding import decode_xattrs
from distbackupd.engine.brake_memory import FACT as BRAKE
from distbackupd.engine.brake_memory import BrakeMemory
from distbackupd.engine.reminders import LAST_REMINDER
from distbackupd.engine.scan import SCANNED
from distbackupd.engine.timekeeping import CLOCK, LAST_SCAN
from distbackupd.model.disks import may_name_a_disk
from distbackupd.model.errors import UsageError
from distbackupd.model.files import EntryKind, ProblemKind
from distbackupd.model.sources import LARGEST_NUMBER, FolderSettings
from distbackupd.model.text import printable
from distbackupd.planning.patterns import check_rule
from distbackupd.planning.timekeeping import Timeline

LARGEST_GENERATION = 1 << 53
"""A generation grows by one with each recorded change; no catalogue comes near."""
_WHOLE = (-(1 << 63), (1 << 63) - 1)
_MOMENT = (0, 250_000_000_000)
"""Unix seconds, to the year 9892: what ``time`` can say."""
_BYTES = (0, 1 << 60)
_NUMBER = (0, LARGEST_NUMBER)
_ID = (1, (1 << 62) - 1)
_FOLDER = (0, 0xFFF)
_SWITCH = (0, 1)

NUMBERS: dict[str, tuple[int, int]] = {
    "attributes.mode": (0, 0o7777),
    "attributes.uid": (0, (1 << 32) - 1),
    "attributes.gid": (0, (1 << 32) - 1),
    "attributes.rdev": _WHOLE,
    "object.size": (1, 1 << 60),
    "object.priority": _NUMBER,
    "object.maxcopies": _NUMBER,
    "object.copies": _NUMBER,
    "object.orphaned_at": _MOMENT,
    "file.kind": (0, int(max(EntryKind))),
    "file.size": _BYTES,
    "file.mtime_ns": _WHOLE,
    "file.ctime_ns": _WHOLE,
    "file.device": _WHOLE,
    "file.inode": _WHOLE,
    "file.flags": (0, (1 << 40) - 1),
    "file.priority": _NUMBER,
    "file.maxcopies": _NUMBER,
    "file.copies": _NUMBER,
    "file.seen": _MOMENT,
    "file.gone": _MOMENT,
    "disk.capacity": _BYTES,
    "disk.added_at": _MOMENT,
    "disk.last_session_at": _MOMENT,
    "disk.catalogue_generation": (-1, LARGEST_GENERATION),
    "disk.clean": _SWITCH,
    "disk.block_size": (1, 1 << 30),
    "disk.largest_file": _BYTES,
    "disk.overhead": (-(1 << 40), 1 << 40),
    "disk.most_objects": _WHOLE,
    "disk.fillable": (-1, 1 << 60),
    "disk.declined": _BYTES,
    "disk.folder_inode": _WHOLE,
    "verified_folder.folder": _FOLDER,
    "verified_folder.verified_at": _MOMENT,
    "listed_folder.folder": _FOLDER,
    "listed_folder.mtime_ns": _WHOLE,
    "listed_folder.listed_at": _MOMENT,
    "session.started": _MOMENT,
    "session.ended": _MOMENT,
    "rotten_file.found_at": _MOMENT,
    "rotten_file.ctime_ns": _WHOLE,
    "unconfirmed.was_read": _SWITCH,
    "problem.kind": (0, int(max(ProblemKind))),
    "problem.size": (0, (1 << 63) - 1),  # among them are files that are too large to be anything else
    "problem.since": _MOMENT,
    "problem.tries": _NUMBER,
    "problem.changing": _SWITCH,
    "account.is_group": _SWITCH,
    "account.number": (0, (1 << 32) - 1),
    "account.since": _MOMENT,
    "former.file_tree.size": _BYTES,
    "former.file_tree.last_modified": (-(1 << 42), 1 << 42),
    "former.file_tree.ino": _WHOLE,
    "former.file_tree.priority": (-LARGEST_NUMBER, LARGEST_NUMBER),
    "former.file_tree.maxcopies": (-LARGEST_NUMBER, LARGEST_NUMBER),
    "former.disk.nexus_index": (0, 100_000),
    "former.disk.size": _BYTES,
    "former.object.size": _BYTES,
}
"""Lowest and highest value; of what is not named here, that of an id, or :data:`_USUAL_NUMBER`."""
_USUAL_NUMBER = (0, (1 << 62) - 1)
_IDS = frozenset({"id", "folder", "attributes", "holders", "object", "file", "disk"})

LENGTHS: dict[str, int] = {
    "attributes.xattrs": 16 << 20,
    "folder.path": 1 << 20,
    "folder_setting.virtual_path": 1 << 20,
    "folder_setting.settings": 1 << 20,
    "source.virtual_path": 1 << 20,
    "source.real_path": 1 << 16,
    "file.target": 1 << 16,
    "fact.value": 1 << 20,
    "holder_set.members": 1 << 16,
    "session.sentence": 1 << 16,
    "problem.reason": 1 << 16,
    "former.path_map.virtual_path": 1 << 20,
    "former.path_config.virtual_path": 1 << 20,
    "former.path_config.config": 1 << 20,
    "former.file_tree.virtual_path": 1 << 20,
    "former.symbolic_link.virtual_path": 1 << 20,
    "former.object.nexus": 1 << 17,
}
"""Bytes or letters at the most; of what is not named here, :data:`_USUAL_LENGTH`."""
_USUAL_LENGTH = 4096

ESCAPED = {"session.disk_name", "session.sentence", "problem.reason", "account.name"}
"""What is only ever shown; nothing in it may drive a terminal."""

DERIVED = {"holding_total", "unconfirmed_total", "tally"}
"""Tables that can be told from others."""


class Column(NamedTuple):
    """A column as one of our own tables has it. ``kind``: INTEGER, TEXT or BLOB."""

    table: str
    name: str
    kind: str
    may_be_null: bool

    @property
    def full_name(self) -> str:
        """``disk.name`` and the like."""
        return f"{self.table}.{self.name}"

    @property
    def as_json(self) -> str:
        """The SQL that gives it to ``json_array``."""
        if self.kind != "BLOB":
            return self.name
        return f"iif({self.name} IS NULL, NULL, hex({self.name}))" if self.may_be_null else f"hex({self.name})"

    def checked(self) -> Any:
        """The type against which msgspec checks a value as it reads it. Bytes come as hexadecimal digits."""
        found: Any
        if self.kind == "INTEGER":
            low, high = NUMBERS.get(self.full_name, _ID if self.name in _IDS else _USUAL_NUMBER)
            found = Annotated[int, msgspec.Meta(ge=low, le=high)]
        else:
            length = LENGTHS.get(self.full_name, _USUAL_LENGTH)
            found = Annotated[str, msgspec.Meta(max_length=2 * length if self.kind == "BLOB" else length)]
        return found | None if self.may_be_null else found

    def taken(self, values: Sequence[Any]) -> Sequence[Any]:
        """Values of it, checked already by :meth:`checked`, as they are to be kept. Raises ValueError if one may not be."""
        if self.kind == "BLOB":
            values = [value if value is None else bytes.fromhex(value) for value in values]
        check = CHECKS.get(self.full_name)
        if check is not None and not all(map(check, values)):
            raise ValueError(f"what it says in '{self.full_name}' cannot be so")
        return [value and printable(value) for value in values] if self.full_name in ESCAPED else values


def rows_of(columns: Sequence[Column]) -> Callable[[bytes], list[tuple[Any, ...]]]:
    """What makes rows, as they are to be kept, of a JSON array of arrays.

    It raises ValueError if there is anything in it that may not be.
    """
    decoder: msgspec.json.Decoder[list[tuple[Any, ...]]] = msgspec.json.Decoder(
        list[tuple[tuple(column.checked() for column in columns)]]  # type: ignore[misc]
    )

    def read(content: bytes) -> list[tuple[Any, ...]]:
        by_column = zip(columns, zip(*decoder.decode(content), strict=True), strict=True)
        return list(zip(*(column.taken(values) for column, values in by_column), strict=True))

    return read


def _is_canonical(path: bytes) -> bool:
    """Whether it is absolute and has no empty part, no ``.`` and no ``..``."""
    parts = path.split(b"/")
    return path == b"/" or (parts[0] == b"" and _are_names(parts[1:]))


def _is_virtual(path: bytes) -> bool:
    """Whether it is a virtual path, though not in the form in which we write it."""
    return path.startswith(b"/") and _DOTTED.isdisjoint(path.split(b"/")) and b"\0" not in path


def _is_relative(path: bytes) -> bool:
    """Whether it stays below where it begins; empty: it is there."""
    return path == b"" or _are_names(path.split(b"/"))


def _are_names(parts: Sequence[bytes]) -> bool:
    return all(part and part not in _DOTS and b"\0" not in part for part in parts)


def _is_name(name: bytes) -> bool:
    """Whether it is one; a source's own folder has an empty one."""
    return name not in _DOTS and b"/" not in name and b"\0" not in name


def _are_settings(text: str) -> bool:
    try:
        mapping = json.loads(text)
        if not isinstance(mapping, dict):
            return False
        for rule in FolderSettings.from_mapping(mapping).rules:
            check_rule(rule)
    except (ValueError, RecursionError, UsageError):
        return False
    return True


def _are_xattrs(blob: bytes) -> bool:
    try:
        return not blob or all(name and b"\0" not in name for name, _ in decode_xattrs(blob))
    except ValueError:
        return False


def _are_members(text: str) -> bool:
    """Whether they are disks' ids in order, each of them once."""
    if not _MEMBERS.fullmatch(text):
        return False
    members = [int(word) for word in text.split()]
    return members == sorted(set(members))


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _is_shown_plainly(text: str) -> bool:
    return text.isprintable()


_DOTS = (b".", b"..")
_DOTTED = frozenset(_DOTS)
_MEMBERS = re.compile(r"(?:[1-9][0-9]{0,18}(?: [1-9][0-9]{0,18})*)?")
_WORD = re.compile(r"[0-9A-Za-z_.:+-]{0,128}")

CHECKS: dict[str, Callable[[Any], object]] = {
    "source.virtual_path": _is_canonical,
    "source.real_path": _is_canonical,
    "folder_setting.virtual_path": _is_canonical,
    "folder_setting.settings": _are_settings,
    "folder.path": _is_canonical,
    "attributes.xattrs": _are_xattrs,
    "holder_set.members": _are_members,
    "object.hash": lambda digest: len(digest) == 32,
    "removal.hash": lambda digest: len(digest) == 32,
    "rotten_file.found": lambda digest: len(digest) in (0, 32),
    "file.name": _is_name,
    "file.target": lambda target: b"\0" not in target,
    "problem.name": _is_name,
    "disk.uuid": _is_uuid,
    "disk.name": may_name_a_disk,
    "disk.relative_path": _is_relative,
    "disk.last_path": lambda path: path == b"" or _is_canonical(path),
    "disk.filesystem_uuid": lambda text: text is None or _WORD.fullmatch(text),
    "disk.filesystem_type": lambda text: text is None or _WORD.fullmatch(text),
    "disk.luks_uuid": lambda text: text is None or _WORD.fullmatch(text),
    "disk.location": _is_shown_plainly,
    "disk.folder_on": _is_shown_plainly,
    "disk.token": _WORD.fullmatch,
    "disk.next_token": _WORD.fullmatch,
    "former.path_map.virtual_path": _is_virtual,
    "former.path_map.real_path": lambda path: _is_canonical(path.rstrip(b"/") or b"/"),
    "former.path_config.virtual_path": _is_virtual,
    "former.file_tree.virtual_path": _is_virtual,
    "former.symbolic_link.virtual_path": _is_virtual,
    "former.symbolic_link.target": lambda target: b"\0" not in target,
    "former.disk.name": lambda name: name is None or may_name_a_disk(os.fsdecode(name)),
    "former.disk.relative_path": lambda path: path in (None, b".") or _is_relative(path.strip(b"/")),
    "former.disk.fsuuid": lambda word: word is None or _WORD.fullmatch(os.fsdecode(word)),
    "former.disk.fstype": lambda word: word is None or _WORD.fullmatch(os.fsdecode(word)),
    "former.object.nexus": re.compile(rb"[01]*").fullmatch,
    "session.outcome": lambda outcome: outcome in ("running", "finished", "interrupted", "failed"),
}
"""What beyond type and size must be true of a value."""


# --- facts ---


def _number(text: str) -> str:
    if not re.fullmatch(r"[0-9]{0,12}", text):
        raise ValueError("a moment is a number")
    return text


def _generation(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,16}", text, re.ASCII) or int(text) > LARGEST_GENERATION:
        raise ValueError("its generation is none")
    return text


def _fingerprint(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("a fingerprint is hexadecimal")
    return text


def _brake(text: str) -> str:
    kept = _json(text, BrakeMemory)
    return json.dumps(asdict(replace(kept, causes=tuple(map(printable, kept.causes)))))


def _clock(text: str) -> str:
    fields = [(name, kind, Timeline._field_defaults.get(name, msgspec.NODEFAULT)) for name, kind in _TIMELINE.items()]
    kept = _json(text, msgspec.defstruct("StoredTimeline", fields, forbid_unknown_fields=True))
    return json.dumps(msgspec.structs.asdict(kept))


def _json(text: str, kind: Any) -> Any:
    def number(digits: str) -> int:
        if len(digits) > 16:
            raise ValueError("a number is too large")
        return int(digits)

    def constant(name: str) -> float:
        raise ValueError(f"{name} is no number")

    try:
        return msgspec.convert(json.loads(text, parse_int=number, parse_constant=constant), kind)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


_TIMELINE = get_type_hints(Timeline)
FACTS: dict[str, Callable[[str], str]] = {
    "generation": _generation,
    LAST_SCAN: _number,
    SCANNED: _fingerprint,
    LAST_REMINDER: _number,
    BRAKE: _brake,
    CLOCK: _clock,
}
"""Facts that are taken over, and what gives them back if they are what they should be. It raises ValueError else.

All others are soon known again.
"""


def taken_facts(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of them that are taken over. Raises ValueError if one of those is not what it should be."""
    return [(key, FACTS[key](value)) for key, value in rows if key in FACTS and value]


LOOSE: Sequence[tuple[int, str, str, str]] = (
    (1, "removal", "disk", "disk"),
    (1, "verified_folder", "disk", "disk"),
    (4, "rotten_file", "file", "file"),
    (5, "unconfirmed", "file", "file"),
    (5, "problem", "folder", "folder"),
    (5, "listed_folder", "disk", "disk"),
)
"""Since which version there is a table, of which rows may be left out whose column refers to nothing in another table."""

CONTRADICTIONS: Sequence[tuple[int, str, str]] = (
    (1, "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM holder_set WHERE id = 1 AND members = '')", "nobody holds nothing"),
    (1, "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM folder WHERE id = 1 AND path = x'2f')", "it has no root"),
    (1, "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM fact WHERE key = 'generation')", "its generation is missing"),
    (1, "SELECT 1 FROM file WHERE object IS NOT NULL AND (kind <> 0 OR size = 0)", "what is no file has content"),
    (1, "SELECT 1 WHERE (SELECT total(size) FROM object) > 4e18", "its objects are larger than all disks"),
    (1, "SELECT 1 WHERE (SELECT total(size) FROM file) > 4e18", "its files are larger than all disks"),
    (5, "SELECT 1 FROM attributes WHERE xattrs_hash <> hash_xattrs(xattrs)", "it has attributes under a wrong hash"),
    (5, "SELECT 1 FROM unconfirmed JOIN file ON file.id = unconfirmed.file WHERE gone <> 0", "what is gone is to be read"),
)
"""From which version on it must hold, a query that finds a row if it does not, and what is wrong then."""
