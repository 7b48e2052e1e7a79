"""A disk of which one thing is damaged: restore, verify and backup go on with all the rest, and none of them hangs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.loop_disks import LoopDisk, loop_disk, mounted_at, run
from tests.bed.programs import Dsb

FILES = 40
BAD = b"content of 7"
NAME = hashlib.sha256(BAD).hexdigest()

pytestmark = pytest.mark.needs("ext4", "tune2fs")


@pytest.fixture
def dsb(tmp_path: Path) -> Dsb:
    """A catalogue with forty files."""
    dsb = Dsb(tmp_path / "catalogue")
    (tmp_path / "source").mkdir()
    for number in range(FILES):
        (tmp_path / "source" / f"{number}").write_text(f"content of {number}")
    dsb.ok("source", "map", "/", tmp_path / "source")
    dsb.ok("update")
    return dsb


@contextmanager
def backed_up(dsb: Dsb, folder: Path, name: str) -> Iterator[LoopDisk]:
    """A disk that holds them all, plugged in and not mounted."""
    with loop_disk(folder, megabytes=160) as disk:
        with mounted_at(disk.device, folder / name) as root:
            dsb.ok("disk", "add", name, root)
            dsb.ok("backup", name)
        yield disk


def path_on(root: Path) -> Path:
    return root / "distbackup-objects" / NAME[:3] / NAME


def fifo_in_its_place(root: Path) -> None:
    path_on(root).unlink()
    os.mkfifo(path_on(root))


def folder_in_its_place(root: Path) -> None:
    path_on(root).unlink()
    (path_on(root) / "what is this").mkdir(parents=True)


def file_in_its_folders_place(root: Path) -> None:
    path_on(root).unlink()
    path_on(root).parent.rmdir()
    path_on(root).parent.write_text("x")


def fifo_in_its_folders_place(root: Path) -> None:
    file_in_its_folders_place(root)
    path_on(root).parent.unlink()
    os.mkfifo(path_on(root).parent)


IN_PLACE = [fifo_in_its_place, folder_in_its_place, file_in_its_folders_place, fifo_in_its_folders_place]
OBJECT, FOLDER = f"/distbackup-objects/{NAME[:3]}/{NAME}", f"/distbackup-objects/{NAME[:3]}"
ON_THE_MEDIUM = [f"clri {OBJECT}", f"clri {FOLDER}", f"set_inode_field {FOLDER} block[0] 0xfffffff0"]


@pytest.fixture(params=[*IN_PLACE, *ON_THE_MEDIUM], ids=lambda damage: getattr(damage, "__name__", str(damage)[:12]))
def damage(request: pytest.FixtureRequest) -> Callable[[LoopDisk, Path], None]:
    """Damage to the place of one object on a disk that is not mounted."""
    what = request.param

    def do(disk: LoopDisk, place: Path) -> None:
        if isinstance(what, str):
            run("debugfs", "-w", "-R", what, disk.device)
        else:
            with mounted_at(disk.device, place) as root:
                what(root)

    return do


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_restore_brings_all_the_rest_names_the_bad_one_and_takes_it_from_another_disk(
    dsb: Dsb, tmp_path: Path, damage: Callable[[LoopDisk, Path], None]
) -> None:
    everything = contents(tmp_path / "source")
    with backed_up(dsb, tmp_path, "one") as one, backed_up(dsb, tmp_path, "two") as two:
        damage(one, tmp_path / "one")
        two.unplug()
        with mounted_at(one.device, tmp_path / "one") as root:
            done = dsb("restore", "--no-wait", "--to", tmp_path / "restored")
            assert done.status == 7
            assert f"one: bad copy of {NAME[:16]} (/7): " in done.err
            assert contents(tmp_path / "restored").items() == everything.items() - {("7", BAD.decode())}
            script = subprocess.run(
                [sys.executable, root / "distbackup-restore.py", tmp_path / "by script"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert script.returncode == 3, script.stderr
            assert contents(tmp_path / "by script").items() == everything.items() - {("7", BAD.decode())}
            two.plug()
            with mounted_at(two.device, tmp_path / "two"):
                for name in ("restored", "at once"):
                    told = dsb("restore", "--no-wait", "--to", tmp_path / name)
                    assert told.status in (0, 7), "7: on its way it met the bad one"
        for name in ("restored", "at once"):
            assert contents(tmp_path / name) == everything


def test_verify_strikes_the_one_and_backup_goes_on(
    dsb: Dsb, tmp_path: Path, damage: Callable[[LoopDisk, Path], None]
) -> None:
    with backed_up(dsb, tmp_path, "one") as one:
        damage(one, tmp_path / "one")
        with mounted_at(one.device, tmp_path / "one"):
            done = dsb("--json", "verify", "one")
            assert done.status == 7
            assert '"complete": true' in done.out
            assert done.out.count('"hash"') == 1
            assert "stopped" not in done.out + done.err
            (tmp_path / "source" / "new").write_text("a new file")
            told = dsb("backup", "-u", "one")
            assert told.status == 0
            assert "copied" in told.out
            assert dsb.json("verify", "one")["bad"] == []
        if "its file system is damaged" in told.out + told.err + done.err:
            # What cannot be kept there has no copy, and that is said; fsck and the next session put it right.
            assert subprocess.run(["fsck.ext4", "-y", one.device], capture_output=True, check=False).returncode in (0, 1)
            with mounted_at(one.device, tmp_path / "one"):
                dsb.ok("backup", "one")
        with mounted_at(one.device, tmp_path / "one") as root:
            assert dsb.json("verify", "one")["objects"] == FILES + 1
            assert path_on(root).read_bytes() == BAD


def test_a_session_finds_it_and_copies_it_again(dsb: Dsb, tmp_path: Path, damage: Callable[[LoopDisk, Path], None]) -> None:
    with backed_up(dsb, tmp_path, "one") as one:
        damage(one, tmp_path / "one")
        with mounted_at(one.device, tmp_path / "one"):
            done = dsb("backup", "one")
            assert done.status == 0, done
            assert "stopped" not in done.out + done.err
            # Told where the listing at the session's beginning shows it; else where the copy is read.
            assert not done.err or "1 object that should lie on it is gone, 1 of them with no other copy" in done.err
