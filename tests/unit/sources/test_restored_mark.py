from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from distbackupd.engine.ports import Placement
from distbackupd.model.files import Attributes, EntryFlag, EntryKind, RestoreEntry
from distbackupd.sources import restored_mark
from distbackupd.sources.restored_mark import MARK_NAME
from distbackupd.sources.restored_names import temporary_name
from distbackupd.sources.target import FolderTarget
from tests.trees import write_file

MOMENT = 1_600_000_000_123_456_789
CONTENT = b"what was there"
MARK = os.fsdecode(MARK_NAME)


class Pulse(threading.Event):
    def beat(self, done_bytes: int) -> None:
        pass


@pytest.fixture
def place_at(tmp_path):
    """A destination; gives a function that begins another restore to it, as ``with place_at() as (target, place)``."""
    write_file(tmp_path / "object", CONTENT)
    root = tmp_path / "destination"
    root.mkdir()
    opened = []

    def begin() -> FolderTarget:
        target = FolderTarget(os.fsencode(root))
        opened.append(target)
        return target

    yield begin
    for target in opened:
        target.close()


def file(path: bytes) -> RestoreEntry:
    attributes = Attributes(0o640, os.getuid(), os.getgid(), 0, ())
    digest = hashlib.sha256(CONTENT).digest()
    return RestoreEntry(
        path, EntryKind.FILE, len(CONTENT), MOMENT, 1, 2, EntryFlag.NONE, attributes, b"", digest, frozenset({1})
    )


def place(target: FolderTarget, tmp_path: Path, path: bytes) -> Placement:
    return target.place(file(path), lambda: os.open(tmp_path / "object", os.O_RDONLY), Pulse(), overwrite=False)


def damage(path: Path, content: bytes) -> None:
    """What a power cut makes of a file that was just restored."""
    write_file(path, content)
    os.utime(path, ns=(0, MOMENT))


def cut_the_power(target: FolderTarget, monkeypatch) -> None:
    """The restore ends without a word, and the machine boots again."""
    target.close()
    monkeypatch.setattr(restored_mark, "boot_id", lambda: "another boot")


def test_mark_stands_while_something_is_restored_and_goes_at_the_end(place_at, tmp_path):
    target = place_at()
    assert target.foresee(file(b"/file"), overwrite=False) is Placement.RESTORED
    assert os.listdir(tmp_path / "destination") == []
    place(target, tmp_path, b"/file")
    assert sorted(os.listdir(tmp_path / "destination")) == [MARK, "file"]
    target.finish()
    assert os.listdir(tmp_path / "destination") == ["file"]
    assert place(target, tmp_path, b"/other") is Placement.RESTORED
    assert MARK in os.listdir(tmp_path / "destination")
    target.finish()
    assert MARK not in os.listdir(tmp_path / "destination")


@pytest.mark.parametrize("content", [b"", bytes(len(CONTENT)), b"what wa", CONTENT + b"?"])
def test_place_what_a_power_cut_took_back_is_restored_again(place_at, tmp_path, monkeypatch, content):
    target = place_at()
    place(target, tmp_path, b"/lost")
    place(target, tmp_path, b"/whole")
    damage(tmp_path / "destination/lost", content)
    cut_the_power(target, monkeypatch)
    again = place_at()
    assert again.foresee(file(b"/lost"), overwrite=False) is Placement.RESTORED
    assert place(again, tmp_path, b"/lost") is Placement.RESTORED
    assert place(again, tmp_path, b"/whole") is Placement.LEFT_ALONE
    assert (tmp_path / "destination/lost").read_bytes() == CONTENT
    again.finish()
    assert sorted(os.listdir(tmp_path / "destination")) == ["lost", "whole"]


def test_place_power_was_cut_twice_still_doubts_what_the_first_cut_took(place_at, tmp_path, monkeypatch):
    first = place_at()
    place(first, tmp_path, b"/lost")
    damage(tmp_path / "destination/lost", bytes(len(CONTENT)))
    cut_the_power(first, monkeypatch)
    second = place_at()
    place(second, tmp_path, b"/other")
    second.close()
    monkeypatch.setattr(restored_mark, "boot_id", lambda: "a third boot")
    assert place(place_at(), tmp_path, b"/lost") is Placement.RESTORED


def test_place_somebodys_own_file_is_in_the_way_also_after_a_power_cut(place_at, tmp_path, monkeypatch):
    target = place_at()
    place(target, tmp_path, b"/file")
    cut_the_power(target, monkeypatch)
    write_file(tmp_path / "destination/file", b"mine")
    assert place(place_at(), tmp_path, b"/file") is Placement.IN_THE_WAY
    assert (tmp_path / "destination/file").read_bytes() == b"mine"


def test_settle_makes_safe_what_was_restored_so_far(place_at, tmp_path, monkeypatch):
    monkeypatch.setattr(restored_mark, "_SETTLE_SECONDS", 0)
    target = place_at()
    place(target, tmp_path, b"/early")
    early = os.stat(tmp_path / "destination/early").st_ctime_ns
    while target._mark._since <= early:
        target.settle()  # the file system's clock goes in steps
    place(target, tmp_path, b"/late")
    reads = []
    monkeypatch.setattr("distbackupd.sources.restored_names.hash_descriptor", lambda *words: reads.append(words) or (0, b""))
    cut_the_power(target, monkeypatch)
    again = place_at()
    assert again.foresee(file(b"/early"), overwrite=False) is Placement.LEFT_ALONE
    assert reads == []
    assert again.foresee(file(b"/late"), overwrite=False) is Placement.RESTORED


def test_place_killed_without_a_power_cut_believes_what_is_there(place_at, tmp_path, monkeypatch):
    target = place_at()
    place(target, tmp_path, b"/file")
    target.close()
    monkeypatch.setattr("distbackupd.sources.restored_names.hash_descriptor", None)
    assert place(place_at(), tmp_path, b"/file") is Placement.LEFT_ALONE


@pytest.mark.parametrize("said", [b"", b"\0" * 120, b"{}", b'{"boot": 5, "since": "x"}'])
def test_place_mark_is_damaged_doubts_everything(place_at, tmp_path, said):
    target = place_at()
    place(target, tmp_path, b"/file")
    target.close()
    damage(tmp_path / "destination/file", bytes(len(CONTENT)))
    write_file(tmp_path / "destination" / MARK, said)
    assert place(place_at(), tmp_path, b"/file") is Placement.RESTORED


def test_finish_removes_temporary_files_of_a_killed_restore_and_nothing_else(place_at, tmp_path):
    folder = file(b"/a")._replace(kind=EntryKind.FOLDER, size=0, digest=None)
    target = place_at()
    target.make_folder(folder)
    target.close()
    genuine = b"/a/.dbtmp~0123456789abcdef0123"
    for name in (temporary_name(b"file"), b".dbtmp~mine", b"other"):
        write_file(os.fsencode(tmp_path) + b"/destination/a/" + name, b"half")
    again = place_at()
    again.make_folder(folder)
    place(again, tmp_path, genuine)
    again.finish()
    assert sorted(os.listdir(tmp_path / "destination/a")) == [".dbtmp~0123456789abcdef0123", ".dbtmp~mine", "other"]


def test_finish_another_restore_is_at_work_leaves_its_mark_and_its_files(place_at, tmp_path):
    folder = file(b"/a")._replace(kind=EntryKind.FOLDER, size=0, digest=None)
    first, second = place_at(), place_at()
    first.make_folder(folder)
    write_file(os.fsencode(tmp_path) + b"/destination/a/" + temporary_name(b"file"), b"half")
    second.make_folder(folder)
    second.finish()
    assert MARK in os.listdir(tmp_path / "destination")
    assert len(os.listdir(tmp_path / "destination/a")) == 1
    first.finish()
    assert os.listdir(tmp_path / "destination") == ["a"]


def test_is_empty_tells_whether_anything_stands_there(place_at, tmp_path):
    assert place_at().is_empty()
    assert FolderTarget(os.fsencode(tmp_path / "not there")).is_empty()
    assert FolderTarget(b"").is_empty()
    assert not FolderTarget(os.fsencode(tmp_path / "object")).is_empty()
    target = place_at()
    place(target, tmp_path, b"/file")
    assert not target.is_empty()
