"""``dsb brake``, ``dsb simulate`` and the losses of ``dsb info``, as a person asks for them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.bed.programs import Dsb


def write_random(folder: Path, count: int, size: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / str(number)).write_bytes(os.urandom(size))


@pytest.fixture
def dsb(tmp_path: Path) -> Dsb:
    """Three disks at two places; the first two hold everything."""
    dsb = Dsb(tmp_path / "catalogue", keep_deleted="0")
    write_random(tmp_path / "source", 300, 2000)
    dsb.ok("source", "map", "/", tmp_path / "source")
    for name, place in (("one", "home"), ("two", "home"), ("three", "bank")):
        dsb.ok("disk", "add", name, tmp_path / name, "--folder", "--location", place)
    dsb.ok("update")
    for name in ("one", "two"):
        dsb.ok("backup", name)
    return dsb


def test_info_tells_what_is_lost_with_which_disks(dsb: Dsb) -> None:
    told = dsb.ok("info")
    assert "any 1 disk" in told
    line = next(line for line in told.splitlines() if line.startswith("any 2 disks"))
    assert line.split()[-3:] == ["one", "and", "two"]
    assert "600 kB" in line
    assert "Only at home: 600 kB" in told
    assert "Only at bank: 0 bytes" in told


def test_simulate_without_options_answers_from_the_real_catalogue(dsb: Dsb) -> None:
    told = dsb.ok("simulate")
    assert "Next: bring" not in told  # two copies are enough to be protected
    facts = dsb.json("simulate")
    assert [loss["disks"] for loss in facts["loss"]] == [1, 2]
    assert facts["loss"][1]["worst_disks"] == ["one", "two"]
    dsb.ok("disk", "drop", "two")
    assert "Next: bring" in dsb.ok("simulate")


def test_simulate_more_lost_and_imagined_disks(dsb: Dsb) -> None:
    before = dsb.catalogue.read_bytes()
    told = dsb.ok("simulate", "--lose", "one", "--lose", "two", "--add", "1G", "--rounds", "2")
    assert "Round 1: 100.0% in 2 copies" in told
    assert "Round 2: " in told
    alone = dsb.json("simulate", "--disks", "0.5,0.5", "--growth", "5%", "--rounds", "2")
    assert [row["round"] for row in alone] == [1, 2]
    assert alone[0]["copies"] == pytest.approx({"1": 1.0}, abs=0.02)
    assert dsb.catalogue.read_bytes() == before


def test_simulate_made_up_objects_need_no_catalogue_and_are_always_the_same(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "nowhere")
    options = ("simulate", "--synthetic", "2000:7", "--disks", "0.4,0.4,0.4,0.4,0.4,0.4", "--rounds", "2")
    first, second = dsb.json(*options), dsb.json(*options)
    assert list(first[0]) == ["round", "planner_cpu_s", "copied", "deleted", "copies", "loss"]
    assert list(first[0]["loss"]) == ["1", "2", "3"]
    for row in (*first, *second):
        assert row.pop("planner_cpu_s") < 10
    assert first == second
    assert first[0]["copied"] == pytest.approx(2.4, abs=0.01)
    assert not dsb.folder.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--lose", "nine"), "there is no disk 'nine' to be lost; there is one, three and two"),
        (("--lose", "one", "--lose", "two", "--lose", "three"), "there is no disk to simulate with"),
        (("--disks", "12Q"), "12Q"),
        (("--disks", "-5"), "-5"),
        (("--add", "9999999999999T"), "is more than any disk holds"),
        (("--synthetic", "10:1"), "give --disks too"),
    ],
)
def test_simulate_what_cannot_be_meant_is_refused(dsb: Dsb, words: tuple[str, ...], sentence: str) -> None:
    joined = [f"{words[0]}={words[1]}", *words[2:]] if len(words) == 2 else list(words)
    assert sentence in dsb.refused(2, "simulate", *joined)


def test_simulate_disk_of_size_zero_holds_nothing(dsb: Dsb) -> None:
    (row,) = dsb.json("simulate", "--disks", "0,1G")
    assert row["copies"] == {"1": 1.0}


def test_brake_is_told_everywhere_and_released(dsb: Dsb, tmp_path: Path) -> None:
    assert "The brake is off" in dsb.ok("brake")
    shutil.rmtree(tmp_path / "source")
    (tmp_path / "source").mkdir()
    dsb("update", "--ignore-lock")
    done = dsb("backup", "one")
    assert done.status == 0
    assert "300 vanished" in done.err
    assert len(list((tmp_path / "one" / "distbackup-objects").rglob("*"))) > 300
    assert "300 vanished" in dsb.ok("brake", "status")
    assert "The brake is on" in dsb.ok("status")
    facts = dsb.json("brake")
    assert facts["on"]
    assert facts["since"] > 0
    assert "Would release the brake" in dsb.ok("-n", "brake", "release")
    assert json.loads(dsb.ok("--json", "brake"))["on"]
    assert "the brake is off" in dsb.ok("brake", "release")
    assert "The brake was off already." in dsb.ok("brake", "release")
    dsb.ok("backup", "one")
    assert not [path for path in (tmp_path / "one" / "distbackup-objects").rglob("*") if path.is_file()]
