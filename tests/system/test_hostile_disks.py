"""What somebody can put where a disk is looked for, or onto a disk: it gains him nothing, and hangs nobody.

The attackers are real processes without any privilege, or root preparing a stick at home.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.loop_disks import LoopDisk, loop_disk, make_image, mounted_at, plugged, run
from tests.bed.programs import NOBODY, Dsb

pytestmark = pytest.mark.needs("root", "loop", "ext4")

SECONDS = 60
"""Within so many a command that must not wait for anybody is surely over."""
CONTENT = b"what only root may read"


@pytest.fixture
def dsb(tmp_path: Path) -> Dsb:
    dsb = Dsb(tmp_path / "catalogue")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "secret").write_bytes(CONTENT)
    dsb.ok("source", "map", "/", tmp_path / "source")
    return dsb


@pytest.fixture
def disk(dsb: Dsb, tmp_path: Path) -> Iterator[LoopDisk]:
    """The disk ``one``, which had a session, plugged in and not mounted."""
    with loop_disk(tmp_path, megabytes=64) as disk:
        with mounted_at(disk.device, tmp_path / "disk") as root:
            dsb.ok("disk", "add", "one", root)
            dsb.ok("backup", "-u", "one")
        yield disk


def as_nobody(*command: str | Path) -> None:
    run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command)


def at_once(dsb: Dsb, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, which must come to its end."""
    started = dsb.start(*map(str, words))
    out, err = started.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(words, started.returncode, out, err)


def disk_uuid(dsb: Dsb) -> str:
    return str(dsb.json("disk", "list")[0]["uuid"])


@contextmanager
def planted_in_shm(make: Callable[[Path], None]) -> Iterator[Path]:
    """In the folder that everybody may write on every Linux."""
    place = Path("/dev/shm/distbackup-disk.json")
    if os.path.lexists(place):
        pytest.skip("another test plants something there just now")
    try:
        make(place)
        yield place.parent
    finally:
        place.unlink(missing_ok=True)


def test_a_file_of_a_user_that_says_it_is_the_disk_is_none(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    """D-Bus told everybody the UUID; with it everything of root's went into the user's memory."""

    def plant(place: Path) -> None:
        text = json.dumps({"uuid": disk_uuid(dsb), "name": "one"})
        as_nobody("sh", "-c", f"printf %s '{text}' > {place}")

    disk.unplug()
    with planted_in_shm(plant) as shm:
        done = at_once(dsb, "backup", "one")
        assert done.returncode == 4
        assert "'one' is not here" in done.stderr
        assert dsb.json("disk", "list")[0]["path"] is None
        # Nor where root says so: it belongs to everybody.
        done = at_once(dsb, "backup", shm)
        assert done.returncode == 4
        assert "on no device that could be 'one'" in done.stderr
        assert not (shm / "distbackup-objects").exists()
        assert "others may write to the folder" in dsb.refused(2, "disk", "set", "one", "--path", shm, "--folder")


def test_a_fifo_in_memory_hangs_nobody(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    with planted_in_shm(lambda place: as_nobody("mkfifo", place)):
        for words in (
            ("disk", "list"),
            ("backup", "one"),
            ("recover", "-n"),
            ("restore", "--no-wait", "--to", "/dev/shm/x"),
        ):
            at_once(dsb, *words)


@pytest.mark.parametrize("kind", ["tmpfs", "overlay", "ramfs"])
def test_file_systems_in_memory_are_no_disks(dsb: Dsb, disk: LoopDisk, tmp_path: Path, kind: str) -> None:
    disk.unplug()
    options = []
    if kind == "overlay":
        memory = tmp_path / "memory"
        memory.mkdir()
        run("mount", "-t", "tmpfs", "none", memory)
        for name in ("lower", "upper", "work"):
            (memory / name).mkdir()
        options = ["-o", f"lowerdir={memory}/lower,upperdir={memory}/upper,workdir={memory}/work"]
    try:
        with mounted_at("none", tmp_path / "fake", "-t", kind, *options) as root:
            root.chmod(0o755)
            (root / "distbackup-disk.json").write_text(json.dumps({"uuid": disk_uuid(dsb), "name": "one"}))
            assert "'one' is not here" in dsb.refused(4, "backup", "one")
            assert "on no device that could be 'one'" in dsb.refused(4, "backup", root)
            assert os.listdir(root) == ["distbackup-disk.json"]
    finally:
        if options:
            run("umount", tmp_path / "memory")


ELSEWHERE = ["distbackup-objects", "distbackup-tmp", "bad-objects"]


def the_session_goes_on(dsb: Dsb, root: Path, victim: Path) -> None:
    """Nothing happened to the victim, and the disk has what it should have."""
    before = sorted((path.name, path.lstat().st_mode, path.lstat().st_mtime_ns) for path in victim.iterdir())
    (root.parent / "source" / "new").write_text("new content")
    # Twice: what an interrupted session left is removed in the next one.
    for words in (("backup", "-u", "one"), ("backup", "one"), ("verify", "one"), ("disk", "refresh", "one")):
        done = at_once(dsb, *words)
        assert "Traceback" not in done.stderr
    assert before == sorted((path.name, path.lstat().st_mode, path.lstat().st_mtime_ns) for path in victim.iterdir())
    held = {path.name for path in (root / "distbackup-objects").glob("*/*")}
    assert hashlib.sha256(b"new content").hexdigest() in held
    assert hashlib.sha256(CONTENT).hexdigest() in held
    for name in ("distbackup-objects", "distbackup-tmp"):
        assert not (root / name).is_symlink()


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_link_in_the_place_of_a_folder_of_the_layout_leads_nowhere(
    dsb: Dsb, disk: LoopDisk, tmp_path: Path, name: str, relative: bool
) -> None:
    """To /etc/cron.d it gave root, to /etc or the catalogue's folder the next session deleted what lay there."""
    victim = tmp_path / "victim"
    victim.mkdir()
    for number in range(3):
        (victim / f"{number}").write_text("precious")
    (victim / ("0" * 64)).write_text("precious")
    with mounted_at(disk.device, tmp_path / "disk") as root:
        if (root / name).exists():
            shutil.rmtree(root / name)
        (root / name).symlink_to(os.path.relpath(victim, root) if relative else victim)
        the_session_goes_on(dsb, root, victim)
        assert (root / "bad-objects").is_dir()


def test_links_in_the_place_of_objects_and_their_folders_lead_nowhere(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    digests = {hashlib.sha256(content).hexdigest(): content for content in (b"new content", CONTENT)}
    for name, content in digests.items():
        (victim / name).write_bytes(content)
    with mounted_at(disk.device, tmp_path / "disk") as root:
        for name in digests:
            folder = root / "distbackup-objects" / name[:3]
            if folder.exists():
                shutil.rmtree(folder)
            folder.symlink_to(victim)
        (root / "distbackup-tmp" / next(iter(digests))).symlink_to(victim / "0")
        the_session_goes_on(dsb, root, victim)
        for name in digests:
            assert not (root / "distbackup-objects" / name[:3]).is_symlink()


def test_links_in_the_place_of_files_lead_nowhere(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    names = ["distbackup.sqlite", "README.txt", "distbackup-restore.py", "distbackup.sqlite.new", "README.txt.new"]
    with mounted_at(disk.device, tmp_path / "disk") as root:
        for name in names:
            (root / name).unlink(missing_ok=True)
            (root / name).symlink_to(victim / "file")
        os.link(root / "distbackup-disk.json", root / "distbackup-disk.json.new")
        the_session_goes_on(dsb, root, victim)
        for name in names[:3]:
            assert (root / name).is_file()
            assert not (root / name).is_symlink()


@pytest.mark.parametrize(
    "name",
    ["distbackup-disk.json", "distbackup-session.json", "distbackup.sqlite", "README.txt", "README.txt.new",
     "distbackup.sqlite.new", "distbackup.sqlite.kept-1", "distbackup-tmp", "distbackup-objects"],
)  # fmt: skip
def test_a_fifo_on_a_disk_hangs_nobody(dsb: Dsb, disk: LoopDisk, tmp_path: Path, name: str) -> None:
    (tmp_path / "source" / "new").write_text("new content")
    with mounted_at(disk.device, tmp_path / "disk") as root:
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        words = (("backup", "-u", "one"), ("verify", "one"), ("restore", "--no-wait", "--to", tmp_path / "out"))
        for asked in (*words, ("disk", "refresh", "one"), ("disk", "list"), ("recover", "-n", root)):
            done = at_once(dsb, *asked)
            assert "Traceback" not in done.stderr


def test_another_file_system_on_a_folder_of_the_layout_gets_nothing(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    (tmp_path / "source" / "new").write_text("new content")
    with mounted_at(disk.device, tmp_path / "disk") as root:
        for name in ("distbackup-objects", "distbackup-tmp"):
            with mounted_at("none", root / name, "-t", "tmpfs") as other:
                told = dsb("backup", "-u", "one")
                assert told.status == 4
                assert "another file system is mounted on a folder of it" in told.err
                assert os.listdir(other) == []


def test_a_stick_with_both_uuids_and_no_token_gets_nothing_and_no_credit(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    number = disk_uuid(dsb)
    disk.unplug()
    (tmp_path / "source" / "new").write_text("new content")
    dsb.ok("update")
    forged = make_image(tmp_path / "forged.img", "ext4", megabytes=64)
    run("tune2fs", "-f", "-U", disk.filesystem_uuid, forged.image)
    with plugged(forged) as volume, mounted_at(volume.device, tmp_path / "disk") as root:
        (root / "distbackup-disk.json").write_text(json.dumps({"uuid": number, "name": "one"}))
        shutil.copytree("/etc/apt", root / "distbackup-objects")
        before = sorted(path.name for path in root.rglob("*"))
        for command in ("backup", "verify"):
            told = dsb(command, "one")
            assert told.status == 4
            assert "is not as the last session left 'one'" in told.err
            assert "say 'dsb disk refresh one'" in told.err
        assert sorted(path.name for path in root.rglob("*")) == before
    disk.plug()
    with mounted_at(disk.device, tmp_path / "disk") as root:
        assert "copied 1 object" in dsb.ok("backup", "one")
        assert {path.name for path in (root / "distbackup-objects").glob("*/*")} == {
            hashlib.sha256(content).hexdigest() for content in (CONTENT, b"new content")
        }


@pytest.mark.parametrize("how", ["owner", "mode"])
def test_a_top_folder_that_others_may_exchange_is_refused(dsb: Dsb, disk: LoopDisk, tmp_path: Path, how: str) -> None:
    with mounted_at(disk.device, tmp_path / "disk") as root:
        if how == "owner":
            os.chown(root, NOBODY, NOBODY)
            remedy = f"'chown root: {root}'"
        else:
            root.chmod(0o1777)
            remedy = f"'chmod go-w {root}'"
        for words in (("backup", "one"), ("backup", root), ("verify", "one")):
            assert remedy in dsb.refused(4, *words)
        run("sh", "-c", remedy.strip("'"))
        assert "nothing to do" in dsb.ok("backup", "one")


def test_a_folder_disk_is_that_folder_and_no_other(dsb: Dsb, tmp_path: Path) -> None:
    """Whoever may write to the folder above could put another one in its place."""
    folder = tmp_path / "share"
    folder.mkdir()
    dsb.ok("disk", "add", "one", folder, "--folder")
    dsb.ok("backup", "-u", "one")
    (tmp_path / "source" / "new").write_text("new content")
    folder.rename(tmp_path / "genuine")
    as_nobody_may_write = tmp_path / "share"
    shutil.copytree(tmp_path / "genuine", as_nobody_may_write)
    told = dsb.refused(4, "backup", "one")
    assert f"{folder} is another folder than the one that was made known as 'one'" in told
    assert f"say 'dsb disk set one --path {folder} --folder'" in told
    os.chown(folder, NOBODY, NOBODY)
    assert "belongs to the user" in dsb.refused(2, "disk", "set", "one", "--path", folder, "--folder")
    os.chown(folder, 0, 0)
    dsb.ok("disk", "set", "one", "--path", folder, "--folder")
    assert "copied 1 object" in dsb.ok("backup", "-u", "one")


def test_a_folder_disk_from_before_is_believed_once_where_it_was_and_known_from_then_on(dsb: Dsb, tmp_path: Path) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    dsb.ok("disk", "add", "one", folder, "--folder")
    script = (
        "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as catalogue:\n"
        " catalogue.execute(\"UPDATE disk SET folder_on = '', folder_inode = 0, filesystem_uuid = NULL, token = ''\")\n"
    )
    run("python3", "-c", script, dsb.catalogue)
    dsb.ok("backup", "-u", "one")
    folder.rename(tmp_path / "genuine")
    shutil.copytree(tmp_path / "genuine", folder)
    assert "is another folder than the one" in dsb.refused(4, "backup", "one")


def test_what_lies_on_a_disk_is_its_owners_alone_also_what_older_sessions_left(
    dsb: Dsb, disk: LoopDisk, tmp_path: Path
) -> None:
    readable = {"README.txt", "distbackup-restore.py", "lost+found"}
    with mounted_at(disk.device, tmp_path / "disk") as root:
        for path in root.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (tmp_path / "source" / "new").write_text("new content")
        dsb.ok("backup", "-u", "one")
        assert (root / "distbackup-objects").stat().st_mode & 0o777 == 0o700
        dsb.ok("verify", "one")
        dsb.ok("backup", "one")
        wide = [path for path in root.rglob("*") if path.name not in readable and path.stat().st_mode & 0o077]
        assert wide == []
        assert (root / "README.txt").stat().st_mode & 0o777 == 0o644


def test_a_name_on_a_disk_reaches_no_terminal_as_it_is(dsb: Dsb, tmp_path: Path) -> None:
    with loop_disk(tmp_path, megabytes=16) as strange, mounted_at(strange.device, tmp_path / "strange") as root:
        name = "evil\x1b]0;owned\x07\nroot: all is well"
        (root / "distbackup-disk.json").write_text(json.dumps({"uuid": str(uuid.uuid4()), "name": name}))
        for words in (("backup", root), ("recover", "-n", root), ("recover", root)):
            done = at_once(dsb, *words)
            told = done.stdout + done.stderr
            assert "\x1b" not in told
            assert "\nroot: all is well" not in told
