"""Restoring as root into what others may write: what an unprivileged user does there gains him nothing.

The attackers are real processes without any privilege, started with ``setpriv``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bed.programs import NOBODY, Dsb
from tests.trees import acl, write_file

pytestmark = pytest.mark.needs("root")

MOMENT = 1_600_000_000_000_000_000
OTHER = 54_321
PLANTED = b"#!/bin/sh\nid # planter\n"
PROGRAM = b"#!/bin/sh\nid # genuine\n"
SECRET = b"root's secret of just this size!"


class Backup:
    """A tree of root's, on a disk that is a folder, and where it is restored to."""

    def __init__(self, place: Path) -> None:
        self.source, self.disk, self.out = place / "source", place / "disk", place / "out"
        self.dsb = Dsb(place / "catalogue")
        for folder in (self.source, self.disk):
            folder.mkdir()
        place.chmod(0o711)

    def write(self, name: str, content: bytes, mode: int, owner: int = 0) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
        os.chown(path, owner, owner)
        path.chmod(mode)
        os.utime(path, ns=(0, MOMENT))
        return path

    def back_up(self) -> None:
        self.dsb.ok("source", "map", "/", self.source)
        self.dsb.ok("disk", "add", "--folder", "shelf-01", self.disk)
        self.dsb.ok("backup", "-u", "shelf-01")

    def restore(self, way: str, *words: str | Path) -> str:
        """With the program or with the script on the disk; what was said."""
        if way == "dsb":
            done = self.dsb("restore", *words, "--to", self.out)
            return done.out + done.err
        script = [sys.executable, self.disk / "distbackup-restore.py", *words, self.out]
        told = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)
        assert "Traceback" not in told.stderr, told
        return told.stdout + told.stderr


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that everybody may pass through."""
    place = Path("/tmp") / f"distbackup-test-{os.getpid()}-{time.monotonic_ns()}"
    place.mkdir(mode=0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def backup(place: Path) -> Backup:
    return Backup(place)


def as_user(*command: str | Path, user: int = NOBODY) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *map(str, command)]


@contextlib.contextmanager
def attacking(script: str, *words: Path, user: int = NOBODY) -> Iterator[None]:
    """An attacker's program, from when it says that it is at work until the end."""
    command = as_user("/usr/bin/python3", "-c", script, *words, user=user)
    attacker = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == b"ready\n"
        yield
        assert attacker.poll() is None
    finally:
        attacker.kill()
        attacker.wait()


def plant(path: Path, content: bytes, user: int = NOBODY) -> None:
    write_file(path, content)
    os.chown(path, user, user)
    os.utime(path, ns=(0, MOMENT))


def both(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("way", ["dsb", "script"])(test)


@both
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_planted_file_of_right_size_and_time_becomes_nobodys_program(backup: Backup, way: str, overwrite: list[str]) -> None:
    backup.write("program", PROGRAM, 0o4755)
    backup.write("capable", PROGRAM, 0o755)
    os.setxattr(backup.source / "capable", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.utime(backup.source / "capable", ns=(0, MOMENT))
    backup.back_up()
    backup.out.mkdir(mode=0o777)
    backup.out.chmod(0o777)
    for name in ("program", "capable"):
        plant(backup.out / name, PLANTED)
    held = os.open(backup.out / "program", os.O_WRONLY)  # as the planter keeps it open
    backup.restore(way, *overwrite)
    for name, mode in (("program", 0o4755), ("capable", 0o755)):
        state = (backup.out / name).stat()
        assert (stat.S_IMODE(state.st_mode), state.st_uid) == (mode, 0)
        assert (backup.out / name).read_bytes() == PROGRAM
    assert os.getxattr(backup.out / "capable", "security.capability")
    os.pwrite(held, PLANTED, 0)
    os.close(held)
    assert (backup.out / "program").read_bytes() == PROGRAM


@both
def test_planted_file_with_the_right_content_is_replaced_without_being_written_to(backup: Backup, way: str) -> None:
    backup.write("program", PROGRAM, 0o4755)
    backup.back_up()
    backup.out.mkdir()
    backup.out.chmod(0o777)
    plant(backup.out / "program", PROGRAM)
    held = os.open(backup.out / "program", os.O_WRONLY)
    said = backup.restore(way)
    assert stat.S_IMODE((backup.out / "program").stat().st_mode) == 0o4755, said
    assert not os.path.samestat(os.fstat(held), (backup.out / "program").stat())
    assert stat.S_IMODE(os.fstat(held).st_mode) & 0o7000 == 0
    os.close(held)


@both
def test_file_of_somebody_else_that_was_renamed_into_place_keeps_its_owner(backup: Backup, way: str) -> None:
    """As when names are exchanged between looking and doing, and the exchange was just won."""
    backup.write("mine", b"m" * len(SECRET), 0o644, NOBODY)
    backup.back_up()
    backup.out.mkdir()
    backup.out.chmod(0o777)
    plant(backup.out / "mine", SECRET, 0)
    (backup.out / "mine").chmod(0o600)
    secret = os.open(backup.out / "mine", os.O_RDONLY)
    backup.restore(way)
    state = os.fstat(secret)
    assert (state.st_uid, stat.S_IMODE(state.st_mode)) == (0, 0o600)
    os.close(secret)


EXCHANGING = """
import ctypes, os, sys
mine, secret = (os.fsencode(word) for word in sys.argv[1:])
exchange = ctypes.CDLL(None).renameat2
print("ready", flush=True)
while True:
    exchange(-100, mine, -100, secret, 2)
    try:
        with open(mine, "rb") as file:
            found = file.read()
    except OSError:
        continue
    if found.startswith(b"root"):
        os.write(1, b"won: " + found)
        os._exit(0)
"""


@both
def test_exchanging_names_for_seconds_never_gives_roots_secret(backup: Backup, way: str) -> None:
    backup.write("mine", b"m" * len(SECRET), 0o644, NOBODY)
    backup.back_up()
    backup.out.mkdir()
    backup.out.chmod(0o777)
    secret = backup.out / "secret"
    for name, owner, mode in (("mine", NOBODY, 0o600), ("secret", 0, 0o600)):
        plant(backup.out / name, SECRET if owner == 0 else b"m" * len(SECRET), owner)
        (backup.out / name).chmod(mode)
    kept = os.open(secret, os.O_RDONLY)
    with attacking(EXCHANGING, backup.out / "mine", secret):
        until = time.monotonic() + 4
        while time.monotonic() < until:
            backup.restore(way)
            state = os.fstat(kept)
            assert (state.st_uid, stat.S_IMODE(state.st_mode)) == (0, 0o600)
    os.close(kept)


@both
def test_folder_that_was_renamed_into_place_is_opened_to_nobody(backup: Backup, way: str) -> None:
    """Root's private folder under the name of a folder that is somebody's, or everybody's."""
    backup.write("home/note", b"note", 0o644, NOBODY)
    backup.write("public/note", b"note", 0o644)
    os.chown(backup.source / "home", NOBODY, NOBODY)
    backup.back_up()
    backup.out.mkdir()
    backup.out.chmod(0o777)
    for name in ("home", "public"):
        (backup.out / name).mkdir(mode=0o700)
        write_file(backup.out / name / "secret", SECRET)
    backup.restore(way)
    for name in ("home", "public"):
        state = (backup.out / name).stat()
        assert (state.st_uid, stat.S_IMODE(state.st_mode)) == (0, 0o700)


@both
def test_folder_that_somebody_planted_gets_nothing_that_he_may_not_read(backup: Backup, way: str) -> None:
    backup.write("private/deep/readable in there", SECRET, 0o644)
    (backup.source / "private").chmod(0o700)
    backup.back_up()
    backup.out.mkdir()
    backup.out.chmod(0o777)
    (backup.out / "private/deep").mkdir(parents=True)
    for path in (backup.out / "private/deep", backup.out / "private"):
        os.chown(path, NOBODY, NOBODY)
    said = backup.restore(way)
    read = subprocess.run(as_user("grep", "-r", "secret", backup.out), capture_output=True, check=False)
    assert read.stdout == b"", said
    assert "somebody else" in said


@both
@pytest.mark.parametrize("sparse", [False, True])
def test_nothing_is_readable_to_more_people_than_in_the_end(backup: Backup, way: str, sparse: bool) -> None:
    """A default ACL of the destination would let its user in; what is restored is private, or for a group only."""
    for number in range(60):
        path = backup.write(f"folder {number:02}/private", SECRET * 40, 0o640, OTHER)
        path.parent.chmod(0o750)
        if sparse:
            path.chmod(0o604)
    backup.back_up()
    backup.out.mkdir(mode=0o755)
    os.setxattr(backup.out, "system.posix_acl_default", acl(NOBODY, 7, 7 if not sparse else 0))
    prying = """
import os, sys
root = sys.argv[1]
print("ready", flush=True)
while True:
    for base, folders, files in os.walk(root):
        for name in files:
            try:
                with open(os.path.join(base, name), "rb") as file:
                    if file.read(4) == b"root":
                        os._exit(0)
            except OSError:
                pass
"""
    with attacking(prying, backup.out):
        for _ in range(5):
            backup.restore(way)
            for left in backup.out.iterdir():
                shutil.rmtree(left)


@both
@pytest.mark.needs("loop", "btrfs")
def test_mask_of_an_acl_that_cannot_be_kept_is_no_mode_of_the_group(backup: Backup, way: str, place: Path) -> None:
    path = backup.write("listed", SECRET, 0o600, OTHER)
    os.setxattr(path, "system.posix_acl_access", acl(NOBODY))  # the group may read and execute, the mask says rwx
    folder = backup.source / "folder"
    folder.mkdir()
    os.setxattr(folder, "system.posix_acl_access", acl(NOBODY))
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) == 0o770
    backup.back_up()
    backup.out.mkdir()
    image = place / "image"
    with image.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop,noacl", image, backup.out], check=True)
    try:
        with pytest.raises(OSError, match="not supported"):
            os.setxattr(backup.out, "system.posix_acl_access", acl(NOBODY))
        for _ in range(2):
            said = backup.restore(way)
            for name in ("listed", "folder"):
                assert stat.S_IMODE((backup.out / name).stat().st_mode) == 0o750, said
            assert "ACL" in said
    finally:
        subprocess.run(["umount", backup.out], check=True)


@both
def test_interrupted_restore_goes_on_where_others_may_write(backup: Backup, way: str) -> None:
    """Folders that root had made and not finished are told from what others put there."""
    backup.write("home/inner/note", b"note", 0o644, NOBODY)
    for name in ("home/inner", "home"):
        os.chown(backup.source / name, NOBODY, NOBODY)
    backup.back_up()
    backup.out.mkdir()
    backup.out.chmod(0o777)
    kill = """
import os, sys, runpy
def killed(*words, **more):
    os._exit(9)
os.utime = killed
sys.argv = sys.argv[1:]
if sys.argv[0] == "dsb":
    from distbackupd.cli.main import main
    sys.exit(main())
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    words = ["dsb", *backup.dsb.words("restore", "--to", backup.out)]
    if way == "script":
        words = [str(backup.disk / "distbackup-restore.py"), str(backup.out)]
    done = subprocess.run([sys.executable, "-c", kill, *words], capture_output=True, check=False, timeout=60)
    assert done.returncode == 9, done
    assert (backup.out / "home").stat().st_uid == 0
    said = backup.restore(way)
    for name in ("home", "home/inner", "home/inner/note"):
        assert (backup.out / name).stat().st_uid == NOBODY, said
    assert os.listxattr(backup.out / "home") == []
    assert backup.restore(way) != ""
    assert (backup.out / "home/inner/note").read_bytes() == b"note"


def test_link_at_the_marks_name_and_file_of_roots_there_stay_as_they_are(backup: Backup) -> None:
    backup.write("file", b"file", 0o644)
    backup.back_up()
    backup.out.mkdir()
    backup.out.chmod(0o777)
    write_file(backup.out / ".dbtmp~restore", SECRET)
    kept = os.open(backup.out / ".dbtmp~restore", os.O_RDONLY)
    backup.restore("dsb")
    assert os.pread(kept, 100, 0) == SECRET
    os.close(kept)
    assert os.listdir(backup.out) == ["file"]


@both
def test_destination_that_others_may_write_is_told_before_it_begins(backup: Backup, way: str) -> None:
    backup.write("file", b"file", 0o644)
    backup.back_up()
    backup.out.mkdir()
    assert "may write" not in backup.restore(way)
    backup.out.chmod(0o777)
    said = backup.restore(way)
    assert f"everybody may write in {backup.out}, so " in said
    backup.out.chmod(0o755)
    os.chown(backup.out, NOBODY, NOBODY)
    assert f"the user 'nobody' may write in {backup.out}, so " in backup.restore(way)
    os.chown(backup.out, 0, 0)
    backup.out.parent.chmod(0o777)
    assert f"everybody may write in {backup.out.parent}, so " in backup.restore(way)
    backup.out.parent.chmod(0o1777)
    assert "may write" not in backup.restore(way)


@both
def test_dollars_and_tildes_in_names_are_names(backup: Backup, way: str) -> None:
    for name in ("$HOME", "${PATH}", "~", "~root", "%h", "`id`", "$(id)"):
        backup.write(name, name.encode(), 0o644)
    backup.back_up()
    backup.out = backup.out / "$HOME" / "~root"
    backup.restore(way)
    assert sorted(os.listdir(backup.out)) == sorted(os.listdir(backup.source))
    assert all((backup.out / name).read_bytes() == name.encode() for name in os.listdir(backup.out))
