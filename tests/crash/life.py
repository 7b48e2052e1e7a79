"""The operations that are cut: one whole life of a shelf, step by step, and the words of which sequences are made.

A step changes the source (a pure function of what it is), and then is a command of the product, or two.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.crash.reader import Catalogue
from tests.crash.shelf import DISKS, Shelf, Source

Commands = tuple[tuple[str, ...], ...]
_LONG_AGO = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class Step:
    """``disks``: those that are plugged in. ``before``: what somebody else does to a mounted disk first. ``forgets``: disks
    whose copies the user gives up. ``next``: what the user does after a cut, who sees this catalogue (None: there is none);
    not given: a backup of each plugged disk. ``ends``: with this exit status, where nothing fails.
    """

    name: str
    commands: Commands
    disks: tuple[str, ...] = ()
    change: Callable[[Source], Source] = dict
    keep: str = ""
    before: Callable[[Shelf], None] | None = None
    forgets: frozenset[str] = field(default_factory=frozenset)
    next: Callable[[Catalogue | None], Commands] | None = None
    ends: int = 0

    def sessions(self, catalogue: Catalogue | None) -> Commands:
        """The commands that follow a cut."""
        return self.next(catalogue) if self.next else tuple(("backup", "-u", disk) for disk in self.plugged)

    @property
    def plugged(self) -> tuple[str, ...]:
        """Disks that are needed for it and for what follows."""
        return self.disks or DISKS[:1]


def files(names: str, count: int, *sizes: int) -> Callable[[Source], Source]:
    """So many new files ``names``/0, 1, 2..., of these sizes in turn, each of other content."""

    def change(source: Source) -> Source:
        fresh = {}
        for number in range(count):
            name = f"{names}/{number}"
            tries = sum(other.startswith(f"{name} ") or other == name for other in source)
            name = f"{name} {tries}" if tries else name
            dice = random.Random(f"{name} {len(source)}")
            fresh[name] = (dice.randbytes(sizes[number % len(sizes)]), _LONG_AGO + len(source) * 1_000_000_007 + number)
        return {**source, **fresh}

    return change


def deleted(every: int) -> Callable[[Source], Source]:
    """Without each so many-th file."""
    return lambda source: {name: source[name] for i, name in enumerate(sorted(source)) if (i + 1) % every}


def rewritten(every: int) -> Callable[[Source], Source]:
    """With other content in each so many-th file."""

    def change(source: Source) -> Source:
        fresh = dict(source)
        for number, name in enumerate(sorted(source)):
            if number % every == 0:
                content, changed = source[name]
                fresh[name] = (random.Random(content).randbytes(len(content) + 7), changed + 5_000_000_000)
        return fresh

    return change


def moved(source: Source) -> Source:
    """Everything in another folder."""
    return {f"m{name}" if "/" in name else name: what for name, what in source.items()}


def both(*changes: Callable[[Source], Source]) -> Callable[[Source], Source]:
    """One after the other."""

    def change(source: Source) -> Source:
        for each in changes:
            source = each(source)
        return source

    return change


def _fill(shelf: Shelf) -> None:
    """Somebody else's file takes nearly all room of d1."""
    state = os.statvfs(shelf.root("d1"))
    size = state.f_bavail * state.f_frsize - 1_000_000
    with open(f"{shelf.root('d1')}/ballast", "wb") as file:
        # What btrfs calls free is not all to be had.
        while size > 0:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError:
                size -= 1_000_000
            else:
                break


def _make_room(shelf: Shelf) -> None:
    os.unlink(f"{shelf.root('d1')}/ballast")


def _rot(shelf: Shelf) -> None:
    """One byte of each fourth object of d2 is another one."""
    root = f"{shelf.root('d2')}/distbackup-objects"
    for number, folder in enumerate(sorted(os.listdir(root))):
        for name in os.listdir(f"{root}/{folder}"):
            if number % 4 == 0:
                with open(f"{root}/{folder}/{name}", "r+b") as file:
                    first = file.read(1)
                    file.seek(0)
                    file.write(bytes([first[0] ^ 0xFF]))


def _lose_catalogue(shelf: Shelf) -> None:
    shutil.rmtree(shelf.catalogue_folder)


def enrolment(shelf: Shelf) -> Commands:
    """What comes before everything: a source and the first disk."""
    return (("source", "map", "/", shelf.source), ("disk", "add", "d1", shelf.root("d1"), "-s", "3M"))


def whole_life(shelf: Shelf) -> list[Step]:
    """From the first scan to a lost catalogue."""
    destination = f"{shelf.folder}/restored"
    enrol = ("disk", "add", "d2", shelf.root("d2"), "-s", "2M")
    backup = ("backup", "-u", "d2")

    def enrolled(catalogue: Catalogue | None) -> Commands:
        return (backup,) if catalogue and "d2" in catalogue.disks else (enrol, backup)

    def recovered(catalogue: Catalogue | None) -> Commands:
        again = ("backup", "-u", "d1")
        return (again,) if catalogue and catalogue.disks else (("recover", "--yes", shelf.root("d1")), again)

    small = (900, 5_000, 12_000, 30_000)
    return [
        Step("scan", (("update",),), change=both(files("a", 10, *small), files("big", 1, 1_300_000))),
        Step("first backup", (("backup", "-u", "d1"),), ("d1",), files("b", 8, *small)),
        Step("second disk", (enrol,), ("d2",), next=enrolled),
        Step("replicate", (("backup", "-u", "d2"),), ("d2",), files("c", 6, *small)),
        Step("deletes", (("backup", "-u", "d1"),), ("d1",), both(deleted(3), rewritten(4)), keep="0"),
        Step("evictions", (("backup", "-u", "d2"),), ("d2",), files("d", 8, 60_000, 90_000, 150_000)),
        Step("no room", (("backup", "-u", "d1"),), ("d1",), files("e", 6, 40_000, 250_000), before=_fill),
        Step("room again", (("backup", "-u", "d1"),), ("d1",), moved, before=_make_room),
        Step("verify", (("verify", "d2"),), ("d2",), before=_rot, ends=7),
        Step("mend", (("backup", "-u", "d2"),), ("d2",)),
        Step("refresh", (("disk", "refresh", "d1"),), ("d1",)),
        Step("restore", (("restore", "--to", destination, "--no-wait", "/"),), ("d1", "d2")),
        Step("drop", (("disk", "drop", "d2"),), ("d1",), forgets=frozenset({"d2"})),
        Step("after the drop", (("backup", "-u", "d1"),), ("d1",), files("f", 3, *small), forgets=frozenset({"d2"})),
        Step("refresh again", (("disk", "refresh", "d2"),), ("d2",)),
        Step("recover", (("recover", "--yes", shelf.root("d1")),), ("d1",), before=_lose_catalogue, next=recovered),
    ]


def words(shelf: Shelf) -> list[Step]:
    """The operations of which all sequences are made; any may follow any."""
    small = (700, 9_000, 20_000)
    return [
        Step("new1", (("backup", "-u", "d1"),), ("d1",), files("n", 3, *small)),
        Step("new2", (("backup", "-u", "d2"),), ("d2",), files("n", 3, *small)),
        Step("del1", (("backup", "-u", "d1"),), ("d1",), deleted(2), keep="0"),
        Step("edit2", (("backup", "-u", "d2"),), ("d2",), rewritten(2), keep="0"),
        Step("scan", (("update",),), change=both(moved, files("s", 1, 3_000))),
        Step("verify1", (("verify", "d1"),), ("d1",)),
        Step("refresh2", (("disk", "refresh", "d2"),), ("d2",)),
        Step("drop2", (("disk", "drop", "d2"),), ("d2",), forgets=frozenset({"d2"})),
    ]
