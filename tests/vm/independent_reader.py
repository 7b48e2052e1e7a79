"""What a catalogue says of a disk against what lies there, by a program that knows no code of ours. Runs in the machine.

python3 independent_reader.py CATALOGUE DISK MOUNT: prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path


def recorded(catalogue: Path, disk: str) -> dict[str, int]:
    """Hash and size of each object that the catalogue says lies on the disk; read of a copy, so that nothing is changed."""
    with tempfile.TemporaryDirectory() as place:
        for name in ("distbackup.sqlite", "distbackup.sqlite-wal"):
            if (catalogue / name).exists():
                shutil.copy(catalogue / name, place)
        with sqlite3.connect(f"{place}/distbackup.sqlite") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (number,) = connection.execute("SELECT id FROM disk WHERE name = ?", [disk]).fetchone()
            sets = {row: members.split() for row, members in connection.execute("SELECT id, members FROM holder_set")}
            held = connection.execute("SELECT hash, size, holders FROM object").fetchall()
            return {digest.hex(): size for digest, size, holders in held if str(number) in sets[holders]}


def lying(root: Path) -> tuple[dict[str, int], list[str]]:
    """Hash and size of each whole object on the disk; the paths of those that are not whole."""
    whole: dict[str, int] = {}
    broken: list[str] = []
    for path in sorted((root / "distbackup-objects").glob("*/*")):
        try:
            content = path.read_bytes()
        except OSError as error:
            broken.append(f"{path}: {error}")
            continue
        if hashlib.sha256(content).hexdigest() == path.name == path.parent.name + path.name[3:]:
            whole[path.name] = len(content)
        else:
            broken.append(str(path))
    return whole, broken


def main(catalogue: str, disk: str, root: str) -> None:
    """Print what was found."""
    said = recorded(Path(catalogue), disk)
    whole, broken = lying(Path(root))
    untrue = sorted(digest for digest, size in said.items() if whole.get(digest) != size)
    print(json.dumps({"recorded": len(said), "whole": len(whole), "broken": broken, "untrue": untrue}))


if __name__ == "__main__":
    main(*sys.argv[1:])
