"""How many copies somebody wishes, from ``dsb source set`` and side files to the plan and to the copies on the disks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.bed.loop_disks import loop_disk, mounted_at
from tests.bed.programs import Dsb

pytestmark = pytest.mark.needs("root", "loop", "ext4")

NAMES = ("one", "two", "three")


@pytest.fixture
def dsb(tmp_path: Path) -> Iterator[Dsb]:
    """Three disks with room for everything, and a mapped source."""
    program = Dsb(tmp_path / "catalogue")
    (tmp_path / "source").mkdir()
    program.ok("source", "map", "/", tmp_path / "source")
    with ExitStack() as mounts:
        for name in NAMES:
            disk = mounts.enter_context(loop_disk(tmp_path, megabytes=128))
            program("disk", "add", name, mounts.enter_context(mounted_at(disk.device, tmp_path / name)))
        yield program


def write(folder: Path, name: str, side_file: str = "") -> None:
    path = folder / "source" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)
    if side_file:
        path.with_name(f"{path.name}.meta-inf").write_text(side_file)


def planned(dsb: Dsb, disk: str) -> list[str]:
    """Paths of what a session would copy, in order."""
    steps: list[dict[str, Any]] = dsb.json("backup", "--simulate", disk)
    return [step["path"] for step in steps if step["action"] == "copy" and "meta-inf" not in step["path"]]


def copies(dsb: Dsb) -> dict[str, int]:
    """How many disks hold each file."""
    listed = dsb.json("ls")
    return {item["path"]: len(item["disks"]) for item in listed if item["disks"]}


def test_wished_copies_come_from_the_setting_into_the_plan_and_onto_the_disks(dsb: Dsb, tmp_path: Path) -> None:
    for name in ("usual/a", "once/b", "twice/c", "most/d"):
        write(tmp_path, name)
    dsb.ok("source", "set", "/once", "--copies", "1")
    dsb.ok("source", "set", "/twice", "--copies", "2")
    dsb.ok("source", "set", "/most", "--maxcopies", "2")
    dsb.ok("update")
    assert sorted(planned(dsb, "one")) == ["/most/d", "/once/b", "/twice/c", "/usual/a"]
    dsb.ok("backup", "one")
    assert sorted(planned(dsb, "two")) == ["/most/d", "/twice/c", "/usual/a"]
    dsb.ok("backup", "two")
    assert planned(dsb, "three") == ["/usual/a"]
    dsb.ok("backup", "three")
    assert copies(dsb) == {"/most/d": 2, "/once/b": 1, "/twice/c": 2, "/usual/a": 3}


def test_more_wished_copies_than_protect_come_before_second_copies_of_others(dsb: Dsb, tmp_path: Path) -> None:
    for name in ("usual/a", "dear/b"):
        write(tmp_path, name)
    dsb.ok("source", "set", "/dear", "--copies", "3")
    dsb.ok("update")
    for disk in ("one", "two"):
        dsb.ok("backup", disk)
    assert planned(dsb, "three") == ["/dear/b", "/usual/a"]
    dsb.ok("source", "set", "/dear", "--copies", "2")
    dsb.ok("update")
    assert planned(dsb, "three") == ["/usual/a"]


def test_priority_and_side_files_come_into_the_plan(dsb: Dsb, tmp_path: Path) -> None:
    write(tmp_path, "usual/a")
    write(tmp_path, "first/b")
    write(tmp_path, "usual/c", '{"priority": 9, "maxcopies": 1}')
    dsb.ok("source", "set", "/first", "--priority", "5")
    dsb.ok("update")
    assert planned(dsb, "one") == ["/usual/c", "/first/b", "/usual/a"]
    dsb.ok("backup", "one")
    assert planned(dsb, "two") == ["/first/b", "/usual/a"]
