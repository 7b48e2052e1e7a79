"""The restore script on destinations that cannot hold all that there is, and owners by name."""

from __future__ import annotations

import os
import pwd
import re
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from distbackupd.model.files import INODE_FLAGS_SHIFT, InodeFlag
from distbackupd.sources.inode_flags import opened, read_flags
from distbackupd.store.stand_alone import restore_script
from tests.bed.foreign_targets import foreign_folder
from tests.hand_made import hand_made
from tests.trees import acl, write_file
from tests.unit.store.test_stand_alone import PYTHON

folding = pytest.mark.needs("root", "loop", "mkfs.exfat", "mount.exfat-fuse")


class Disk:
    """A disk that carries its catalogue and the script."""

    def __init__(self, place: Path, backup) -> None:
        self.place = place
        self.source = place / "source"
        self.backup = backup

    def write(self, name: str, content: str) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content.encode())
        os.utime(path, ns=(0, 1_700_000_000_000_000_000))
        return path

    def finish(self) -> None:
        self.backup.back_up(self.source)
        self.backup.put_catalogues()
        (self.place / "photos-01/distbackup-restore.py").write_bytes(restore_script())

    def change(self, *statements: str) -> None:
        connection = sqlite3.connect(self.place / "photos-01/distbackup.sqlite")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    def run(self, *words, code: int = 0) -> str:
        command = [PYTHON, self.place / "photos-01/distbackup-restore.py", *words]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def disk(tmp_path):
    with hand_made(tmp_path, "photos-01") as backup:
        (tmp_path / "source").mkdir()
        yield Disk(tmp_path, backup)


def content(path: Path) -> dict[str, bytes]:
    found = {}
    for base, _, files in os.walk(path):
        for name in files:
            found[os.path.relpath(os.path.join(base, name), path)] = Path(base, name).read_bytes()
    return found


@folding
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_restore_script_keeps_one_of_two_names_that_are_one_there(disk, tmp_path, more):
    for name, text in (("README", "capital"), ("readme", "small l"), ("A/one", "1"), ("a/one", "3"), ("a/b/two", "2")):
        disk.write(name, text)
    disk.finish()
    with foreign_folder(tmp_path, "exfat") as mounted:
        for _ in range(2):
            said = disk.run(*more, mounted / "out", code=3)
            assert content(mounted / "out") == {"README": b"capital", "A/one": b"1"}
            assert "5 not possible here: the destination takes names for one that are two" in said
            assert "/readme: not possible here: the destination takes its name for that of /README, which stays" in said
            assert "/a/b/two: not possible here" in said
        assert "0 restored (" in said
        disk.run(mounted / "alone", "/a/one")
        assert "/A/one: not possible" in disk.run(*more, mounted / "alone", "/A/one", code=3)
        assert content(mounted / "alone") == {"a/one": b"3"}


@folding
def test_restore_script_lists_what_the_destination_cannot_hold_and_goes_on(disk, tmp_path):
    disk.write("file", "content")
    os.link(disk.source / "file", disk.source / "linked")
    os.mkfifo(disk.source / "fifo")
    os.mknod(disk.source / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.symlink("file", disk.source / "link")
    disk.finish()
    with foreign_folder(tmp_path, "exfat") as mounted:
        for _ in range(2):
            said = disk.run(mounted / "out")
            kept = re.search("the destination could not keep: (.*)", said).group(1)
            assert {"device node (1)", "fifo (1)", "symbolic link (1)"} <= set(kept.split(", "))
            assert content(mounted / "out") == {"file": b"content", "linked": b"content"}


def test_restore_script_overwriting_compares_contents(disk, tmp_path):
    disk.write("file", "right")
    disk.finish()
    out = tmp_path / "out"
    disk.run(out)
    (out / "file").write_bytes(b"wrong")
    os.utime(out / "file", ns=(0, 1_700_000_000_000_000_000))
    assert "0 restored" in disk.run(out)
    assert "1 restored" in disk.run("--overwrite", out)
    assert content(out) == {"file": b"right"}
    os.utime(out / "file")
    assert "0 restored" in disk.run("--overwrite", out)
    assert os.stat(out / "file").st_mtime_ns == 1_700_000_000_000_000_000


@pytest.mark.needs("root")
def test_restore_script_gives_owners_by_name_and_by_number_where_that_is_wanted(disk, tmp_path):
    here = next(user for user in pwd.getpwall() if 0 < user.pw_uid < 60_000)
    path = disk.write("file", "x")
    os.setxattr(path, "system.posix_acl_access", acl(70_001))
    os.chown(path, 70_001, 70_002)
    other = disk.write("other", "y")
    os.chown(other, 70_003, 70_002)
    disk.finish()
    disk.change(
        f"INSERT INTO account VALUES (0, 70001, 100, '{here.pw_name}'), (0, 70001, 5, 'before')",
        "INSERT INTO account VALUES (0, 70003, 5, 'nobody-here')",
    )

    def owners(*words):
        out = tmp_path / f"out {len(os.listdir(tmp_path))}"
        said = disk.run(*words, out)
        (named,) = re.findall(
            r"\x02\x00\x07\x00(....)", os.getxattr(out / "file", "system.posix_acl_access").decode("latin-1")
        )
        listed = int.from_bytes(named.encode("latin-1"), "little")
        return [os.stat(out / name).st_uid for name in ("file", "other")], listed, said

    given, listed, said = owners()
    assert (given, listed) == ([here.pw_uid, 70_003], here.pw_uid)
    assert "owner names that this machine does not know: nobody-here; their numbers were kept" in said
    assert owners("--numeric-owner")[:2] == ([70_001, 70_003], 70_001)
    given, listed, said = owners("--at", "1970-01-01")
    assert (given, listed) in (([70_001, 70_003], 70_001), ([here.pw_uid, 70_003], here.pw_uid))  # by the time zone


@pytest.mark.needs("root", "chattr")
def test_restore_script_gives_flags_of_chattr_last_and_runs_again(disk, tmp_path, request):
    out = tmp_path / "out"
    request.addfinalizer(lambda: subprocess.run(["chattr", "-R", "-i", "-a", out], capture_output=True, check=False))
    for name in ("folder/one", "folder/two", "plain"):
        disk.write(name, name)
    os.link(disk.source / "folder/one", disk.source / "folder/too")
    disk.finish()
    flags = int(InodeFlag.IMMUTABLE | InodeFlag.NO_DUMP) << INODE_FLAGS_SHIFT
    append_only = int(InodeFlag.APPEND_ONLY) << INODE_FLAGS_SHIFT
    disk.change(
        f"UPDATE file SET flags = flags | {flags} WHERE CAST(name AS TEXT) IN ('folder', 'one', 'too')",
        f"UPDATE file SET flags = flags | {append_only} WHERE CAST(name AS TEXT) = 'two'",
    )

    def flags_of(name):
        with opened(os.open(os.path.dirname(out / name), os.O_PATH), os.fsencode(os.path.basename(name))) as descriptor:
            return read_flags(descriptor)

    for turn in range(3):
        said = disk.run(out)
        assert "flag of chattr" not in said
        assert flags_of("folder") == flags_of("folder/one") == InodeFlag.IMMUTABLE | InodeFlag.NO_DUMP
        assert (flags_of("folder/two"), flags_of("plain")) == (InodeFlag.APPEND_ONLY, InodeFlag.NONE)
        assert os.path.samefile(out / "folder/one", out / "folder/too")
        if turn == 1:
            subprocess.run(["chattr", "-i", out / "folder"], check=True)
            subprocess.run(["chattr", "-i", out / "folder/too"], check=True)
            os.unlink(out / "folder/too")
            subprocess.run(["chattr", "+i", out / "folder/one"], check=True)
