"""A source that holds backup disks and the catalogue: what this program keeps there itself is no part of the backup."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.bed.loop_disks import loop_disk, mounted_at
from tests.bed.programs import Dsb

OURS = {"README.txt", "distbackup-disk.json", "distbackup-objects", "distbackup-restore.py", "distbackup-tmp"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "all" / "photos").mkdir(parents=True)
    for number in range(150):
        (tmp_path / "all" / "photos" / f"{number}").write_text(f"photo {number}")
    return tmp_path / "all"


@pytest.fixture
def dsb(place: Path) -> Dsb:
    return Dsb(place / "catalogue")


def listed(dsb: Dsb) -> set[str]:
    return {entry["path"] for entry in dsb.json("ls")}


def photos() -> set[str]:
    return {f"/all/photos/{number}" for number in range(150)}


@pytest.mark.needs("root", "ext4")
def test_a_disk_and_the_catalogue_below_a_source_are_left_out_and_told_once(dsb: Dsb, place: Path, tmp_path: Path) -> None:
    dsb.config.rename(tmp_path / "settings.toml")
    dsb.config = tmp_path / "settings.toml"
    with loop_disk(tmp_path, megabytes=128) as disk:
        with mounted_at(disk.device, place / "shelf") as root:
            dsb.ok("disk", "add", "one", root)
            (root / "mine").write_text("on that disk too, and no part of its layout")
            dsb.ok("source", "map", "/all", place)
            told = dsb.ok("backup", "-u", "one")
            assert told.count("that is left out") == 2
            expected = photos() | {"/all/shelf/mine"}
            assert listed(dsb) == expected
            for _ in range(2):
                again = dsb.ok("backup", "-u", "one")
                assert "that is left out" not in again
                assert "one: nothing to do" in again
                assert listed(dsb) == expected
            problems = {entry["path"]: entry["kind"] for entry in dsb.json("ls", "--problems")}
            assert {f"/all/shelf/{name}" for name in OURS} | {"/all/catalogue/distbackup.sqlite"} <= problems.keys()
            assert set(problems.values()) == {"left_out"}
        assert dsb("update").status in (0, 3)
        assert listed(dsb) == expected, "unplugged, and its file is not taken for deleted"
        with mounted_at(disk.device, place / "shelf"):
            assert "is left out" not in dsb.ok("update")
            assert listed(dsb) == expected


def test_a_disk_that_comes_later_and_another_catalogues_disk_are_left_out_too(dsb: Dsb, place: Path, tmp_path: Path) -> None:
    dsb.ok("source", "map", "/all", place / "photos")
    dsb.ok("update")
    (tmp_path / "theirs").mkdir()
    other = Dsb(tmp_path / "other")
    other.ok("source", "map", "/", place / "photos")
    other.ok("disk", "add", "theirs", tmp_path / "theirs", "--folder")
    other.ok("backup", "-u", "theirs")
    shutil.move(tmp_path / "theirs", place / "photos" / "mnt")
    assert "/all/mnt holds the layout of a backup disk" in dsb.ok("update")
    assert listed(dsb) == {f"/all/{number}" for number in range(150)}


def test_what_was_recorded_of_them_before_goes_without_the_brake(dsb: Dsb, place: Path, tmp_path: Path) -> None:
    """As an older version recorded it: the layout was not one yet when it was scanned."""
    shelf = place / "photos" / "shelf"
    shelf.mkdir()
    (tmp_path / "disk").mkdir()
    dsb.ok("source", "map", "/all", place / "photos")
    dsb.ok("disk", "add", "other", tmp_path / "disk", "--folder")
    for number in range(300):
        path = shelf / "distbackup-objects" / f"{number % 10:03}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(20_000))
    dsb.ok("backup", "-u", "other")
    assert len(listed(dsb)) == 450
    (shelf / "distbackup-disk.json").write_text('{"uuid": "5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11", "name": "old"}')
    assert "450 entries" not in dsb.ok("update")
    assert listed(dsb) == {f"/all/{number}" for number in range(150)}
    assert "brake is off" in dsb.ok("brake")
    dsb.ok("backup", "other")
    dsb.ok("update")
    assert "brake is off" in dsb.ok("brake")
    with contextlib.closing(sqlite3.connect(dsb.catalogue)) as catalogue:
        assert catalogue.execute("SELECT count(*) FROM object WHERE orphaned_at <> 0").fetchone() == (300,)


def test_rules_that_ignore_the_identity_do_not_let_the_layout_in(dsb: Dsb, place: Path, tmp_path: Path) -> None:
    (place / "photos" / "shelf").mkdir()
    dsb.ok("source", "map", "/all", place / "photos")
    dsb.ok("source", "set", "/all", "--ignore", "*.json")
    dsb.ok("disk", "add", "one", place / "photos" / "shelf", "--folder")
    dsb.ok("backup", "-u", "one")
    dsb.ok("backup", "-u", "one")
    assert listed(dsb) == {f"/all/{number}" for number in range(150)}
