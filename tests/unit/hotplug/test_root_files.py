from __future__ import annotations

from pathlib import Path

import pytest

from distbackupd.hotplug.root_files import write_file


def test_write_file_that_cannot_take_its_name_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "taken", b"key")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_write_file_removes_what_a_process_that_died_left_beside_any_file(tmp_path: Path) -> None:
    (tmp_path / ".other.key.new").write_bytes(b"a key")
    write_file(tmp_path / "one.key", b"key")
    assert [path.name for path in tmp_path.iterdir()] == ["one.key"]
