"""What the planner is told of disks, and what a person is told of its plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distbackupd.engine.cycle import disk_facts, measured_overhead
from distbackupd.model.disks import BackupDisk, Space, footprint
from distbackupd.model.events import Remark
from distbackupd.model.plans import DiskFacts
from tests.fakes.disk_store import FakeDiskStore
from tests.unit.engine.scenes import Scene, scene_at

DISK = BackupDisk(1, "u", "one", 10**12, b"", None, None, b"/mnt", 0)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


def test_disk_facts_are_what_the_catalogue_knows() -> None:
    disk = replace(DISK, block_size=131072, largest_file=2**32 - 1, overhead=128, location="bank", most_objects=500)
    assert disk_facts(disk) == DiskFacts(1, 10**12, 131072, 2**32 - 1, 128, "bank", 500)


def test_measured_overhead_is_what_was_taken_beside_the_blocks() -> None:
    expected = 2000 * footprint(100)
    assert measured_overhead(DISK, 2000, expected, 2000 * (4096 + 200)) == 256
    assert measured_overhead(DISK, 2000, expected, 2000 * 4096) == 64  # tables that were there already
    assert measured_overhead(DISK, 2000, expected, 10**12) == 65536
    assert measured_overhead(DISK, 2000, expected, -(10**9)) == 64  # somebody else freed room meanwhile


def test_measured_overhead_of_few_copies_is_not_believed() -> None:
    assert measured_overhead(DISK, 999, 999 * footprint(1), 999 * 5000) == DISK.overhead


def test_session_learns_from_the_disk(scene: Scene) -> None:
    class Coarse(FakeDiskStore):
        def space(self) -> Space:
            return replace(super().space(), block_size=32768, largest_file=2**32 - 1)

    for number in range(5):
        scene.write(str(number))
    scene.scan()
    disk = scene.add_disk("one", Coarse())
    scene.back_up(disk)
    learned = scene.catalogue.disks.find("one")
    assert (learned.block_size, learned.largest_file) == (32768, 2**32 - 1)
    assert scene.catalogue.disks.used(learned.id) == (5, 5 * (32768 + 4096))


def test_object_larger_than_every_disk_is_named_and_the_rest_planned(scene: Scene) -> None:
    scene.write("huge", "x" * 50_000)
    scene.write("small")
    scene.scan()
    disk = scene.add_disk("one", capacity=3 * footprint(1))
    scene.back_up(disk)
    remarks = [event.sentence for event in scene.reporter.told(Remark)]
    assert "one: /huge: larger than any disk there is, so without a copy until a larger one is added" in remarks
    assert len(scene.held(disk)) == 1
