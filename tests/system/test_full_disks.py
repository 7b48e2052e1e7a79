"""Disks that fill up over several sessions: on each kind of file system every session ends well and says why."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from distbackupd.catalogue.encoding import encode_xattrs, hash_xattrs
from tests.bed.loop_disks import foreign_disk, loop_disk, mounted_at, run
from tests.bed.programs import Dsb

pytestmark = pytest.mark.needs("root", "loop", "ext4")

WITHOUT_RESERVE = ["setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"]
"""As the daemon runs: root, but not among those who may fill the blocks that ext4 reserves."""


@contextmanager
def ext4(place: Path, *options: str, megabytes: int = 32) -> Iterator[Path]:
    """A mounted ext4, made as somebody else would."""
    with loop_disk(place, megabytes=megabytes) as disk:
        run("mkfs.ext4", "-q", "-F", *options, disk.device)
        with mounted_at(disk.device, place / "disk") as root:
            yield root


@contextmanager
def kind_of_disk(place: Path, kind: str) -> Iterator[Path]:
    """A small mounted disk of the kind, as its own mkfs makes it."""
    with ExitStack() as stack:
        if kind in ("exfat", "ntfs"):
            device = stack.enter_context(foreign_disk(place, kind, megabytes=32)).device
            options = ("-t", {"exfat": "exfat-fuse", "ntfs": "ntfs-3g"}[kind])
        else:
            device, options = stack.enter_context(loop_disk(place, kind)).device, ()
        yield stack.enter_context(mounted_at(device, place / "disk", *options))


def write_random(folder: Path, name: str, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(os.urandom(size))


def fill(path: Path) -> None:
    """Write until there is no room at all, not even for root."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def enrolled(place: Path, root: Path) -> Dsb:
    dsb = Dsb(place / "catalogue", keep_deleted="0", verify_share="0%")
    (place / "source").mkdir()
    dsb.ok("source", "map", "/", place / "source")
    dsb("disk", "add", "one", root)
    return dsb


def session(dsb: Dsb, prefix: tuple[str, ...] = ()) -> str:
    """A session that must end well; what it said."""
    process = dsb.start("backup", "-u", "one", prefix=prefix)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (out, err)
    assert "is full" not in out + err, "it ran into the end of the disk by its own doing"
    assert "no room for the catalogue's copy" not in out + err
    return str(out + err)


def unplaced(said: str) -> int:
    found = re.search(r"no room here for ([\d,]+) objects?", said)
    return int(found[1].replace(",", "")) if found else 0


def objects_on(root: Path) -> int:
    return sum(1 for _ in (root / "distbackup-objects").glob("*/*"))


def free_figure(dsb: Dsb) -> int:
    (disk,) = dsb.json("info")["disks"]
    free: int = disk["free"]
    return free


@pytest.mark.parametrize("prefix", [(), tuple(WITHOUT_RESERVE)], ids=["root", "daemon"])
def test_default_ext4_is_filled_up_to_what_is_reserved_and_each_session_ends_well(
    tmp_path: Path, prefix: tuple[str, ...]
) -> None:
    with ext4(tmp_path) as root:
        dsb = enrolled(tmp_path, root)
        state = os.statvfs(root)
        (disk,) = dsb.json("disk", "list")
        assert disk["size"] < state.f_bavail * state.f_frsize
        for number in range(4):
            for part in range(10):
                write_random(tmp_path / "source" / str(number), str(part), 1 << 20)
            said = session(dsb, prefix)
        assert unplaced(said) >= 8
        state = os.statvfs(root)
        free = state.f_bavail * state.f_frsize
        assert 0 < free < 6 << 20
        assert free_figure(dsb) <= free
        assert "bring one" not in dsb.ok("status")
        assert "no disk has room for the" in dsb.ok("status")
        assert session(dsb, prefix).count("copied") == 1  # nothing copied


@pytest.mark.parametrize("options", [("-N", "600"), ("-T", "largefile4")], ids=" ".join)
def test_few_inodes_hold_what_they_can_and_are_named_as_the_reason(tmp_path: Path, options: tuple[str, ...]) -> None:
    with ext4(tmp_path, "-m", "0", *options, megabytes=200) as root:
        dsb = enrolled(tmp_path, root)
        for number in range(900):
            write_random(tmp_path / "source", str(number), 100)
        told = [session(dsb) for _ in range(3)]
        held = objects_on(root)
        assert unplaced(told[-1]) == 900 - held > 0
        assert all("no inodes left for" in said for said in told)
        assert 0 < os.statvfs(root).f_favail < 60
        assert dsb.json("info")["copies"]["1"]["objects"] == held
        assert "bring one" not in dsb.ok("status")
        # What comes must make room of inodes too: nothing is held that no file needs.
        for number in range(900):
            (tmp_path / "source" / str(number)).unlink()
        for number in range(held // 2):
            write_random(tmp_path / "source", f"new {number}", 100)
        dsb("update")
        dsb.ok("brake", "release")
        session(dsb)
        said = session(dsb)
        assert "no inodes left" not in said
        assert objects_on(root) == held // 2


def test_a_disk_formatted_anew_with_few_inodes_comes_under_its_old_name(tmp_path: Path) -> None:
    with loop_disk(tmp_path, megabytes=64) as disk:
        with mounted_at(disk.device, tmp_path / "disk") as root:
            dsb = enrolled(tmp_path, root)
            for number in range(400):
                write_random(tmp_path / "source", str(number), 10)
            assert "no inodes left" not in session(dsb)
        run("mkfs.ext4", "-q", "-F", "-N", "300", disk.device)
        with mounted_at(disk.device, tmp_path / "disk") as root:
            dsb.ok("disk", "drop", "one")
            dsb.ok("disk", "del", "one")
            dsb("disk", "add", "one", root)
            assert "no inodes left for" in session(dsb)
            assert 0 < objects_on(root) < 300


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("xfs", marks=pytest.mark.needs("xfs")),
        pytest.param("btrfs", marks=pytest.mark.needs("btrfs")),
        pytest.param("exfat", marks=pytest.mark.needs("mkfs.exfat", "mount.exfat-fuse")),
        pytest.param("ntfs", marks=pytest.mark.needs("mkfs.ntfs", "ntfs-3g")),
    ],
)
def test_a_disk_of_any_kind_fills_up_and_each_session_ends_well(tmp_path: Path, kind: str) -> None:
    with kind_of_disk(tmp_path, kind) as root:
        dsb = enrolled(tmp_path, root)
        state = os.statvfs(root)
        room = state.f_bavail * state.f_frsize
        for number in range(3):
            for part in range(400):
                write_random(tmp_path / "source" / str(number), f"small {part}", 3000)
            for part in range(8):
                write_random(tmp_path / "source" / str(number), f"large {part}", room // 18)
            said = session(dsb)
        assert unplaced(said) > 0
        state = os.statvfs(root)
        assert state.f_bavail * state.f_frsize < room // 3
        said = session(dsb)
        assert unplaced(said) > 0
        assert "bring one" not in dsb.ok("status")


def test_other_files_on_the_disk_take_room_and_give_it_back(tmp_path: Path) -> None:
    with ext4(tmp_path) as root:
        dsb = enrolled(tmp_path, root)
        for part in range(20):
            write_random(tmp_path / "source", str(part), 1 << 20)
        other = root / "holiday.mov"
        other.write_bytes(bytes(18 << 20))
        few = session(dsb)
        assert unplaced(few) > 5
        assert "less room for copies than its size says: remove what else lies on it" in few
        other.unlink()
        assert unplaced(session(dsb)) == 0
        assert objects_on(root) == 20
        fill(other)
        write_random(tmp_path / "source", "one more", 1 << 20)
        said = dsb("backup", "-u", "one")
        assert said.status == 0, said
        assert "no room here for 1 object" in said.out + said.err
        assert objects_on(root) == 20


def test_the_catalogue_that_grows_finds_room_on_a_full_disk(tmp_path: Path) -> None:
    with ext4(tmp_path, megabytes=16) as root:
        dsb = enrolled(tmp_path, root)
        for part in range(45):
            write_random(tmp_path / "source", str(part), 400_000)
        assert unplaced(session(dsb)) > 0
        for number in range(6000):
            (tmp_path / "source" / f"empty file with a long name to be recorded {number:06}").touch()
        before = (root / "distbackup.sqlite").stat().st_size
        held = objects_on(root)
        session(dsb)
        assert (root / "distbackup.sqlite").stat().st_size > before + 500_000
        assert not (root / "distbackup.sqlite.new").exists()
        assert not list((tmp_path / "catalogue").glob("*.spare"))
        checked = subprocess.run(
            ["sqlite3", root / "distbackup.sqlite", "PRAGMA integrity_check"], capture_output=True, text=True, check=False
        )
        assert checked.stdout.strip() in ("ok", "")
        assert objects_on(root) == held


@pytest.mark.parametrize("kind", [pytest.param("btrfs", marks=pytest.mark.needs("btrfs")), "ext4"])
def test_a_catalogue_that_has_no_room_beside_its_copy_takes_its_place(tmp_path: Path, kind: str) -> None:
    # btrfs gives the room of what was removed back only when that is flushed.
    with ExitStack() as stack:
        disk = stack.enter_context(loop_disk(tmp_path, kind, megabytes=110 if kind == "btrfs" else 64))
        root = stack.enter_context(mounted_at(disk.device, tmp_path / "disk"))
        dsb = enrolled(tmp_path, root)
        write_random(tmp_path / "source", "file", 1000)
        session(dsb)
        state = os.statvfs(root)
        room = state.f_bavail * state.f_frsize
        for share in (0.4, 0.7):
            let_grow(dsb.catalogue, int(room * share))
            write_random(tmp_path / "source", f"file {share}", 1000)
            session(dsb)
            assert sessions_known(root / "distbackup.sqlite") == sessions_known(dsb.catalogue)
        let_grow(dsb.catalogue, int(room * 1.2))
        write_random(tmp_path / "source", "one more", 1000)
        before = sessions_known(root / "distbackup.sqlite")
        done = dsb("backup", "-u", "one")
        assert done.status == 0, done
        assert "no room for the catalogue's copy" in done.out + done.err
        assert "it was left as it was" in done.out + done.err
        assert sessions_known(root / "distbackup.sqlite") == before
        assert not list(root.glob("*.new"))


def let_grow(catalogue: Path, size: int) -> None:
    """Until it has about so many bytes: by extended attributes of no file, which nobody asks for."""
    with contextlib.closing(sqlite3.connect(catalogue)) as connection, connection:
        (pages,), (each,) = (connection.execute(f"PRAGMA page_{what}").fetchone() for what in ("count", "size"))
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM attributes").fetchone()
        for number in range((size - pages * each) // 60_000 + 1):
            xattrs = encode_xattrs(((b"user.large", os.urandom(60_000)),))
            row = (last + 1 + number, xattrs, hash_xattrs(xattrs))
            connection.execute("INSERT INTO attributes VALUES (?, 0, 0, 0, 0, ?, ?)", row)


def sessions_known(catalogue: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{catalogue}?mode=ro", uri=True)) as connection:
        known: int = connection.execute("SELECT max(id) FROM session").fetchone()[0]
        return known
