"""What became of everything that a restore meant, while it goes on and at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from distbackupd.engine.ports import Placement, Reporter
from distbackupd.model.disks import BackupDisk
from distbackupd.model.events import BadCopyFound, Remark
from distbackupd.model.files import EntryFlag, EntryKind, RestoreEntry
from distbackupd.model.text import join_words, printable, say_count
from distbackupd.planning.disk_choice import NOTHING, Share

NAMES_KEPT = 20
"""So many names of missing, failed and obstructed files are told and kept; the others are counted."""


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What became of every entry that was meant.

    ``restored`` counts entries of every kind, ``restored_bytes`` content that was written. ``missing``: files whose content
    is still to come (names of one file count once), by the disks that hold it (an empty set: none does). ``failed`` (path
    and reason), ``missing_names`` and ``in_the_way_names`` are the first ones only. ``bad_digests``: objects of which a bad
    copy was met. ``not_kept``: what the destination could not take, by kind. ``taken``: entries whose names, or those of
    folders above them, the destination takes for those of others; ``taken_names`` the first ones, each with the path that
    has its place, or None. ``unknown_owners``: names that this machine does not know. ``never_kept``: what was seen at the
    source and is of a kind that no backup keeps, such as a socket. ``restless``: restored files that were taken while they
    were written, ``restless_names`` the first ones.
    """

    restored: int
    restored_bytes: int
    left_alone: int
    failed_files: int
    failed: tuple[tuple[bytes, str], ...]
    missing: Mapping[frozenset[int], Share]
    missing_names: tuple[bytes, ...]
    in_the_way: int
    in_the_way_names: tuple[bytes, ...]
    bad_digests: tuple[bytes, ...]
    not_kept: Mapping[str, int]
    taken: int
    taken_names: tuple[tuple[bytes, bytes | None], ...]
    unknown_owners: tuple[str, ...]
    never_kept: int
    restless: int
    restless_names: tuple[bytes, ...]

    @property
    def complete(self) -> bool:
        """Whether everything that was meant is at the destination now."""
        return not (self.failed_files or self.missing_files or self.in_the_way or self.taken)

    @property
    def missing_files(self) -> int:
        """How many files are still to come."""
        return sum(share.files for share in self.missing.values())

    @property
    def missing_bytes(self) -> int:
        """And their bytes."""
        return sum(share.size for share in self.missing.values())

    @property
    def needed_disks(self) -> dict[int, int]:
        """How many of the missing files each disk holds, by disk id."""
        needed: Counter[int] = Counter()
        for holders, share in self.missing.items():
            needed.update(dict.fromkeys(holders, share.files))
        return dict(needed)

    @property
    def unheld(self) -> int:
        """How many of the missing files are on no disk at all."""
        return self.missing.get(frozenset(), NOTHING).files


@dataclass(slots=True)
class Tally:
    """The same while it grows; it tells the first of each kind of trouble at once.

    ``bad``: disks on which the copy of an object is bad. ``retries``: a bad copy is no failure yet, for another disk may
    have a good one.
    """

    reporter: Reporter
    retries: bool = False
    restored: int = 0
    restored_bytes: int = 0
    left_alone: int = 0
    failed_files: int = 0
    failed: list[tuple[bytes, str]] = field(default_factory=list)
    missing: dict[frozenset[int], Share] = field(default_factory=dict)
    missing_names: list[bytes] = field(default_factory=list)
    in_the_way: int = 0
    in_the_way_names: list[bytes] = field(default_factory=list)
    bad: dict[bytes, set[int]] = field(default_factory=dict)
    taken: int = 0
    taken_names: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    unknown_owners: set[str] = field(default_factory=set)
    never_kept: list[bytes] = field(default_factory=list)
    restless: int = 0
    restless_names: list[bytes] = field(default_factory=list)

    def place(self, entry: RestoreEntry, placement: Placement, written: bool = True) -> None:
        """It was placed, or not; ``written``: its content was written."""
        if placement is Placement.RESTORED:
            self.restored += 1
            if written and entry.kind is EntryKind.FILE:
                self.restored_bytes += entry.size
            if entry.flags & EntryFlag.RESTLESS:
                self.restless += 1
                if len(self.restless_names) < NAMES_KEPT:
                    self.restless_names.append(entry.path)
        elif placement is Placement.LEFT_ALONE:
            self.left_alone += 1
        elif placement is Placement.IN_THE_WAY:
            self.in_the_way += 1
            if len(self.in_the_way_names) < NAMES_KEPT:
                self.in_the_way_names.append(entry.path)
                self.reporter.tell(Remark(f"{printable(entry.path)}: not restored, something else is in its place"))

    def find_taken(self, entry: RestoreEntry, owner: bytes | None, above: bytes | None) -> None:
        """The destination takes its name, or that of the folder ``above``, for the name of ``owner``."""
        self.taken += 1
        if len(self.taken_names) >= NAMES_KEPT:
            return
        self.taken_names.append((entry.path, owner))
        whose = "its name" if above is None else f"the name of {printable(above)}"
        other = "another one" if owner is None else f"that of {printable(owner)}"
        self.reporter.tell(
            Remark(f"{printable(entry.path)}: not possible here, the destination takes {whose} for {other}, which stays")
        )

    def miss(self, entry: RestoreEntry, holders: frozenset[int]) -> None:
        """Its content is on other disks."""
        self.missing[holders] = self.missing.get(holders, NOTHING).with_more(1, entry.size)
        if len(self.missing_names) < NAMES_KEPT:
            self.missing_names.append(entry.path)

    def fail(self, entry: RestoreEntry, problem: str) -> None:
        """It cannot be restored."""
        self.failed_files += 1
        if len(self.failed) < NAMES_KEPT:
            self.reporter.tell(Remark(f"{printable(entry.path)}: not restored, {problem}"))
            self.failed.append((entry.path, problem))

    def find_bad(self, entry: RestoreEntry, digest: bytes, disk: BackupDisk, problem: str) -> None:
        """The disk's copy of its content is bad."""
        if digest not in self.bad:
            self.reporter.tell(BadCopyFound(disk.name, disk.uuid, digest.hex(), entry.path, problem))
        known = self.bad.setdefault(digest, set())
        known.add(disk.id)
        if self.retries:
            self.miss(entry, entry.holders - known)
            return
        self.failed_files += 1
        if len(self.failed) < NAMES_KEPT:
            self.failed.append((entry.path, problem))

    def sum_up(self, not_kept: Mapping[str, int]) -> None:
        """Tell what was left out, once."""
        if self.in_the_way:
            count = say_count(self.in_the_way, "entry", "entries")
            self.reporter.tell(Remark(f"{count} left out because something else is in place; --overwrite replaces files"))
        if self.taken:
            count = say_count(self.taken, "entry is", "entries are")
            self.reporter.tell(
                Remark(
                    f"{count} not possible here, because the destination takes names for one that the backup knows as "
                    "two; nothing of the others was touched: restore these to a folder or file system of another kind"
                )
            )
        if self.never_kept:
            names = [printable(path) for path in self.never_kept[:NAMES_KEPT]]
            if len(self.never_kept) > NAMES_KEPT:
                names.append(f"{len(self.never_kept) - NAMES_KEPT:,} more")
            self.reporter.tell(Remark(f"not restored, for no backup keeps such things as sockets: {join_words(names)}"))
        if self.restless:
            shown = [printable(path) for path in self.restless_names]
            more = [f"{self.restless - len(shown):,} more"] if self.restless > len(shown) else []
            were = "it was" if self.restless == 1 else "they were"
            self.reporter.tell(
                Remark(
                    f"{say_count(self.restless, 'file')} taken while {were} written, so parts may be of different moments: "
                    f"{join_words([*shown, *more])}"
                )
            )
        if self.unknown_owners:
            self.reporter.tell(Remark(_said_unknown(sorted(self.unknown_owners))))
        if not_kept:
            kinds = [f"{kind} ({count:,} times)" for kind, count in sorted(not_kept.items())]
            self.reporter.tell(Remark(f"the destination could not keep everything: {join_words(kinds)}"))

    def report(self, not_kept: Mapping[str, int]) -> RestoreReport:
        """The end."""
        return RestoreReport(
            restored=self.restored,
            restored_bytes=self.restored_bytes,
            left_alone=self.left_alone,
            failed_files=self.failed_files,
            failed=tuple(self.failed),
            missing=dict(self.missing),
            missing_names=tuple(self.missing_names),
            in_the_way=self.in_the_way,
            in_the_way_names=tuple(self.in_the_way_names),
            bad_digests=tuple(sorted(self.bad)),
            not_kept=not_kept,
            taken=self.taken,
            taken_names=tuple(self.taken_names),
            unknown_owners=tuple(sorted(self.unknown_owners)),
            never_kept=len(self.never_kept),
            restless=self.restless,
            restless_names=tuple(self.restless_names),
        )


def _said_unknown(names: list[str]) -> str:
    more = [f"{len(names) - NAMES_KEPT:,} more"] if len(names) > NAMES_KEPT else []
    said = join_words([*names[:NAMES_KEPT], *more])
    return f"owner names that this machine does not know: {said}; their numbers were kept"
