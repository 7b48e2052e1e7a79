"""The sums of what holder sets hold: right at every moment, and there at once when nothing has changed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbackupd.catalogue.catalogue import Catalogue, open_catalogue
from distbackupd.catalogue.totals import Totals
from tests.unit.catalogue.making import add_disk, add_files, object_id


def counted(catalogue: Catalogue) -> dict[frozenset[int], tuple[int, int]]:
    """Objects and bytes of what lives, by holders, counted one by one."""
    sets = catalogue.objects.holder_sets()
    found: dict[frozenset[int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for item in list(catalogue.objects.facts()):
        if not item.orphaned_at:
            before = found[sets[item.holders]]
            found[sets[item.holders]] = (before[0] + 1, before[1] + item.size)
    return dict(found)


def summed(catalogue: Catalogue) -> dict[frozenset[int], tuple[int, int]]:
    sets = catalogue.objects.holder_sets()
    return {sets[row[0]]: (row[1], row[2]) for row in catalogue.objects.by_holders()}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.sets(st.integers(0, 9))), max_size=6))
def test_sums_follow_every_change(tmp_path: Path, copies: list[tuple[int, set[int]]]) -> None:
    with open_catalogue(tmp_path / str(len(list(tmp_path.iterdir())))) as catalogue:
        disks = [add_disk(catalogue, "one"), add_disk(catalogue, "two")]
        add_files(catalogue, b"/", *(b"%d" % number for number in range(10)))
        for disk, numbers in copies:
            catalogue.objects.record_copies(disks[disk].id, [object_id(catalogue, b"/%d" % number) for number in numbers])
            assert summed(catalogue) == counted(catalogue)
        catalogue.disks.drop(disks[0].id)
        assert summed(catalogue) == counted(catalogue)
        assert catalogue.disks.used(disks[0].id) == (0, 0)


def test_sums_are_kept_for_the_next_program_and_made_anew_when_they_are_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_catalogue(tmp_path) as catalogue:
        disk = add_disk(catalogue, "one")
        add_files(catalogue, b"/", b"a", b"b")
        catalogue.objects.record_copies(disk.id, [object_id(catalogue, b"/a")])
        before = summed(catalogue)

    def must_not_count(*_: Any) -> Any:
        pytest.fail("the sums were made anew though nothing had changed")

    with open_catalogue(tmp_path, read_only=True) as catalogue, monkeypatch.context() as patched:
        patched.setattr(Totals, "_summed", must_not_count)
        assert summed(catalogue) == before
    with open_catalogue(tmp_path) as catalogue:
        catalogue.objects.record_copies(disk.id, [object_id(catalogue, b"/b")])
    with open_catalogue(tmp_path, read_only=True) as catalogue:
        assert summed(catalogue) == counted(catalogue) == {frozenset({disk.id}): (2, 10)}


def test_used_counts_in_blocks_of_the_disks_own_file_system(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        disk = add_disk(catalogue, "one")
        add_files(catalogue, b"/", b"a", b"b", size=5000)
        catalogue.objects.record_copies(disk.id, [object_id(catalogue, b"/a"), object_id(catalogue, b"/b")])
        assert catalogue.disks.used(disk.id) == (2, 2 * (8192 + 4096))
        catalogue.disks.update(replace(disk, block_size=131072, overhead=128))
        assert catalogue.disks.used(disk.id) == (2, 2 * (131072 + 128))
        assert catalogue.disks.held(disk.id) == (2, 10000)
