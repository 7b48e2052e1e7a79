"""Where the virtual tree comes from: sources, and what is set for its folders."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from distbackupd.model.errors import UsageError
from distbackupd.model.text import printable

LARGEST_NUMBER = 2**31 - 1
"""The highest priority or limit of copies, here and in side files."""


@dataclass(frozen=True, slots=True)
class Source:
    """A real folder (absolute) mapped to a place in the virtual tree (absolute, ``/`` at the least)."""

    virtual_path: bytes
    real_path: bytes


class RealPath(NamedTuple):
    """Where something really lies, and how far its path is to be trusted.

    ``root`` is what was named to this program, or what a link leads to that is to be followed: links in it are followed.
    ``below`` lies in it, and who may write there is not trusted: no link in it is ever followed. Empty: the root itself.
    """

    root: bytes
    below: bytes = b""

    @property
    def path(self) -> bytes:
        """The whole, absolute."""
        if not self.below:
            return self.root
        return self.root + self.below if self.root.endswith(b"/") else self.root + b"/" + self.below

    def child(self, name: bytes, followed: bool = False) -> RealPath:
        """An entry of this folder; ``followed``: if it is a link, what it leads to. An empty name: the folder."""
        if not name:
            return self
        below = RealPath(self.root, self.below + b"/" + name if self.below else name)
        return RealPath(below.path) if followed else below

    @property
    def folder(self) -> RealPath:
        """The folder above, for what is no root."""
        return RealPath(self.root, self.below.rpartition(b"/")[0])


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """What ``dsb source set`` says of one virtual folder; it holds for all below it unless a deeper folder says else.

    ``rules`` are ignore patterns (see :mod:`distbackupd.planning.patterns`), a folder's own before inherited ones;
    ``noinherit`` drops the inherited ones. ``priority`` 0 is not a setting: it clears. ``maxcopies`` None: no limit.
    ``copies`` is how many are wanted, and no more; None: as many as fit.
    """

    lock: bool = False
    hide: bool = False
    follow_symlinks: bool = False
    noinherit: bool = False
    priority: int | None = None
    maxcopies: int | None = None
    rules: tuple[str, ...] = field(default=())
    copies: int | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Only what differs from the default, with plain values: what is stored and what ``--json`` prints."""
        mapping: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value != item.default:
                mapping[item.name] = list(value) if isinstance(value, tuple) else value
        return mapping

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> FolderSettings:
        """The settings of a JSON object.

        Raises:
            UsageError: a key is unknown or a value is of the wrong type; the sentence names it.
        """
        values: dict[str, Any] = {}
        for key, value in mapping.items():
            if key in ("lock", "hide", "follow_symlinks", "noinherit"):
                if value is not None and not isinstance(value, bool):
                    raise UsageError(f"{key} is either true or false, not {_shown(repr(value))}")
                values[key] = bool(value)
            elif key in ("priority", "maxcopies", "copies"):
                if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                    raise UsageError(f"{key} is a whole number from 0 up, not {_shown(repr(value))}")
                if value is not None and value > LARGEST_NUMBER:
                    raise UsageError(f"{key} is {LARGEST_NUMBER:,} at the most, not {_shown(f'{value:,}')}")
                values[key] = value or None
            elif key == "rules":
                if not isinstance(value or [], list) or not all(isinstance(rule, str) for rule in value or []):
                    raise UsageError(f"rules is a list of patterns, not {_shown(repr(value))}")
                values[key] = tuple(value or [])
            else:
                raise UsageError(f"there is no setting '{_shown(key)}' for a folder")
        return cls(**values)


def canonical_virtual_path(path: str | bytes) -> bytes:
    """An absolute virtual path without doubled or trailing slashes: ``photos//2024/`` is ``/photos/2024``.

    Raises:
        UsageError: the path has a part ``.`` or ``..`` or a NUL byte, which no virtual path has.
    """
    raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    parts = [part for part in raw.split(b"/") if part]
    if any(part in (b".", b"..") for part in parts) or b"\0" in raw:
        raise UsageError(f"'{printable(raw)}' is no virtual path: it must not contain '.' or '..'")
    return b"/" + b"/".join(parts)


def _shown(text: str, most: int = 60) -> str:
    """What a sentence can repeat of it."""
    return printable(text if len(text) <= most else f"{text[:most]}…")
