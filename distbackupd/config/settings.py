"""The settings of ``distbackupd.toml``: checked once, when they are read; whoever holds a :class:`Settings` may trust it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any

import msgspec

from distbackupd.config.quantities import parse_duration, parse_share, parse_time_of_day
from distbackupd.model.errors import UsageError
from distbackupd.model.text import parse_size, printable

DEFAULT_FILE = Path("/etc/distbackupd/distbackupd.toml")
"""Read when no other file is named; it need not exist."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set. Texts stay as they were written; the properties give them as plain numbers.

    Raises:
        ValueError: a value means nothing; the sentence names the key and what is wrong.
    """

    keep_deleted: str = "30d"
    """How long the last copy of a deleted file is kept while there is room for living ones."""
    scan_at: str = "03:00"
    """Local wall time of the nightly scan of all sources."""
    settle: str = "5s"
    """How long a changed file must have rested before it is looked at."""
    protect_copies: int = 2
    """With so many copies a file counts as protected; what lacks them comes first."""
    prefer: str = "bytes"
    """What room is filled with when it runs out: the most ``bytes``, or the most ``files``."""
    rebalance: str = "10%"
    """Share of a disk's size that a session may write only to spread the risk more evenly."""
    brake_share: str = "20%"
    """When more of the files, or of their bytes, than this vanished or were rewritten, nothing is deleted."""
    brake_files: int = 10
    """Fewer files than this are no cause by their number, however large their share is."""
    brake_size: str = "64M"
    """Less than this is no cause by its bytes, however large its share is."""
    verify_share: str = "5%"
    """Share of a disk's content that is read again at the end of each session."""
    verify_time: str = "10min"
    """The longest that such a reading may take."""
    reread: str = "90d"
    """How long it takes until every source file was read again, when nothing else is to be done."""
    watch: bool = True
    """Whether sources are watched for changes between the nightly scans."""
    mount_folder: str = "/run/distbackup-mnt"
    """Where disks are mounted, each in a folder of its own."""
    power_off: bool = True
    """Whether a drive is switched off when its disk is done, where that is possible."""
    remind_after: str = "90d"
    """How long a disk may stay away before its name is told."""

    def __post_init__(self) -> None:
        for key, check in _CHECKS.items():
            value: str | int = getattr(self, key)
            try:
                check(value)
            except ValueError as error:
                raise ValueError(f"{key} = {_as_written(value)} {error}") from None

    @property
    def keep_deleted_seconds(self) -> int:
        """:attr:`keep_deleted` in whole seconds."""
        return int(parse_duration(self.keep_deleted))

    @property
    def scan_at_time(self) -> time:
        """:attr:`scan_at` as a wall time without zone."""
        return parse_time_of_day(self.scan_at)

    @property
    def settle_seconds(self) -> float:
        """:attr:`settle` in seconds."""
        return parse_duration(self.settle)

    @property
    def remind_after_seconds(self) -> float:
        """:attr:`remind_after` in seconds; 0: never."""
        return parse_duration(self.remind_after)

    @property
    def rebalance_fraction(self) -> float:
        """:attr:`rebalance` as a number from 0 (never) to 1."""
        return parse_share(self.rebalance)

    @property
    def brake_share_fraction(self) -> float:
        """:attr:`brake_share` as a number from 0 to 1."""
        return parse_share(self.brake_share)

    @property
    def brake_size_bytes(self) -> int:
        """:attr:`brake_size` in bytes."""
        return parse_size(self.brake_size)

    @property
    def reread_seconds(self) -> float:
        """:attr:`reread` in seconds; 0: never."""
        return parse_duration(self.reread)

    @property
    def verify_share_fraction(self) -> float:
        """:attr:`verify_share` as a number from 0 (never) to 1 (all, each time)."""
        return parse_share(self.verify_share)

    @property
    def verify_time_seconds(self) -> float:
        """:attr:`verify_time` in seconds."""
        return parse_duration(self.verify_time)


def load_settings(path: Path | None = None) -> Settings:
    """The settings of the file; of :data:`DEFAULT_FILE` when none is named, which need not exist.

    Raises:
        UsageError: the file is named but missing, cannot be read, is no TOML, or says something that cannot be meant.
    """
    file = path or DEFAULT_FILE
    name = printable(str(file))
    try:
        table = tomllib.loads(file.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        if file == DEFAULT_FILE:
            return Settings()
        raise UsageError(f"{name}: there is no such file; leave --config out to run with the defaults") from None
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is no UTF-8 text, at byte {error.start:,}; TOML files are UTF-8") from error
    except (ValueError, RecursionError) as error:
        # Endless numbers and nesting are errors of Python's own.
        raise UsageError(f"{name}: is not written as TOML: {_shortened(str(error))}") from error
    try:
        return msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        raise UsageError(f"{name}: {_explain(error, table)}") from error


_UNKNOWN_KEY = re.compile(r"unknown field `(.+)`", re.DOTALL)
_WRONG_TYPE = re.compile(r"Expected `(\w+)`, got `\w+` - at `\$\.(\w+)`")
_KINDS = {"str": 'a text in quotes, such as "{}"', "bool": "either true or false", "int": "a whole number, such as {}"}


def _explain(error: msgspec.ValidationError, table: dict[str, Any]) -> str:
    if isinstance(error.__cause__, ValueError):
        return str(error.__cause__)
    if unknown := _UNKNOWN_KEY.search(str(error)):
        return f"there is no setting '{_shortened(unknown[1])}'; there are {', '.join(Settings.__struct_fields__)}"
    if wrong := _WRONG_TYPE.search(str(error)):
        kind, key = wrong.groups()
        return f"{key} = {_as_written(table[key])} must be {_KINDS[kind].format(getattr(Settings(), key))}"
    return _shortened(str(error))


def _as_written(value: object) -> str:
    try:
        return _shortened(json.dumps(value))
    except (TypeError, ValueError):
        return _shortened(str(value))


def _shortened(text: str, most: int = 300) -> str:
    """What a sentence can repeat of the file."""
    return printable(text if len(text) <= most else f"{text[:most]}…")


def _check_folder(text: str) -> None:
    if not text.startswith("/") or "\0" in text:
        raise ValueError("is no absolute path; begin it with a slash")


def _check_count(number: int) -> None:
    if not 1 <= number <= 1_000_000_000:
        raise ValueError("is no number of copies or files; write 1 or more")


def _check_size(text: str) -> None:
    try:
        parse_size(text)
    except UsageError:
        raise ValueError('is no size; write it like "64M" or "2G"') from None


def _check_preference(text: str) -> None:
    if text not in ("bytes", "files"):
        raise ValueError('is neither "bytes" nor "files"')


def _check_reread(text: str) -> None:
    if 0 < parse_duration(text) < 86_400:
        raise ValueError('is shorter than a day; write it like "90d", or "0" for never')


_CHECKS: dict[str, Callable[[Any], object]] = {
    "keep_deleted": parse_duration,
    "scan_at": parse_time_of_day,
    "settle": parse_duration,
    "verify_share": parse_share,
    "verify_time": parse_duration,
    "reread": _check_reread,
    "mount_folder": _check_folder,
    "remind_after": parse_duration,
    "protect_copies": _check_count,
    "prefer": _check_preference,
    "rebalance": parse_share,
    "brake_share": parse_share,
    "brake_files": _check_count,
    "brake_size": _check_size,
}
