"""What is protected how well."""

from __future__ import annotations

from pathlib import Path

from distbackupd.engine.overview import idle_sentence, overview, protection
from distbackupd.model.disks import footprint
from tests.fakes.disk_store import FakeDiskStore
from tests.unit.engine.scenes import scene_at


def test_overview_counts_copies_and_rooms(tmp_path: Path) -> None:
    with scene_at(tmp_path) as scene:
        assert idle_sentence(protection(scene.bench)) == "idle; nothing is scanned yet"
        for number in range(4):
            scene.write(f"{number}", "x" * 1000 + str(number))
        scene.write("limited/a", "y" * 500)
        scene.set(b"/limited", maxcopies=1)
        scene.scan()
        room = 3 * footprint(1000)
        one = scene.add_disk("one", FakeDiskStore(room), capacity=room)
        two = scene.add_disk("two")
        scene.back_up(one)
        scene.back_up(two)
        found = overview(scene.bench)
        assert sum(objects for objects, _, _ in found.by_copies.values()) == 5
        assert sum(size for _, size, _ in found.by_copies.values()) == 4 * 1001 + 500
        assert found.by_copies[1][2] == 500
        assert set(found.by_copies) <= {1, 2}
        overviews = {item.disk.name: item for item in found.disks}
        assert overviews["one"].objects == 3
        assert (overviews["one"].used, overviews["one"].free) == (room, 0)
        assert found.entries == len(scene.paths()) + 1
        assert "without a copy" not in idle_sentence(protection(scene.bench))
        scene.catalogue.disks.drop(two.id)
        assert "without a copy" in idle_sentence(protection(scene.bench))
        scene.catalogue.disks.drop(one.id)
        state = protection(scene.bench)
        assert [(disk.name, disk.objects, disk.only_here) for disk in state.disks] == [("one", 0, 0), ("two", 0, 0)]
        assert state.wanted is not None
        assert (state.wanted.disk, state.wanted.copies) == ("one", 0)
        assert idle_sentence(state).endswith("; bring one: 4.50 kB have no copy yet")
