"""``dsb restore --to``, ``dsb log`` and ``dsb diff`` on real disks, from several of them, killed and gone on with."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.bed.loop_disks import LoopDisk, loop_disk, mounted_at, run
from tests.bed.programs import NOBODY, Dsb, running_daemon
from tests.bed.waiting import wait_until
from tests.trees import assert_same_tree, build_nasty_tree, describe_tree, write_file

needs_disks = pytest.mark.needs("ext4", "tune2fs", "rsync")


class Shelf:
    """Disks in folders, which come and go by being renamed, and a source."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.dsb = Dsb(place / "catalogue")
        self.source = place / "source"
        self.destination = place / "restored"

    def add(self, name: str) -> None:
        (self.place / name).mkdir()
        self.dsb.ok("disk", "add", name, self.place / name, "--folder")

    def take_away(self, *names: str) -> None:
        for name in names:
            (self.place / name).rename(self.place / f"{name}.away")

    def bring(self, name: str) -> None:
        (self.place / f"{name}.away").rename(self.place / name)

    def object(self, name: str, path: str) -> Path:
        """The disk's copy of a source file."""
        digest = run("sha256sum", self.source / path).split()[0]
        return self.place / name / "distbackup-objects" / digest[:3] / digest


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Four files of 100 kB, two of which lie on each of two disks."""
    shelf = Shelf(tmp_path)
    shelf.source.mkdir()
    shelf.dsb.ok("source", "map", "/", shelf.source)
    for disk, names in (("one", "ab"), ("two", "cd")):
        for name in names:
            write_file(shelf.source / name, os.urandom(100_000))
        shelf.add(disk)
        shelf.dsb.ok("update")
        shelf.dsb.ok("backup", "--maxcopies", "1", disk)
    return shelf


def test_minset_tells_which_disks_are_needed_and_changes_nothing(shelf: Shelf) -> None:
    shelf.take_away("two")
    told = shelf.dsb.ok("restore", "--minset")
    assert told.splitlines() == [
        "To restore 4 files (400 kB), 2 disks are needed:",
        "  1. one: 200 kB in 2 files, here now",
        "  2. two: 200 kB in 2 files",
    ]
    plan = shelf.dsb.json("restore", "--minset", "/c", "/d")
    assert (plan["files"], plan["bytes"], [disk["name"] for disk in plan["disks"]]) == (2, 200_000, ["two"])
    assert shelf.dsb.ok("-n", "restore", "--to", shelf.destination, "*a").splitlines()[0] == (
        f"To restore 1 file (100 kB) to {shelf.destination}, 1 disk is needed:"
    )
    assert not shelf.destination.exists()


def test_restore_asks_for_the_next_disk_and_goes_on_when_it_is_here(shelf: Shelf) -> None:
    shelf.take_away("two")
    with shelf.dsb.start("restore", "--to", shelf.destination) as process:
        assert process.stdout is not None
        told = []
        while not told or not told[-1].startswith("Plug in"):
            told.append(process.stdout.readline())
        assert told[-1].startswith("Plug in two: 200 kB. Ctrl+C stops, the same command goes on.")
        assert sorted(os.listdir(shelf.destination)) == ["a", "b"]
        shelf.bring("two")
        rest = process.stdout.read()
        assert process.wait(20) == 0
    assert rest.splitlines()[-1] == "Restored 4 entries (400 kB); 1 was right already."
    assert_same_tree(shelf.source, shelf.destination)


def test_restore_stopped_while_it_waits_tells_how_to_go_on(shelf: Shelf) -> None:
    shelf.take_away("one", "two")
    with shelf.dsb.start("restore", "--to", shelf.destination) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("Plug in"):
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert "the same command goes on there" in process.stderr.read()
    shelf.bring("one")
    told = shelf.dsb("restore", "--to", shelf.destination, "--no-wait")
    assert (told.status, told.out.splitlines()[-1]) == (
        3,
        "Still to come: 2 files (200 kB), which lie on two; the same command goes on when one is here.",
    )
    shelf.bring("two")
    assert shelf.dsb.json("restore", "--to", shelf.destination)["missing"] == 0
    assert_same_tree(shelf.source, shelf.destination)


def test_restore_bad_copies_are_named_and_brought_by_another_disk(shelf: Shelf) -> None:
    shelf.add("three")
    shelf.dsb.ok("backup", "three")
    shelf.object("three", "a").write_bytes(b"short")
    flipped = bytearray(shelf.object("three", "b").read_bytes())
    flipped[50_000] ^= 1
    shelf.object("three", "b").write_bytes(flipped)
    shelf.object("three", "c").rename(shelf.object("three", "c").with_name("f" * 64))
    shelf.take_away("one", "two")
    first = shelf.dsb("restore", "--to", shelf.destination, "--no-wait")
    assert first.status == 7
    assert first.err.count("three: bad copy of") == 3
    assert sorted(os.listdir(shelf.destination)) == ["d"]
    shelf.bring("one")
    shelf.bring("two")
    assert shelf.dsb("restore", "--to", shelf.destination, "--without", "three").status == 0
    assert_same_tree(shelf.source, shelf.destination)


def test_restore_where_it_must_not_or_cannot_is_refused_in_a_sentence(shelf: Shelf) -> None:
    dsb = shelf.dsb
    (shelf.place / "link").symlink_to(shelf.source)
    for place in (shelf.source, shelf.source / "below", shelf.place / "link"):
        assert "lies in the source" in dsb.refused(2, "restore", "--to", place)
    for place in (shelf.place / "one", shelf.place / "two" / "new" / "folder"):
        assert "lies on the backup disk itself" in dsb.refused(2, "restore", "--to", place)
    write_file(shelf.place / "file", b"")
    assert "is no folder" in dsb.refused(2, "restore", "--to", shelf.place / "file")
    below = shelf.place / "file" / "below"
    assert "cannot be restored to: Not a directory" in dsb.refused(4, "restore", "--to", below)
    assert dsb.refused(2, "restore", "--to", shelf.destination, "/a", "/never was") == (
        "nothing in the catalogue matches '/never was'; 'dsb ls' lists what there is"
    )
    assert "must not contain '.' or '..'" in dsb.refused(2, "restore", "--to", shelf.destination, "/../etc/passwd")
    assert "is still to come" in dsb.refused(2, "restore", "--to", shelf.destination, "--at", "2999-01-01")
    assert "nothing was known on 1999-12-31; the first files were recorded on 20" in dsb.refused(
        2, "restore", "--to", shelf.destination, "--at", "1999-12-31"
    )
    assert "is no date; write it like 2026-11-01" in dsb.refused(2, "restore", "--to", shelf.destination, "--at", "soon")
    assert "there is no disk 'four'" in dsb.refused(2, "restore", "--to", shelf.destination, "--without", "four")
    assert "say where to restore to" in dsb.refused(2, "restore", "/a")
    assert not shelf.destination.exists()


@contextmanager
def small_target(shelf: Shelf, kilobytes: int) -> Iterator[Path]:
    folder = shelf.place / "small"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", folder)
    try:
        yield folder
    finally:
        run("umount", folder)


@pytest.mark.needs("root", "mount")
def test_restore_to_a_full_or_read_only_place_says_so_and_goes_on_with_room(shelf: Shelf) -> None:
    with small_target(shelf, 260) as target:
        done = shelf.dsb("restore", "--to", target / "r")
        assert done.status == 4
        assert "has room for 266 kB only: when it is full, make room" in done.out
        assert "is full; what was restored stays" in done.err
        names = os.listdir(target / "r")
        assert 1 <= len([name for name in names if not name.startswith(".dbtmp~")]) <= 2
        run("mount", "-o", "remount,size=2m", target)
        shelf.dsb.ok("restore", "--to", target / "r")
        assert {name: (target / "r" / name).read_bytes() for name in os.listdir(target / "r")} == {
            name: (shelf.source / name).read_bytes() for name in "abcd"
        }
        run("mount", "-o", "remount,ro", target)
        assert "cannot be restored to: Read-only file system" in shelf.dsb.refused(4, "restore", "--to", target / "new")


def test_restore_at_dates_log_and_diff_tell_what_there_was(shelf: Shelf) -> None:
    dsb = shelf.dsb
    before = describe_tree(shelf.source)
    shutil.copytree(shelf.source, shelf.place / "before", symlinks=True)
    shutil.copystat(shelf.source, shelf.place / "before")
    # The shelf's second scan may be recorded a second ahead of the clock, if both fell into one.
    time_before = int(time.time()) + 1
    wait_until(lambda: int(time.time()) > time_before, "a later second than any that is recorded")
    first = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_before))
    write_file(shelf.source / "a", b"another content")
    os.chmod(shelf.source / "b", 0o600)
    (shelf.source / "c").unlink()
    write_file(shelf.source / "new", b"new")
    dsb.ok("update")
    dsb.ok("backup", "one")
    changes = dsb.json("diff", first)
    assert {change["path"]: change["change"] for change in changes} == {
        "/a": "changed",
        "/b": "metadata",
        "/c": "gone",
        "/new": "new",
    }
    assert changes[2]["before"]["disks"] == ["two"]
    text = dsb.ok("diff", first).splitlines()
    assert text[0].startswith("changed  100 kB -> 15 bytes (one) /a")
    assert text[-1].endswith("1 new, 1 changed, 1 with other owner, mode, time or attributes, 1 gone")
    assert dsb.json("diff", first, "-f", "/c*")[0]["path"] == "/c"
    assert "is later than" in dsb.refused(2, "diff", time.strftime("%Y-%m-%d %H:%M:%S"), first)
    versions = dsb.json("log", "/a")
    assert [(version["size"], version["disks"], version["gone"] is None) for version in versions] == [
        (100_000, ["one"], False),
        (15, ["one"], True),
    ]
    assert len(dsb.ok("log").splitlines()) == 7
    assert "was ever recorded" in dsb.refused(2, "log", "/never was")
    dsb.ok("restore", "--to", shelf.destination, "--at", first)
    assert_same_tree(shelf.place / "before", shelf.destination)
    assert describe_tree(shelf.destination).keys() == before.keys()
    assert "'dsb log /c' tells what there was" in dsb.refused(2, "restore", "--to", shelf.place / "r", "/c")
    shelf.take_away("two")
    dsb.ok("disk", "drop", "two")
    assert dsb.json("restore", "--minset", "--at", first, "/c")["lost_names"] == ["/c"]
    assert "(held nowhere) /c" in dsb.ok("log", "/c")
    lost = dsb("restore", "--to", shelf.place / "r", "--at", first)
    assert (lost.status, sorted(os.listdir(shelf.place / "r"))) == (3, ["a", "b", "d"])
    assert "1 file (100 kB) is on no disk that could be asked for:\n  /c\n" in lost.out


@pytest.mark.needs("root")
def test_restore_as_an_ordinary_user_brings_what_it_may(shelf: Shelf) -> None:
    os.chown(shelf.source / "a", 1234, 1234)
    shelf.dsb.ok("update")
    for path in (shelf.place, *shelf.place.parents):
        if os.stat(path).st_uid == 0 and path != Path("/") and not os.stat(path).st_mode & 0o001:
            os.chmod(path, os.stat(path).st_mode | 0o011)
    run("chmod", "-R", "go+rX", shelf.place)
    (shelf.place / "open").mkdir()
    os.chmod(shelf.place / "open", 0o777)
    done = shelf.dsb("restore", "--to", shelf.place / "open" / "r", user=NOBODY)
    assert (done.status, done.err) == (0, ""), done
    assert "the destination could not keep everything: owner (5 times)" in done.out
    assert (shelf.place / "open/r/a").read_bytes() == (shelf.source / "a").read_bytes()


def build_many(source: Path) -> None:
    """A nasty tree, and many small files and some larger ones in folders beside it."""
    source.mkdir()
    build_nasty_tree(source / "nasty", deep=False)
    rng = random.Random(5)
    for folder in range(20):
        (source / f"folder {folder}").mkdir()
        for number in range(40):
            size = rng.choice([0, 10, 1000, 5000, 70_000])
            write_file(source / f"folder {folder}" / f"{number}", rng.randbytes(size))
        write_file(source / f"folder {folder}" / "large", rng.randbytes(1_500_000))
        os.link(source / f"folder {folder}" / "1", source / f"folder {folder}" / "again")
        os.utime(source / f"folder {folder}", ns=(0, 10**18 + folder))


def two_full_disks(shelf: Shelf, disks: list[LoopDisk]) -> None:
    """Each disk holds about half of what there is."""
    for disk, name in zip(disks, ("left", "right"), strict=True):
        run("tune2fs", "-m", "0", disk.device)
        with mounted_at(disk.device, shelf.place / "mnt") as root:
            shelf.dsb.ok("disk", "add", name, root)
    shelf.dsb.ok("update")
    for disk, words in zip(disks, (("--limit", "17M", "left"), ("right",)), strict=True):
        with mounted_at(disk.device, shelf.place / "mnt"):
            shelf.dsb.ok("backup", "--maxcopies", "1", *words)


@needs_disks
def test_restore_killed_at_random_moments_and_gone_on_with_gives_the_same_tree(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    build_many(shelf.source)
    shelf.dsb.ok("source", "map", "/", shelf.source)
    with ExitStack() as stack:
        disks = [stack.enter_context(loop_disk(tmp_path, megabytes=120)) for _ in range(2)]
        two_full_disks(shelf, disks)
        assert [disk["here"] for disk in shelf.dsb.json("restore", "--minset")["disks"]] == [True, True]
        kills, rng = 0, random.Random(11)
        for _ in range(8):
            wanted = rng.choice([50, 200, 500, 900])
            process = shelf.dsb.start("restore", "--to", shelf.destination, "--no-wait")
            counted = len(os.listdir(shelf.destination)) if shelf.destination.exists() else 0
            deadline = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < deadline:
                if sum(len(files) for _, _, files in os.walk(shelf.destination)) >= counted + wanted:
                    break
            process.kill()
            kills += process.wait(10) == -signal.SIGKILL
            process.communicate()
            for disk in disks:
                while subprocess.run(["umount", disk.device], capture_output=True, check=False).returncode == 0:
                    pass
            if kills == 4:
                break
        assert kills >= 2
        assert shelf.dsb("restore", "--to", shelf.destination).status == 0
        assert not list(shelf.destination.rglob(".dbtmp~*"))
        assert_same_tree(shelf.source, shelf.destination)
        mounts = Path("/proc/self/mounts").read_text("utf-8")
        assert not any(disk.device in mounts for disk in disks)


@needs_disks
def test_restore_waits_for_a_loop_disk_and_the_daemon_waits_for_the_restore(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.source.mkdir()
    for number in range(5):
        write_file(shelf.source / f"{number}", os.urandom(50_000))
    shelf.dsb.ok("source", "map", "/", shelf.source)
    with loop_disk(tmp_path, megabytes=120) as disk:
        with mounted_at(disk.device, tmp_path / "mnt") as root:
            shelf.dsb.ok("disk", "add", "one", root)
            shelf.dsb.ok("update")
            shelf.dsb.ok("backup", "one")
        disk.unplug()
        with running_daemon(shelf.dsb) as daemon:
            daemon.wait_for("scan|idle")
            process = shelf.dsb.start("restore", "--to", shelf.destination)
            assert process.stdout is not None
            while not process.stdout.readline().startswith("Plug in one"):
                assert process.poll() is None
            assert "dsb restore" in shelf.dsb.refused(6, "disk", "refresh", "one")
            disk.plug()
            out, err = process.communicate(timeout=30)
            assert (process.returncode, err) == (0, ""), out
            assert "one is done, you may unplug it" in out
            assert daemon.stop() == 0
        assert_same_tree(shelf.source, shelf.destination)
        assert json.loads(shelf.dsb.ok("--json", "disk", "list"))
