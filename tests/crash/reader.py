"""What lies on a disk and what a catalogue says, read without any code of the product: nothing of it is imported here."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field


class Unreadable(Exception):
    """The file system cannot say what is in a folder."""


_EXPECTED = {
    "distbackup-disk.json",
    "distbackup-session.json",
    "distbackup.sqlite",
    "distbackup-objects",
    "distbackup-tmp",
    "distbackup-restore.py",
    "README.txt",
    "bad-objects",
}


@dataclass
class Disk:
    """``objects``: size of each object file that is whole, by its hash in hexadecimal digits; ``broken``: paths of the
    others, by name; ``temporary``: paths of what no session should leave; ``unreadable``: what the file system itself did
    not keep, with its reason: files that cannot be read at all, two names of a file that has one.
    """

    objects: dict[str, int] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    temporary: list[str] = field(default_factory=list)


@dataclass
class KnownDisk:
    """What a catalogue says of a disk."""

    name: str
    capacity: int
    clean: bool
    block_size: int
    overhead: int
    holds: set[str] = field(default_factory=set)

    def footprint(self, size: int) -> int:
        """Bytes that an object takes there."""
        return self.overhead + -(-size // self.block_size) * self.block_size


@dataclass
class Catalogue:
    """``sizes``: of every object; ``living``: objects that a current file refers to; ``pending``: (disk, object) whose file
    is still to be removed; ``disks`` by name. ``damage``: what SQLite says of its pages; empty: nothing.
    """

    damage: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    living: set[str] = field(default_factory=set)
    pending: set[tuple[str, str]] = field(default_factory=set)
    disks: dict[str, KnownDisk] = field(default_factory=dict)

    def holders(self) -> dict[str, set[str]]:
        """Names of the disks that are said to hold each object; those that nobody holds are left out."""
        found: dict[str, set[str]] = {}
        for disk in self.disks.values():
            for digest in disk.holds:
                found.setdefault(digest, set()).add(disk.name)
        return found


def read_disk(root: str) -> Disk:
    """All of it, read and hashed. A disk without a layout is an empty one."""
    disk = Disk()
    objects = os.path.join(root, "distbackup-objects")
    for folder in _names(objects):
        for name in _names(os.path.join(objects, folder)):
            path = os.path.join(objects, folder, name)
            try:
                digest, size = _hash(path)
            except OSError as error:
                disk.broken[name] = path
                disk.unreadable.append(f"{path}: {error.strerror}")
                continue
            if digest == name and name.startswith(folder):
                disk.objects[name] = size
            else:
                disk.broken[name] = path
    disk.temporary += [os.path.join(root, "distbackup-tmp", name) for name in _names(os.path.join(root, "distbackup-tmp"))]
    disk.temporary += [os.path.join(root, name) for name in _names(root) if _is_temporary(name)]
    disk.unreadable += _not_kept(
        [*disk.temporary, *(os.path.join(root, name) for name in _names(root))], disk.objects, objects
    )
    return disk


def _not_kept(paths: list[str], digests: Iterable[str], objects: str) -> Iterator[str]:
    """Without a journal a cut in the middle of a renaming leaves the old name, or a name of nothing, for good."""
    for path in paths:
        try:
            state = os.lstat(path)
        except OSError as error:
            yield f"{path}: {error.strerror}"
            continue
        name = os.path.basename(path)
        if name in digests and state.st_nlink == 1 and os.path.samestat(state, os.lstat(f"{objects}/{name[:3]}/{name}")):
            yield f"{path}: is also the name of an object, and has one name"


def read_catalogue(folder: str, spare: str) -> Catalogue | None:
    """From a copy of its files in ``spare``, so that nothing beside it changes; None: there is none, or an empty file."""
    path = os.path.join(folder, "distbackup.sqlite")
    if not os.path.exists(path) or not os.path.getsize(path):
        return None
    copy = os.path.join(spare, "read.sqlite")
    for suffix in ("", "-wal"):
        if os.path.exists(copy + suffix):
            os.unlink(copy + suffix)
        if os.path.exists(path + suffix):
            shutil.copyfile(path + suffix, copy + suffix)
    if os.path.exists(copy + "-shm"):
        os.unlink(copy + "-shm")
    catalogue = Catalogue()
    try:
        with closing(sqlite3.connect(copy)) as opened:
            _read_tables(opened, catalogue)
    except sqlite3.Error as error:
        catalogue.damage = str(error)
    return catalogue


def read_tree(root: str) -> dict[str, tuple[int, int, str]]:
    """Kind and mode, time of change, and content, of everything below a folder, by relative path."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(folder, name)
            state = os.lstat(path)
            content = _hash(path)[0] if stat.S_ISREG(state.st_mode) else ""
            found[os.path.relpath(path, root)] = (state.st_mode, state.st_mtime_ns, content)
    return found


def contents_of(root: str) -> set[str]:
    """Hashes of all files below a folder that are not empty."""
    return {content for mode, _, content in read_tree(root).values() if content and content != _EMPTY}


def fingerprint(root: str) -> bytes:
    """Equal for folders that nobody can tell apart by names, contents, or times of folders."""
    whole = hashlib.blake2b(digest_size=16)
    for folder, names, files in os.walk(root):
        names.sort()
        whole.update(f"{os.path.relpath(folder, root)} {os.stat(folder).st_mtime_ns}\n".encode())
        for name in sorted(files):
            path = os.path.join(folder, name)
            if name.endswith("-shm"):
                continue
            try:
                digest, size = _hash(path)
            except OSError as error:
                digest, size = str(error.errno), 0
            whole.update(f"{name} {size} {digest}\n".encode(errors="surrogateescape"))
    return whole.digest()


_EMPTY = hashlib.sha256().hexdigest()


def _read_tables(opened: sqlite3.Connection, catalogue: Catalogue) -> None:
    checked = opened.execute("PRAGMA quick_check").fetchone()[0]
    catalogue.damage = "" if checked == "ok" else checked
    if not opened.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return
    columns = "id, name, capacity, clean, block_size, overhead"
    by_number = {
        number: KnownDisk(name, capacity, bool(clean), block_size, overhead)
        for number, name, capacity, clean, block_size, overhead in opened.execute(f"SELECT {columns} FROM disk")
    }
    members = dict(opened.execute("SELECT id, members FROM holder_set"))
    for digest, size, holders in opened.execute("SELECT lower(hex(hash)), size, holders FROM object"):
        catalogue.sizes[digest] = size
        for number in members[holders].split():
            if int(number) in by_number:
                by_number[int(number)].holds.add(digest)
    catalogue.living = {
        row[0]
        for row in opened.execute(
            "SELECT DISTINCT lower(hex(hash)) FROM file JOIN object ON object.id = file.object WHERE gone = 0"
        )
    }
    catalogue.pending = {
        (by_number[number].name, digest)
        for number, digest in opened.execute("SELECT disk, lower(hex(hash)) FROM removal")
        if number in by_number
    }
    catalogue.disks = {disk.name: disk for disk in by_number.values()}


def _is_temporary(name: str) -> bool:
    return name not in _EXPECTED and (
        name.endswith((".new", "-journal", "-wal", "-shm")) or name.startswith("distbackup-tmp")
    )


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Unreadable(f"{folder}: {error.strerror}") from error


def _hash(path: str) -> tuple[str, int]:
    with open(path, "rb") as file:
        content = file.read()
    return hashlib.sha256(content).hexdigest(), len(content)
