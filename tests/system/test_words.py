"""What a person is told who names a file in other words than the catalogue has."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path

import pytest

from tests.bed.programs import Dsb


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def dsb(tmp_path: Path, photos: Path) -> Dsb:
    for name in ("2024/may/IMG_1.JPG", "2024/june/IMG_2.JPG", "2023/Holiday.jpg", "2023/gone.jpg"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_text(name)
    (photos / "empty").mkdir()
    dsb = Dsb(tmp_path / "catalogue")
    dsb.ok("source", "map", "/photos", photos)
    dsb.ok("update")
    (photos / "2023/gone.jpg").unlink()
    dsb.ok("update")
    return dsb


@pytest.mark.parametrize("command", [("log",), ("ls",), ("diff", "2020-01-01", "-f")])
@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("IMG_1.JPG", "/photos/2024/may/IMG_1.JPG"),
        ("img_1.jpg", "/photos/2024/may/IMG_1.JPG"),
        ("may/IMG_1.JPG", "/photos/2024/may/IMG_1.JPG"),
        ("/2024/may/IMG_1.JPG", "/photos/2024/may/IMG_1.JPG"),
        ("/photos/2024/may/IMG_1.JGP", "/photos/2024/may/IMG_1.JPG"),
        ("Holday.jpg", "/photos/2023/Holiday.jpg"),
        ("june/", "/photos/2024/june"),
        ("IMG_[0-9].*", "*/IMG_[0-9].*"),
        ("holiday", "/photos/2023/Holiday.jpg"),
    ],
)
def test_what_names_nothing_is_told_with_the_nearest(dsb: Dsb, command: tuple[str, ...], word: str, near: str) -> None:
    for more in ((), ("--json",)):
        told = dsb.refused(2, *command, word, *more)
        assert told.endswith(
            f"matches '{word}', for paths are those of the virtual tree, from '/' on; did you mean '{near}'?"
        )
        assert dsb(*command, word, *more).out == ""
    assert dsb.ok(*command, near)


def test_a_real_path_is_told_as_its_virtual_one(dsb: Dsb, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = photos / "2024" / "may" / "IMG_1.JPG"
    (photos.parent / "link").symlink_to(photos)
    for word in (real, photos.parent / "link" / "2024" / "may" / "IMG_1.JPG"):
        assert "did you mean '/photos/2024/may/IMG_1.JPG'?" in dsb.refused(2, "log", word)
    assert "did you mean '/photos/2024'?" in dsb.refused(2, "ls", f"{photos}/2024/")
    monkeypatch.chdir(photos / "2024")
    assert "did you mean '/photos/2024/may'?" in dsb.refused(2, "ls", "may")


def test_what_is_gone_is_named_by_log_and_not_by_ls(dsb: Dsb) -> None:
    assert "did you mean '/photos/2023/gone.jpg'?" in dsb.refused(2, "log", "gone.jpg")
    assert dsb.refused(2, "ls", "gone.jpg") == "nothing in the catalogue matches 'gone.jpg'; 'dsb ls' lists what there is"
    assert dsb.ok("log", "/photos/2023/gone.jpg")


def test_nothing_near_says_so_and_many_are_not_all_shown(dsb: Dsb, photos: Path) -> None:
    assert dsb.refused(2, "log", "xyzzy.tar").endswith("matches 'xyzzy.tar'; 'dsb ls' lists what there is")
    assert dsb.refused(2, "ls", "*.tar").endswith("matches '*.tar'; 'dsb ls' lists what there is")
    for number in range(9):
        (photos / f"{number}").mkdir()
        (photos / f"{number}" / "same name").write_text("")
    dsb.ok("update")
    assert dsb.refused(2, "ls", "same name").count("/photos/") == 5


def test_what_there_is_without_files_is_no_mistake_of_the_name(dsb: Dsb, tmp_path: Path) -> None:
    assert dsb.refused(2, "ls", "/photos/empty") == "there is nothing but empty folders that matches '/photos/empty'"
    (tmp_path / "disk").mkdir()
    dsb.ok("disk", "add", "one", tmp_path / "disk", "--folder")
    assert dsb.refused(2, "ls", "/photos/2024", "-d", "one") == "there is nothing on one that matches '/photos/2024'"
    assert dsb.ok("ls", "-d", "one") == ""
    assert "nothing changed" in dsb.ok("diff", "2020-01-01", "2020-01-02", "-f", "/photos/2024")


def test_names_that_are_no_utf8_are_found_too(dsb: Dsb, photos: Path) -> None:
    (photos / os.fsdecode(b"B\xffd")).write_text("bad")
    dsb.ok("update")
    assert r"did you mean '/photos/B\xffd'?" in dsb.refused(2, "ls", os.fsdecode(b"B\xffd"))
    assert json.loads(dsb.ok("--json", "ls", os.fsdecode(b"/photos/B\xffd")))[0]["size"] == 3


def test_new_patterns_tell_what_they_take_away_and_useless_ones_are_refused(dsb: Dsb) -> None:
    before = dsb.ok("source", "set", "/photos")
    for words in (["--ignore", "may/"], ["--ignore", "*.tmp", "--ignore", "2024/may"], ["-j", '{"rules": ["**/may"]}']):
        assert "can match no name" in dsb.refused(2, "source", "set", "/photos", *words)
    assert dsb.ok("source", "set", "/photos") == before
    told = dsb.ok("-n", "source", "set", "/photos", "--ignore", "2024", "--ignore", "*.raw")
    assert (
        "   '2024' would take away 2 known files, 37 bytes, at the next scan\n   '*.raw' would take away no known file\n"
        in told
    )
    assert dsb.ok("source", "set", "/photos") == before
    told = dsb.ok("source", "set", "/photos", "--ignore", "/holiday", "--ignore", "*.raw")
    assert ("   Note: '/' begins a regular expression, which may match anywhere in a name") in told
    assert "'/holiday' takes away no known file\n" in told
    told = dsb.ok("source", "set", "/photos", "--append", "--ignore", "*.jpg")
    assert "'*.jpg' takes away 1 known file, 16 bytes, at the next scan\n" in told
    assert "'/holiday'" not in told


def test_a_pattern_that_was_stored_before_it_was_checked_stays(dsb: Dsb) -> None:
    with contextlib.closing(sqlite3.connect(dsb.catalogue)) as catalogue, catalogue:
        catalogue.execute(
            "INSERT INTO folder_setting (virtual_path, settings) VALUES (?, ?)", (b"/photos", '{"rules": ["may/"]}')
        )
    assert '["may/", "*.raw"]' in dsb.ok("source", "set", "/photos", "--append", "--ignore", "*.raw")
    dsb.ok("update")
