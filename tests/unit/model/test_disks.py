"""What things take on a disk."""

from __future__ import annotations

import pytest

from distbackupd.model.disks import OBJECT_OVERHEAD, default_capacity, footprint


@pytest.mark.parametrize(
    ("size", "block_size", "blocks"),
    [(0, 4096, 0), (1, 4096, 4096), (4096, 4096, 4096), (4097, 512, 4608), (5, 65536, 65536)],
)
def test_footprint_is_whole_blocks_and_an_overhead(size: int, block_size: int, blocks: int) -> None:
    assert footprint(size, block_size) == OBJECT_OVERHEAD + blocks


@pytest.mark.parametrize(
    ("total", "left"), [(8 * 10**12, 10**10), (200 * 10**9, 10**10), (100 * 10**9, 5 * 10**9), (80 << 20, 4 << 20)]
)
def test_default_capacity_leaves_ten_gigabytes_or_five_percent(total: int, left: int) -> None:
    capacity = default_capacity(total)
    assert capacity % 4096 == 0
    assert left <= total - capacity < left + 4096
