"""Disks that are not mounted inside and below sources, whatever lies in their place meanwhile: never a deletion."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from distbackupd.engine.braking import standing_brake
from distbackupd.model.events import SourceLocked
from distbackupd.model.plans import Policy
from tests.bed.loop_disks import mounted_at
from tests.unit.engine.scenes import Scene, scene_at

pytestmark = pytest.mark.needs("root", "mount", "umount")
AT_ONCE = Policy(grace=0)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


@contextmanager
def mounted(scene: Scene, place: Path, kind: str) -> Iterator[None]:
    """A disk of its own, or a folder of the source's file system, mounted at the place, which holds a placeholder."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "NOT MOUNTED").write_text("the disk is not mounted")
    with ExitStack() as stack:
        if kind == "bind":
            behind = scene.place / "behind"
            behind.mkdir()
            stack.enter_context(mounted_at(str(behind), place, "--bind"))
        else:
            stack.enter_context(mounted_at("tmpfs", place, "-t", "tmpfs"))
        yield


@pytest.mark.parametrize("kind", ["disk", "bind"])
@pytest.mark.parametrize("films", [1, 2, 60])
@pytest.mark.parametrize("folders", [None, [b""], [b"/usb"], [b"/usb/below"]], ids=["all", "above", "itself", "below"])
def test_placeholder_at_a_mount_point_is_no_deletion(
    scene: Scene, kind: str, films: int, folders: list[bytes] | None
) -> None:
    scene.write("here", "stays")
    with mounted(scene, scene.real / "usb", kind):
        for number in range(films):
            scene.write(f"usb/{number}", f"film {number}")
        scene.scan()
        disk = scene.add_disk("one")
        scene.back_up(disk, policy=AT_ONCE)
        before = scene.paths()
    only = None if folders is None else [os.fsencode(scene.real) + folder for folder in folders]
    finished = scene.scan(folders=only)
    assert scene.paths() == before
    assert (finished.gone, finished.locked) == (0, 1)
    (locked,) = scene.reporter.told(SourceLocked)
    assert locked.path == b"/usb"
    assert "--ignore-lock" in locked.sentence
    scene.clock.pass_time(32 * 86_400)
    scene.scan()
    scene.back_up(disk, policy=AT_ONCE)
    assert len(scene.held(disk)) == films + 1
    scene.scan(ignore_lock=True)
    assert scene.paths() == {"/here", "/usb", "/usb/NOT MOUNTED"}


@pytest.mark.parametrize("kind", ["disk", "bind"])
def test_placeholder_in_place_of_a_whole_source_is_no_deletion_and_brakes(scene: Scene, kind: str) -> None:
    with mounted(scene, scene.real, kind):
        for number in range(12):
            scene.write(f"{number}", f"film {number}")
        scene.scan()
        before = scene.paths()
        assert not standing_brake(scene.bench).on
    finished = scene.scan()
    assert scene.paths() == before
    assert (finished.gone, finished.locked) == (0, 1)
    assert "as if its disk were not mounted" in standing_brake(scene.bench).sentence
    assert scene.scan(folders=[os.fsencode(scene.real)]).gone == 0


def test_mount_point_that_goes_with_its_disk_is_no_deletion(scene: Scene) -> None:
    scene.write("here", "stays")
    with mounted(scene, scene.real / "usb", "disk"):
        scene.write("usb/film", "a film")
        scene.scan()
        before = scene.paths()
    subprocess.run(["rm", "-r", scene.real / "usb"], check=True)
    for _ in range(2):
        assert scene.scan().gone == 0
        assert scene.paths() == before
    scene.scan(ignore_lock=True)
    assert scene.paths() == {"/here"}


def test_disk_whose_content_was_moved_into_its_mount_point_is_believed(scene: Scene) -> None:
    with mounted(scene, scene.real / "usb", "disk"):
        for number in range(12):
            scene.write(f"usb/{number}", f"film {number}")
        scene.scan()
    for number in range(10):
        scene.write(f"usb/{number}", f"film {number}")
    finished = scene.scan()
    assert (finished.gone, finished.locked) == (2, 0)


def test_other_disk_at_the_same_place_is_no_deletion(scene: Scene) -> None:
    with mounted(scene, scene.real / "usb", "disk"):
        for number in range(12):
            scene.write(f"usb/{number}", f"film {number}")
        scene.scan()
        before = scene.paths()
        with mounted(scene, scene.real / "usb", "disk"):
            scene.write("usb/else", "of another disk")
            assert scene.scan().gone == 0
            assert scene.paths() == before


def test_folder_that_is_removed_and_made_anew_is_a_change(scene: Scene) -> None:
    for number in range(12):
        scene.write(f"folder/{number}", f"text {number}")
    scene.scan()
    subprocess.run(["rm", "-r", scene.real / "folder"], check=True)
    scene.write("folder/new")
    assert scene.scan().gone == 12


def test_followed_link_to_a_disk_that_is_away_is_no_deletion(scene: Scene) -> None:
    scene.set(b"/", follow_symlinks=True)
    with mounted(scene, scene.place / "disk", "disk"):
        (scene.place / "disk" / "films").mkdir()
        (scene.place / "disk" / "films" / "one").write_text("a film")
        (scene.real / "films").symlink_to(scene.place / "disk" / "films")
        scene.scan()
        before = scene.paths()
        assert "/films/one" in before
    assert scene.scan().gone == 0
    assert scene.paths() == before
