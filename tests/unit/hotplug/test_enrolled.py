from __future__ import annotations

import os
from pathlib import Path

import pytest

from distbackupd.hotplug.enrolled import ENROLLED_MARKERS, EnrolledDisks
from distbackupd.model.errors import UsageError


def test_publish_makes_exactly_these_markers_and_leaves_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "disks.d"
    EnrolledDisks(os.fsencode(folder)).publish({"1111-2222", "0a1b-c"})
    (folder / "README.txt").touch()
    kept = (folder / "1111-2222").stat().st_mtime_ns
    EnrolledDisks(os.fsencode(folder)).publish({"1111-2222", "3333"})
    assert sorted(os.listdir(folder)) == ["1111-2222", "3333", "README.txt"]
    assert (folder / "1111-2222").stat().st_mtime_ns == kept
    EnrolledDisks(os.fsencode(folder)).publish(set())
    assert os.listdir(folder) == ["README.txt"]


@pytest.mark.parametrize("odd", ["", "../../etc/passwd", "a b", "ä", "a\n", "x" * 65])
def test_publish_refuses_odd_names_before_any_change(tmp_path: Path, odd: str) -> None:
    with pytest.raises(UsageError, match="no file system's UUID"):
        EnrolledDisks(os.fsencode(tmp_path)).publish({"good", odd})
    assert os.listdir(tmp_path) == []


def test_rule_looks_where_the_markers_are() -> None:
    rule = Path(__file__).parents[3] / "udev" / "75-distbackupd.rules"
    assert f'TEST!="{os.fsdecode(ENROLLED_MARKERS)}/$env{{ID_FS_UUID}}"' in rule.read_text(encoding="ascii")
