"""What chattr set is recorded, and comes back."""

from __future__ import annotations

import os
import socket
import subprocess
import threading

import pytest

from distbackupd.engine.restoration import restore
from distbackupd.engine.restore_meaning import RestoreOptions
from distbackupd.model.files import InodeFlag
from distbackupd.sources.inode_flags import opened, read_flags
from distbackupd.sources.target import FolderTarget
from tests.fakes.reporter import FakeReporter
from tests.unit.engine.scenes import scene_at

needs_flags = pytest.mark.needs("root", "chattr")


@pytest.fixture
def scene(tmp_path):
    with scene_at(tmp_path) as scene:
        yield scene
    subprocess.run(["chattr", "-R", "-i", "-a", tmp_path], capture_output=True, check=False)


def chattr(flags, *paths):
    subprocess.run(["chattr", flags, *paths], check=True)


def recorded(scene):
    found = {os.fsdecode(entry.path): entry.inode_flags for entry in scene.catalogue.files.restore_entries(b"/")}
    return {path: flags for path, flags in found.items() if flags}


def bring_back(scene, disk):
    reporter = FakeReporter()
    with FolderTarget(os.fsencode(scene.place / "out")) as target:
        words = (scene.catalogue, disk, scene.store(disk), target, RestoreOptions(), reporter, threading.Event())
        report = restore(*words)
    return report, "\n".join(event.sentence for event in reporter.events)


@needs_flags
def test_scan_records_what_chattr_set_and_a_restore_sets_it_again(scene):
    disk = scene.add_disk("photos-01")
    for name in ("folder/immutable", "folder/log", "folder/plain"):
        scene.write(name)
    (scene.real / "folder/empty").touch()
    os.link(scene.real / "folder/log", scene.real / "folder/log too")
    chattr("+i", scene.real / "folder/immutable")
    chattr("+aA", scene.real / "folder/log")
    chattr("+d", scene.real / "folder/empty")
    chattr("+i", scene.real / "folder")
    scene.scan()
    expected = {
        "/folder": InodeFlag.IMMUTABLE,
        "/folder/immutable": InodeFlag.IMMUTABLE,
        "/folder/log": InodeFlag.APPEND_ONLY | InodeFlag.NO_ACCESS_TIME,
        "/folder/log too": InodeFlag.APPEND_ONLY | InodeFlag.NO_ACCESS_TIME,
        "/folder/empty": InodeFlag.NO_DUMP,
    }
    assert recorded(scene) == expected
    generation = scene.catalogue.generation()
    scene.scan()
    assert scene.catalogue.generation() == generation
    scene.back_up(disk)
    for _ in range(2):
        report, _ = bring_back(scene, disk)
        assert report.complete
        assert not report.not_kept
        for path, flags in expected.items():
            folder, name = os.path.split(scene.place / "out" / path[1:])
            with opened(os.open(folder, os.O_PATH), os.fsencode(name)) as descriptor:
                assert read_flags(descriptor) == flags
        assert os.path.samefile(scene.place / "out/folder/log", scene.place / "out/folder/log too")


@needs_flags
def test_scan_of_what_is_unchanged_opens_nothing(scene, monkeypatch):
    scene.write("folder/file")
    chattr("+d", scene.real / "folder/file", scene.real / "folder")
    scene.scan()
    monkeypatch.setattr("distbackupd.sources.inode_flags.read_flags", lambda _descriptor: pytest.fail("it was looked up"))
    scene.scan()
    assert set(recorded(scene)) == {"/folder", "/folder/file"}


def test_restore_says_that_sockets_are_not_kept(scene):
    disk = scene.add_disk("photos-01")
    scene.write("file")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(scene.real / "socket"))
        scene.scan()
    scene.back_up(disk)
    report, said = bring_back(scene, disk)
    assert (report.never_kept, report.complete) == (1, True)
    assert "not restored, for no backup keeps such things as sockets: /socket" in said


@needs_flags
def test_scan_sees_what_chattr_does_to_what_is_otherwise_unchanged(scene):
    scene.write("folder/file")
    scene.write("folder/other")
    scene.scan()
    chattr("+a", scene.real / "folder/file")
    chattr("+d", scene.real / "folder")
    scene.scan()
    assert recorded(scene) == {"/folder": InodeFlag.NO_DUMP, "/folder/file": InodeFlag.APPEND_ONLY}
    assert scene.tree.hashed in ([], [os.fsencode(scene.real / "folder/file")])  # the others are not even opened
    chattr("-a", scene.real / "folder/file")
    scene.scan()
    assert recorded(scene) == {"/folder": InodeFlag.NO_DUMP}
