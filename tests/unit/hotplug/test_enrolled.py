from __future__ import annotations

import os
from pathlib import Path

import pytest

from distbackupd.hotplug.enrolled import ENROLLED_FOLDER, EnrolledDisks
from distbackupd.model.errors import UsageError


def test_note_lists_forgets_and_leaves_all_others(tmp_path: Path) -> None:
    disks = EnrolledDisks(tmp_path / "disks")
    disks.note({"1111-2222": ["shelf-01", "shelf-02"], "0a1b-c": ["music"]})
    disks.note({"1111-2222": ["shelf-02"], "3333": []})
    assert (disks.name_of("1111-2222"), disks.name_of("0a1b-c"), disks.name_of("3333")) == ("shelf-02", "music", None)
    disks.note({"1111-2222": []})
    assert os.listdir(tmp_path / "disks") == ["0a1b-c"]
    assert (tmp_path / "disks").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("odd", ["", "../../etc/passwd", "a b", "ä", "a\n", "x" * 65])
def test_note_refuses_odd_names_before_any_change(tmp_path: Path, odd: str) -> None:
    with pytest.raises(UsageError, match="no file system's UUID"):
        EnrolledDisks(tmp_path).note({"good": ["disk"], odd: ["disk"]})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("odd", ["", "../1111", "/etc/passwd", "a/b", "1111\n"])
def test_name_of_reads_no_other_file(tmp_path: Path, odd: str) -> None:
    (tmp_path / "1111").write_text('{"name": "trap"}')
    assert EnrolledDisks(tmp_path / "disks").name_of(odd) is None


def test_name_of_believes_no_file_that_others_could_have_written(tmp_path: Path) -> None:
    disks = EnrolledDisks(tmp_path)
    disks.note({"1111": ["shelf-01"]})
    entry = tmp_path / "1111"
    entry.rename(tmp_path / "2222")
    entry.symlink_to("2222")
    assert (disks.name_of("1111"), disks.name_of("2222")) == (None, "shelf-01")
    (tmp_path / "2222").chmod(0o666)
    assert disks.name_of("2222") is None
    entry.unlink()
    os.mkfifo(entry)
    assert disks.name_of("1111") is None
    entry.unlink()
    entry.write_text("no json")
    assert disks.name_of("1111") is None


@pytest.mark.needs("root")
def test_name_of_believes_no_file_of_another_user(tmp_path: Path) -> None:
    disks = EnrolledDisks(tmp_path)
    disks.note({"1111": ["shelf-01"]})
    os.chown(tmp_path / "1111", 65534, 65534)
    assert disks.name_of("1111") is None


def test_rule_looks_where_the_list_is() -> None:
    rule = Path(__file__).parents[3] / "udev" / "75-distbackupd.rules"
    assert f'TEST!="{ENROLLED_FOLDER}/$env{{ID_FS_UUID}}"' in rule.read_text(encoding="ascii")
