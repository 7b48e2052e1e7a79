"""Sessions on a disk that is only blocks and inodes: for any sizes nothing overfills it, and it comes to rest."""

from __future__ import annotations

from random import Random

import hypothesis.strategies as st
from hypothesis import Phase, given, settings

from distbackupd.model.disks import Space
from distbackupd.model.plans import Plan, Policy
from distbackupd.planning.cycle import plan_cycle
from distbackupd.planning.inodes import FOLDERS
from distbackupd.planning.room import FILES_KEPT, kept_free, reckon
from tests.unit.planning.facts import a_disk, an_object

ANY = settings(max_examples=150, derandomize=True, deadline=None, database=None, phases=[Phase.generate, Phase.shrink])
DISK, NOBODY, US, OTHER, BOTH = 1, 1, 2, 3, 4
SETS = {NOBODY: frozenset[int](), US: frozenset({DISK}), OTHER: frozenset({2}), BOTH: frozenset({DISK, 2})}
OVERHEAD, REALLY = 512, 128
"""Bytes beside its blocks that an object is believed to take, and takes."""


class ModelDisk:
    """What a file system does: whole blocks, an inode and ``REALLY`` for each object, a block for each new folder."""

    def __init__(self, blocks: int, block_size: int, inodes: int | None, folders: int) -> None:
        self.block_size = block_size
        self.total = blocks * block_size
        self.inodes = inodes
        self.folders = set(range(folders))
        self.held: dict[int, int] = {}
        self.copy = self.others = 0

    def whole(self, size: int) -> int:
        return -(-size // self.block_size) * self.block_size

    def space(self) -> Space:
        taken = sum(REALLY + self.whole(size) for size in self.held.values()) + len(self.folders) * self.block_size
        files = None if self.inodes is None else self.inodes - len(self.held) - len(self.folders)
        free = self.total - taken - self.copy - self.others
        return Space(self.total, free, self.block_size, free_files=files, folders=len(self.folders), catalogue=self.copy)

    def put(self, number: int, size: int) -> None:
        self.held[number] = size
        self.folders.add(Random(number).randrange(FOLDERS))

    def save(self, size: int) -> bool:
        """Put the catalogue's copy beside the old one or, where there is no room for both, in its place."""
        need, free = self.whole(size), self.space().free
        if need > free + self.copy:
            return False
        self.copy = need
        return True

    def session(self, objects: dict[int, int], elsewhere: set[int], catalogue: int) -> Plan:
        space = self.space()
        used = sum(OVERHEAD + self.whole(size) for size in self.held.values())
        lacking = len(objects.keys() - self.held.keys())
        reckoned = reckon(space, catalogue, len(self.held), used, lacking, OVERHEAD)
        disk = a_disk(DISK, reckoned.fillable, self.block_size, 0, OVERHEAD, "", reckoned.most_objects)
        facts = [
            an_object(number, size, (US if number in self.held else NOBODY) + (2 if number in elsewhere else 0))
            for number, size in objects.items()
        ]
        shortage = max(0, kept_free(space, catalogue) - space.free)
        plan = plan_cycle(facts, SETS, disk, Policy(shortage=shortage), 0, Random(1))
        for eviction in plan.evictions:
            del self.held[eviction.object_id]
        for copy in plan.copies:
            for victim in copy.victims:
                del self.held[victim.object_id]
            self.put(copy.object_id, copy.size)
            now = self.space()
            assert now.free >= 0, "the plan goes beyond the room"
            assert now.free_files is None or now.free_files >= 0, "the plan goes beyond the inodes"
        return plan


@ANY
@given(
    blocks=st.integers(2000, 40_000),
    block_size=st.sampled_from([512, 1024, 4096, 32768]),
    inodes=st.none() | st.integers(FILES_KEPT + 2, 600),
    folders=st.sampled_from([0, 100, FOLDERS]),
    large=st.lists(st.floats(0.01, 0.3), max_size=12),
    small=st.tuples(st.integers(0, 400), st.integers(1, 40_000)),
    share=st.floats(0, 1),
    catalogues=st.lists(st.floats(0.001, 0.6), min_size=1, max_size=4),
)
def test_sessions_of_any_sizes_never_overfill_a_disk_and_come_to_rest(
    blocks: int,
    block_size: int,
    inodes: int | None,
    folders: int,
    large: list[float],
    small: tuple[int, int],
    share: float,
    catalogues: list[float],
) -> None:
    if inodes is not None:
        inodes += folders
    disk = ModelDisk(max(blocks, folders * 2), block_size, inodes, folders)
    objects = dict(enumerate([*(int(part * disk.total) for part in large), *[small[1]] * small[0]], start=1))
    elsewhere = {number for number in objects if number < share * len(objects)}
    for part in sorted(catalogues):
        catalogue = int(disk.total * part)
        fits = disk.space().free + disk.copy >= disk.whole(catalogue)
        disk.session(objects, elsewhere, catalogue)
        assert disk.save(catalogue) or not fits, "copies took the room that the catalogue's copy had"
    # Nothing is new any more: nothing leaves, what objects take less than believed is filled, and then all is at rest.
    disk.session(objects, elsewhere, catalogue)
    for _ in range(20):
        disk.save(catalogue)
        plan = disk.session(objects, elsewhere, catalogue)
        assert plan.evictions == ()
        if not plan.copies:
            return
        assert not any(copy.victims for copy in plan.copies)
    raise AssertionError("it does not come to rest")
