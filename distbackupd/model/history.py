"""What a path was, and when."""

from __future__ import annotations

from typing import NamedTuple

from distbackupd.model.files import EntryKind


class Version(NamedTuple):
    """What a path was from ``seen`` until before ``gone`` (unix seconds; 0: it still is).

    ``attributes`` is the number under which owner, mode and extended attributes are interned; ``digest`` is None for all
    but non-empty regular files; ``holders`` are the disks that hold its content now. ``restless``: it was taken while it was
    written.
    """

    path: bytes
    kind: EntryKind
    size: int
    mtime_ns: int
    attributes: int
    target: bytes
    digest: bytes | None
    holders: frozenset[int]
    seen: int
    gone: int
    restless: bool = False

    @property
    def is_held(self) -> bool:
        """Whether it can be brought back: its content, if it has any, is on some disk."""
        return self.digest is None or bool(self.holders)


class Change(NamedTuple):
    """What became of a path between two moments: ``before`` is None if it is new, ``after`` if it is gone."""

    path: bytes
    before: Version | None
    after: Version | None

    @property
    def what(self) -> str:
        """``new``, ``gone``, ``changed`` (content, kind or target), ``metadata`` (owner, mode, time, attributes)."""
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        one, other = self.before, self.after
        same = (one.kind, one.size, one.digest, one.target) == (other.kind, other.size, other.digest, other.target)
        return "metadata" if same else "changed"
