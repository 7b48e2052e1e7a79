"""What is in the source, what the catalogue says, and what lies on the disks; read without any code of the product."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path

Tree = dict[bytes, tuple[int, str]]
"""By path below the source: mode with its type, and the SHA-256 of what is in a file; empty for all else and empty files."""


def read_source(root: Path) -> Tree:
    """As it is now."""
    found: Tree = {}
    top = os.fsencode(root)
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            content = ""
            if stat.S_ISREG(mode) and os.path.getsize(path):
                with open(path, "rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            found[path[len(top) :]] = mode, content
    return found


def read_catalogue(catalogue: Path) -> Tree:
    """As the catalogue knows what is mapped to ``/``. Nobody may be writing it."""
    query = (
        "SELECT folder.path, name, mode, kind, hash FROM file JOIN folder ON folder.id = folder "
        "JOIN attributes ON attributes.id = attributes LEFT JOIN object ON object.id = object WHERE gone = 0 AND name <> x''"
    )
    with contextlib.closing(sqlite3.connect(f"file:{catalogue}?mode=ro", uri=True)) as connection:
        return {
            path.rstrip(b"/") + b"/" + name: (mode, content.hex() if content else "")
            for path, name, mode, _, content in connection.execute(query)
        }


def untrue_copies(catalogue: Path, disks: Mapping[str, Path]) -> list[str]:
    """What is wrong: a copy that is recorded and is not whole on its disk, or lies there and is not recorded."""
    with contextlib.closing(sqlite3.connect(f"file:{catalogue}?mode=ro", uri=True)) as connection:
        ids = dict(connection.execute("SELECT name, id FROM disk"))
        sets = {number: set(members.split()) for number, members in connection.execute("SELECT id, members FROM holder_set")}
        objects = {
            content.hex(): sets[holders] for content, holders in connection.execute("SELECT hash, holders FROM object")
        }
    wrong = []
    for name, root in disks.items():
        there = {}
        for path in (root / "distbackup-objects").glob("*/*"):
            there[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        recorded = {content for content, holders in objects.items() if str(ids[name]) in holders}
        wrong += [f"{name}: {content} is recorded and is not there" for content in recorded - there.keys()]
        wrong += [f"{name}: {content} is there and is not recorded" for content in there.keys() - recorded]
        wrong += [f"{name}: {content} holds something else" for content, really in there.items() if content != really]
        wrong += [f"{name}: {path.name} was left" for path in (root / "distbackup-tmp").iterdir()]
    return wrong


def differences(source: Tree, known: Tree) -> list[str]:
    """Paths that are not known as they are, with what is wrong."""
    wrong = [f"{os.fsdecode(path)} is not known" for path in source.keys() - known.keys()]
    wrong += [f"{os.fsdecode(path)} is gone and still known" for path in known.keys() - source.keys()]
    both = source.keys() & known.keys()
    wrong += [
        f"{os.fsdecode(path)} is {source[path]} and known as {known[path]}"
        for path in both
        if not _same(source[path], known[path])
    ]
    return sorted(wrong)


def _same(real: tuple[int, str], known: tuple[int, str]) -> bool:
    return real[1] == known[1] and stat.S_IMODE(real[0]) == stat.S_IMODE(known[0])
