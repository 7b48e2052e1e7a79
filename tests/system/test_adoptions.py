"""``dsb import-distbackup``: what the real distbackup 1.0.20 wrote is taken over as it stands."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.bed.capabilities import DISTBACKUP
from tests.bed.loop_disks import loop_disk, mounted_at
from tests.bed.programs import Dsb
from tests.bed.waiting import wait_until_settled
from tests.trees import assert_same_tree, build_nasty_tree, describe_tree

pytestmark = pytest.mark.needs("distbackup")


class Former:
    """distbackup with a database of its own, and our ``dsb`` beside it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.folder = place / "config" / "distbackup"
        self.folder.mkdir(parents=True)
        self.source = place / "source"
        self.source.mkdir()
        self.dsb = Dsb(place / "catalogue")

    def __call__(self, *words: str | Path) -> str:
        """Run distbackup's ``dsb``. It ends with 0 whatever happens, so its log is looked at."""
        command = [DISTBACKUP, "--db", self.folder, *words]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)
        assert done.returncode == 0, done
        assert "Traceback" not in done.stderr + done.stdout, done
        assert "ERROR" not in done.stdout, done
        return done.stdout

    def write(self, name: str, content: str = "") -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content or f"content of {name}")
        return path

    def disk(self, name: str) -> Path:
        """A folder that serves as a disk, known to distbackup."""
        path = self.place / name
        path.mkdir()
        self("disk", "add", name, path, "--size", "1G")
        return path

    def database(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.glob("distbackup.sqlite*")}

    def adopt(self) -> str:
        """Take it over, and see that its own database is as it was."""
        before = self.database()
        said = self.dsb.ok("import-distbackup", self.folder)
        assert self.database() == before
        return said


@pytest.fixture
def former(tmp_path: Path) -> Former:
    return Former(tmp_path)


def contents(disk: Path) -> dict[str, tuple[bytes, int]]:
    """What the objects are, and when they were written; whose they are is put right."""
    paths = (disk / "distbackup-objects").glob("*/*")
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def make_unreadable_by_content(path: Path) -> None:
    """Another content with the size and time of before: whoever reads it again would notice."""
    state = path.stat()
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_all_is_taken_over_and_nothing_is_copied_again(former: Former, tmp_path: Path) -> None:
    for name in ("photos/a", "photos/ü ä", "photos/deep/er/b", "same"):
        former.write(name)
    former.write("copy", "content of same")
    former.write("nothing").write_text("")
    former.write("photos/thing.tmp")
    (former.source / "link").symlink_to("photos/a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c").write_text("content of c")
    former("source", "map", "/", former.source)
    former("source", "map", "/photos/nested", tmp_path / "elsewhere")
    former("source", "set", "/photos", "--ignore", "*.tmp", "--priority", "3", "--maxcopies", "1")
    one, two = former.disk("one"), former.disk("two")
    former("update")
    former("backup", "one")
    former("backup", "two")
    before = {disk: contents(disk) for disk in (one, two)}
    held = {path.name for disk in (one, two) for path in disk.glob("distbackup-objects/*/*")}
    assert len(held) == 5
    said = former.adopt()
    assert "Took over 2 sources, the settings of 1 folder, and one and two." in said
    assert "6 files kept the hash that distbackup knew." in said
    assert "hashed" not in said
    assert "one: looked through; it holds 0 objects more and 0 fewer than distbackup said" in said
    dsb = former.dsb
    assert {source["virtual_path"]: source["path"] for source in dsb.json("source")["sources"]} == {
        "/": str(former.source),
        "/photos/nested": str(tmp_path / "elsewhere"),
    }
    assert json.loads(dsb.ok("source", "set", "/photos").partition(": ")[2]) == {
        "priority": 3,
        "maxcopies": 1,
        "rules": ["*.tmp"],
    }
    disks = {disk["name"]: disk for disk in dsb.json("disk", "list")}
    assert {name: disk["size"] for name, disk in disks.items()} == {"one": 10**9, "two": 10**9}
    assert json.loads((one / "distbackup-disk.json").read_text())["uuid"] == disks["one"]["uuid"]
    assert "thing.tmp" not in dsb.ok("ls")
    assert "hashed" not in dsb.ok("update")
    for disk in ("one", "two"):
        assert "copied" not in dsb.ok("backup", disk)
    assert {disk: contents(disk) for disk in (one, two)} == before
    for path in one.glob("distbackup-objects/*/*"):
        assert (path.stat().st_mode, path.parent.stat().st_mode) == (0o100600, 0o040700)
    assert (one / "distbackup.sqlite.kept-1").exists()
    dsb.ok("restore", "one", tmp_path / "restored")
    dsb.ok("restore", "two", tmp_path / "restored")
    (former.source / "photos/thing.tmp").unlink()
    shutil.copytree(tmp_path / "elsewhere", former.source / "photos" / "nested")
    wanted, found = describe_tree(former.source), describe_tree(tmp_path / "restored")
    assert {path: entry[8] for path, entry in found.items()} == {path: entry[8] for path, entry in wanted.items()}


def test_a_hash_is_believed_while_size_and_time_agree_until_the_file_is_read(former: Former) -> None:
    same, large, changed = former.write("same"), former.write("large"), former.write("changed")
    with large.open("r+b") as file:
        file.truncate(1 << 30)
    former("source", "map", "/", former.source)
    former.disk("one")
    former("update")
    former("backup", "one")
    make_unreadable_by_content(same)
    changed.write_text("another content")
    wait_until_settled(same, changed)
    said = former.dsb.ok("import-distbackup", former.folder)
    assert "2 files kept the hash that distbackup knew." in said
    assert "hashed 1 file" in said
    assert "/same: its content changed although its size and time are the same" in said, "it fits into what a scan reads"
    assert "1 file, 1.07 GB, is believed until it is read again" in said
    assert "()" in former.dsb.ok("ls", "/same")
    assert "()" in former.dsb.ok("ls", "/changed")
    assert "believed" not in former.dsb.ok("update", "--confirm")


def test_a_disk_that_is_away_is_looked_through_when_it_comes(former: Former, tmp_path: Path) -> None:
    former.write("a")
    former.write("b")
    former("source", "map", "/", former.source)
    one = former.disk("one")
    former("update")
    former("backup", "one")
    away = one.rename(tmp_path / "away")
    assert "Not looked through: one. Each is when it is plugged in next." in former.adopt()
    assert "(one) /a" in former.dsb.ok("ls", "/a")
    for path in away.glob("distbackup-objects/*/*"):
        if path.read_text() == "content of a":
            path.unlink()
    away.rename(one)
    said = former.dsb.ok("backup", "one")
    assert "one: holds 0 objects more and 1 fewer than was known of it" in said
    assert "one: copied 1 object" in said


def test_files_that_nobody_can_look_at_now_are_kept_as_distbackup_knew_them(former: Former, tmp_path: Path) -> None:
    """A locked folder, and a source on a disk that is not mounted today."""
    former.write("locked/deep/a")
    former.write("open/b")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "c").write_text("content of c")
    (tmp_path / "far" / "link").symlink_to("c")
    former("source", "map", "/", former.source)
    former("source", "map", "/far", tmp_path / "far")
    former.disk("one")
    former("update")
    former("backup", "one")
    former("source", "lock", "/locked")
    shutil.rmtree(former.source / "locked" / "deep")
    (tmp_path / "far").rename(tmp_path / "gone")
    done = former.dsb("import-distbackup", former.folder)
    assert done.status == 3, done
    assert "3 files that could not be looked at are kept as distbackup knew them." in done.out
    listed = former.dsb.ok("ls")
    assert "(one) /locked/deep/a" in listed
    assert "(one) /far/c" in listed
    former.dsb.ok("restore", "one", tmp_path / "restored")
    assert (tmp_path / "restored/locked/deep/a").read_text() == "content of locked/deep/a"
    assert (tmp_path / "restored/far/link").read_text() == "content of c"
    # When it is back, what is the same is the same, and what is gone is gone.
    (tmp_path / "gone").rename(tmp_path / "far")
    former.dsb.ok("source", "unlock", "/locked")
    former.dsb.ok("update")
    listed = former.dsb.ok("ls")
    assert "/locked/deep" not in listed
    assert "(one) /far/c" in listed
    assert "copied" not in former.dsb.ok("backup", "one")


def test_what_is_not_yet_in_its_main_file_is_seen_too(former: Former, tmp_path: Path) -> None:
    """distbackup was killed: the newest of its database is in the -wal."""
    former.write("a")
    former("source", "map", "/", former.source)
    former("update")
    with closing(sqlite3.connect(former.folder / "distbackup.sqlite", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("UPDATE path_map SET real_path = ?", (str(tmp_path / "moved"),))
        former.source.rename(tmp_path / "moved")
        assert (former.folder / "distbackup.sqlite-wal").stat().st_size
        assert "1 file kept the hash" in former.adopt()
    assert str(tmp_path / "moved") in former.dsb.ok("source")


def test_again_goes_on_and_changes_nothing_more(former: Former) -> None:
    former.write("a")
    former("source", "map", "/", former.source)
    former.disk("one")
    former("update")
    former("backup", "one")
    former.adopt()
    listed = former.dsb.ok("ls")
    former.adopt()
    assert former.dsb.ok("ls") == listed
    assert [disk["name"] for disk in former.dsb.json("disk", "list")] == ["one"]


def test_simulated_changes_nothing(former: Former) -> None:
    former.write("a")
    former("source", "map", "/", former.source)
    one = former.disk("one")
    before = describe_tree(one)
    former.dsb.ok("source", "map", "/other", one)
    assert "Would take over 1 source, the settings of 0 folders, and one." in former.dsb.ok(
        "-n", "import-distbackup", former.folder
    )
    assert describe_tree(one) == before
    assert former.dsb.json("disk", "list") == []


def test_what_contradicts_this_catalogue_is_refused_before_anything_is_changed(former: Former, tmp_path: Path) -> None:
    former("source", "map", "/", former.source)
    former.disk("one")
    (tmp_path / "other").mkdir()
    (tmp_path / "ours").mkdir()
    dsb = former.dsb
    dsb.ok("source", "map", "/", tmp_path / "other")
    assert "is mapped to" in dsb.refused(2, "import-distbackup", former.folder)
    dsb.ok("source", "unmap", "/")
    dsb.ok("disk", "add", "one", tmp_path / "ours", "--folder")
    assert "there is another disk 'one' here than in distbackup" in dsb.refused(2, "import-distbackup", former.folder)
    assert dsb.json("source")["sources"] == []


def test_no_database_or_another_one_is_refused_in_a_sentence(former: Former, tmp_path: Path) -> None:
    dsb = former.dsb
    assert "there is no database of distbackup at" in dsb.refused(2, "import-distbackup", tmp_path / "nowhere")
    former("source", "map", "/", former.source)
    database = former.folder / "distbackup.sqlite"
    good = database.read_bytes()
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA user_version=30")
    assert "was written by an older distbackup: run 'dsb info'" in dsb.refused(5, "import-distbackup", former.folder)
    with closing(sqlite3.connect(database)) as other:
        other.execute("PRAGMA user_version=32")
    assert "was written by a newer distbackup" in dsb.refused(5, "import-distbackup", former.folder)
    database.write_bytes(good[: len(good) // 2])
    assert "is damaged" in dsb.refused(5, "import-distbackup", former.folder)
    database.write_bytes(b"nothing of the kind" * 1000)
    assert "is damaged" in dsb.refused(5, "import-distbackup", former.folder)
    assert dsb.json("source")["sources"] == []


def test_its_own_folder_is_no_place_for_our_catalogue(former: Former) -> None:
    former("source", "map", "/", former.source)
    before = former.database()
    told = Dsb(former.folder).refused(5, "import-distbackup", former.folder)
    assert "is the database of distbackup, not of distbackupd; it was left as it is: choose another folder" in told
    assert former.database() == before


def test_settings_that_mean_nothing_here_are_told_and_left_out(former: Former) -> None:
    former("source", "map", "/", former.source)
    settings = {"rules": ["*.tmp", "/["], "noinherit": True, "strange": 5, "follow_symlinks": True}
    with closing(sqlite3.connect(former.folder / "distbackup.sqlite")) as other:
        other.execute("INSERT INTO path_config VALUES ('/', ?)", (json.dumps(settings),))
        other.commit()
    said = former.dsb.ok("import-distbackup", former.folder)
    assert "'strange' means nothing here; left out" in said
    assert "'/[' is no regular expression" in said
    assert json.loads(former.dsb.ok("source", "set", "/").partition(": ")[2]) == {
        "rules": ["*.tmp"],
        "noinherit": True,
        "follow_symlinks": True,
    }


@pytest.mark.needs("root", "loop")
def test_a_nasty_tree_on_real_disks_comes_back_as_it_was(former: Former, tmp_path: Path) -> None:
    """distbackup itself ends at names that are no UTF-8, or as long as names can be."""
    build_nasty_tree(former.source, deep=False)
    impossible = (*former.source.glob("no utf-8*"), *former.source.glob("a/dangling*"), *former.source.glob("a/nnn*"))
    for number, path in enumerate(impossible):
        path.rename(tmp_path / f"aside {number}")
    former("source", "map", "/", former.source)
    with loop_disk(tmp_path, "ext4", "one", 200) as one, mounted_at(one.device, tmp_path / "mnt") as mounted:
        former("disk", "add", "one", mounted / "backup", "--size", "100M")
        former("update")
        former("backup", "one")
        objects = contents(mounted / "backup")
        said = former.adopt()
        assert "one: looked through; it holds 0 objects more and 0 fewer" in said
        assert "copied" not in former.dsb.ok("backup", "one", "-u")
        assert contents(mounted / "backup") == objects
        former.dsb.ok("restore", "one", tmp_path / "restored")
    assert_same_tree(former.source, tmp_path / "restored")
