"""Where something is mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distbackupd.sources.mountpoints import MountPoints
from tests.bed.loop_disks import mounted_at


@pytest.mark.needs("root")
def test_names_in_tells_mounts_of_any_name_as_they_come_and_go(tmp_path: Path) -> None:
    points = MountPoints()
    place = tmp_path / "a name\twith \\ blanks"
    place.mkdir()
    above, own = (os.open(path, os.O_RDONLY) for path in (tmp_path, place))
    try:
        assert os.fsencode(place.name) not in points.names_in(above)
        with mounted_at("tmpfs", place, "-t", "tmpfs"):
            inside = os.open(place, os.O_RDONLY)
            assert os.fsencode(place.name) in points.names_in(above)
            assert points.is_one(inside)
            assert not points.is_one(above)
            os.close(inside)
        assert not points.names_in(above)
        assert not points.is_one(own)
    finally:
        os.close(above)
        os.close(own)


@pytest.mark.needs("root")
def test_names_in_tells_a_bind_mount_of_the_same_device(tmp_path: Path) -> None:
    points = MountPoints()
    (tmp_path / "real").mkdir()
    above = os.open(tmp_path, os.O_RDONLY)
    try:
        with mounted_at(str(tmp_path / "real"), tmp_path / "shown", "--bind"):
            assert points.names_in(above) == {b"shown"}
        assert not points.names_in(above)
    finally:
        os.close(above)
