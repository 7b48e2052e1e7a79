"""Disks that are full, read-only, foreign, cloned, without their JSON file, or damaged; words that cannot be meant."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.loop_disks import LoopDisk, loop_disk, make_image, mounted_at, plugged, run
from tests.bed.programs import NOBODY, Dsb

MEGABYTES = 80


@pytest.fixture
def dsb(tmp_path: Path) -> Dsb:
    """A catalogue with five files of 300 kB."""
    dsb = Dsb(tmp_path / "catalogue")
    (tmp_path / "source").mkdir()
    for number in range(5):
        (tmp_path / "source" / f"{number}").write_bytes(os.urandom(300_000))
    dsb.ok("source", "map", "/", tmp_path / "source")
    dsb.ok("update")
    return dsb


@pytest.fixture
def disk(dsb: Dsb, tmp_path: Path) -> Iterator[LoopDisk]:
    """The disk ``one``, added, plugged in and not mounted."""
    with loop_disk(tmp_path, megabytes=MEGABYTES) as disk:
        run("tune2fs", "-m", "0", disk.device)
        with mounted_at(disk.device, tmp_path / "disk") as root:
            dsb.ok("disk", "add", "one", root)
        yield disk


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def catalogue_state(dsb: Dsb) -> tuple[str, str, str]:
    return dsb.ok("ls"), dsb.ok("info"), dsb.ok("--json", "disk", "list").replace('"/dev/', "")


needs_disks = pytest.mark.needs("ext4", "tune2fs")


@needs_disks
def test_a_full_disk_says_what_found_no_room(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    with mounted_at(disk.device, tmp_path / "disk") as root:
        free = os.statvfs(root).f_bavail * os.statvfs(root).f_frsize
        os.posix_fallocate(descriptor := os.open(root / "junk", os.O_CREAT | os.O_WRONLY), 0, free - (1 << 20))
        os.close(descriptor)
        told = dsb.ok("backup", "one")
        assert "nothing copied" in told
        assert "no room here for 5 objects (1.50 MB)" in told
        assert "less room for copies than its size says: remove what else lies on it, or lower its size" in told
        (root / "junk").unlink()
        assert "copied 5 objects" in dsb.ok("backup", "one")


@needs_disks
def test_a_disk_that_turns_out_to_be_full_ends_its_session_well_and_loses_nothing(
    dsb: Dsb, disk: LoopDisk, tmp_path: Path
) -> None:
    with mounted_at(disk.device, tmp_path / "disk") as root:
        dsb.ok("backup", "one", "--limit", "300k")
        kept = files(root)
        (tmp_path / "source" / "more").write_bytes(os.urandom(400_000))
        dsb.ok("update")
        with (root / "junk").open("wb") as junk:
            fill(junk.fileno())
        done = dsb("backup", "one")
        assert done.status == 0
        assert "no room here for 5 objects" in done.out
        assert "one: there is no room for the catalogue's copy" in done.out
        assert {name: content for name, content in files(root).items() if name != "junk"} == kept
        (root / "junk").unlink()
        assert "copied 5 objects" in dsb.ok("backup", "one")
        assert dsb.json("verify", "one")["bad"] == []


def fill(descriptor: int) -> None:
    """Write until nothing more fits, not even one byte."""
    for size in (1 << 20, 4096, 1):
        try:
            while os.write(descriptor, bytes(size)):
                pass
        except OSError:
            os.fsync(descriptor)


@needs_disks
def test_a_disk_that_is_mounted_read_only_is_not_changed(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    with mounted_at(disk.device, tmp_path / "disk"):
        dsb.ok("backup", "one", "--limit", "600k")
    with mounted_at(disk.device, tmp_path / "disk", "-o", "ro") as root:
        before, kept = catalogue_state(dsb), files(root)
        read_only = f"the disk at {root} is read-only; nothing was changed on it: look for its write-protect switch"
        assert read_only in dsb.refused(4, "backup", "one")
        assert read_only in dsb.refused(4, "disk", "refresh", "one")
        assert read_only in dsb.refused(4, "disk", "rename", "one", "two")
        assert "'dsb verify --check one' to only report them" in dsb.refused(4, "verify", "one")
        assert "No bad files." in dsb.ok("verify", "--check", "one")
        dsb.ok("restore", "one", tmp_path / "restored")
        assert (catalogue_state(dsb), files(root)) == (before, kept)


@needs_disks
def test_a_write_protected_disk_is_not_changed(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    dsb.ok("backup", "one")
    disk.unplug()
    before, image = catalogue_state(dsb), disk.image.read_bytes()
    disk.plug(read_only=True)
    assert dsb.refused(4, "backup", "one").startswith("one can only be read, nothing was changed on it: it has a write-")
    assert dsb.refused(4, "verify", "one").startswith("one can only be read")
    dsb.ok("restore", "one", tmp_path / "restored")
    assert sorted(path.name for path in (tmp_path / "restored").iterdir()) == ["0", "1", "2", "3", "4"]
    assert (catalogue_state(dsb), disk.image.read_bytes()) == (before, image)


@needs_disks
def test_a_disk_that_is_not_here(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    disk.unplug()
    for words in (("backup", "one"), ("verify", "one"), ("restore", "one", tmp_path / "r"), ("disk", "refresh", "one")):
        assert dsb.refused(4, *words) == f"'one' is not here: plug it in, or mount it where it was ({tmp_path}/disk)"


@needs_disks
def test_another_disk_in_its_place_is_not_touched(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    with mounted_at(disk.device, tmp_path / "disk") as root:
        own = (root / "distbackup-disk.json").read_text()
        other = json.dumps({"uuid": "00000000-1111-4222-8333-444444444444", "name": "theirs"})
        (root / "distbackup-disk.json").write_text(other)
        before, kept = catalogue_state(dsb), files(root)
        told = dsb.refused(4, "backup", "one")
        assert f"the disk at {root} is 'theirs' (00000000-1111-4222-8333-444444444444), not 'one' (" in told
        assert told.endswith("nothing on it was touched")
        told = dsb.refused(4, "backup", root)
        assert "('theirs') belongs to another catalogue; nothing on it was touched: 'dsb disk add NAME PATH'" in told
        assert (catalogue_state(dsb), files(root)) == (before, kept)
        (root / "distbackup-disk.json").write_text(own)
        dsb.ok("backup", "one")


@needs_disks
@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"name": "one"}', '{"uuid": 5}', "\x00" * 70_000])
def test_a_disk_whose_json_file_is_missing_or_damaged(dsb: Dsb, disk: LoopDisk, tmp_path: Path, content: str | None) -> None:
    with mounted_at(disk.device, tmp_path / "disk") as root:
        card = root / "distbackup-disk.json"
        own = card.read_text()
        card.unlink()
        if content is not None:
            card.write_text(content)
        before, kept = catalogue_state(dsb), files(root)
        for words in (("backup", "one"), ("verify", "one"), ("restore", "one", tmp_path / "r"), ("disk", "refresh", "one")):
            told = dsb.refused(4, *words)
            if content is None:
                assert "there is no distbackup-disk.json at" in told
            else:
                assert "distbackup-disk.json is damaged, so the disk cannot be recognised; nothing on it was tou" in told
        if content is None:
            assert f"{root} is the place of 'one', whose distbackup-disk.json is missing" in dsb.refused(
                2, "disk", "add", "two", root
            )
        assert (catalogue_state(dsb), files(root)) == (before, kept)
        card.write_text(own)
        dsb.ok("backup", "one")


@needs_disks
def test_a_clone_is_not_touched(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    dsb.ok("backup", "one", "--limit", "600k")
    twin = LoopDisk(tmp_path / "twin.img", "ext4", disk.filesystem_uuid)
    run("cp", disk.image, twin.image)
    with plugged(twin) as volume:
        before = catalogue_state(dsb)
        both = " and ".join(sorted([disk.device, volume.device]))
        sentence = f"{both} have the same file system UUID, so one is a clone of the other; nothing was touched: unplug"
        for words in (("backup", "one"), ("verify", "one"), ("restore", "one", tmp_path / "r")):
            assert sentence in dsb.refused(4, *words)
        with mounted_at(disk.device, tmp_path / "disk") as root:
            assert sentence in dsb.refused(4, "backup", "one")
            assert sentence in dsb.refused(4, "backup", root)
            with mounted_at(volume.device, tmp_path / "twin") as other:
                assert f"{root} and {other} both claim to be 'one': one is a clone" in dsb.refused(4, "backup", "one")
                assert sentence in dsb.refused(4, "backup", other)
                kept = files(root), files(other)
            assert kept[0] == kept[1]
        twin.unplug()
        assert catalogue_state(dsb) == before
    dsb.ok("backup", "one")


@needs_disks
def test_a_copy_of_a_disk_on_another_file_system_is_not_the_disk(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    dsb.ok("backup", "one")
    with (
        loop_disk(tmp_path, megabytes=MEGABYTES) as other,
        mounted_at(other.device, tmp_path / "copy") as copy,
        mounted_at(disk.device, tmp_path / "disk") as root,
    ):
        run("cp", "-a", *[path for path in root.iterdir() if path.name != "lost+found"], copy)
        assert f"one: recognised at {root}," in dsb.ok("backup", "one")
        told = dsb.refused(4, "backup", copy)
        assert told == (
            f"what lies at {copy} is a copy of 'one' on another file system; nothing on it was touched: if it replaces the "
            f"old disk, say 'dsb disk set one --path {copy}'"
        )
        run("umount", root)
        disk.unplug()
        assert "'one' is not here" in dsb.refused(4, "backup", "one")
        dsb.ok("disk", "set", "one", "--path", copy)
        told = dsb.refused(4, "backup", "one")
        assert "is not as the last session left 'one'" in told, "the other one had a session since"
        assert "0 objects more and 0 fewer than the catalogue said" in dsb.ok("disk", "refresh", "one")
        assert f"one: recognised at {copy}," in dsb.ok("backup", "one")


@needs_disks
def test_an_unknown_disk_is_not_touched(dsb: Dsb, tmp_path: Path) -> None:
    disk = make_image(tmp_path / "unknown.img", megabytes=8)
    before = disk.image.read_bytes()
    with plugged(disk):
        assert dsb.refused(2, "backup", "unknown") == (
            "there is no disk 'unknown'; none is known yet: 'dsb disk add' makes one known"
        )
    assert disk.image.read_bytes() == before


@needs_disks
def test_a_flipped_bit_is_found_struck_and_copied_again(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    with mounted_at(disk.device, tmp_path / "disk") as root:
        dsb.ok("backup", "one")
        first, second = sorted((root / "distbackup-objects").glob("*/*"))[:2]
        content = bytearray(first.read_bytes())
        content[1000] ^= 4
        first.write_bytes(content)
        os.truncate(second, 7)
        done = dsb("verify", "--check", "one", "--errors", tmp_path / "errors")
        assert done.status == 7
        assert [line.split(": ", 3)[2] for line in sorted(done.err.splitlines())] == [
            "its content does not match its name",
            "it has 7 bytes instead of 300,000",
        ] or len(done.err.splitlines()) == 2
        errors = [line.split("\t") for line in (tmp_path / "errors").read_text().splitlines()]
        assert {error[1] for error in errors} == {str(path.relative_to(root)) for path in (first, second)}
        assert {error[0] for error in errors} == {"one"}
        assert first.exists()
        assert dsb("restore", "one", tmp_path / "restored").status == 7
        assert len(list((tmp_path / "restored").iterdir())) == 3

        done = dsb("verify", "one")
        assert done.status == 7
        assert "2 bad files." in done.out
        assert "Bad copies were struck from the catalogue and moved to bad-objects." in done.out
        assert "one: copied 2 bad objects again from the sources" in done.out
        assert sorted(path.name for path in (root / "bad-objects").iterdir()) == sorted([first.name, second.name])
        assert "read 5 objects (1.50 MB)" in (told := dsb.ok("verify", "one"))
        assert "No bad files" in told
        assert "nothing to do" in dsb.ok("backup", "one")
        dsb.ok("restore", "one", tmp_path / "restored")
        assert len(list((tmp_path / "restored").iterdir())) == 5


@needs_disks
def test_restore_goes_nowhere_it_must_not(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    with mounted_at(disk.device, tmp_path / "disk") as root:
        dsb.ok("backup", "one")
        before = files(tmp_path / "source"), files(root)
        (tmp_path / "link").symlink_to(tmp_path / "source")
        for place in (tmp_path / "source", tmp_path / "source" / "new", tmp_path / "link" / "new"):
            assert "lies in the source" in dsb.refused(2, "restore", "one", place)
        for place in (root, root / "new", root / "distbackup-objects"):
            assert "lies on the backup disk itself; nothing was restored" in dsb.refused(2, "restore", "one", place)
        (tmp_path / "file").touch()
        assert dsb.refused(2, "restore", "one", tmp_path / "file") == f"{tmp_path}/file is no folder; nothing was restored"
        below = tmp_path / "file" / "below"
        assert dsb.refused(4, "restore", "one", below) == (
            f"{below} cannot be restored to: Not a directory; nothing was restored"
        )
        assert dsb.refused(2, "restore", "one", tmp_path / "r", "-f", "/nothing") == (
            "nothing in the catalogue matches '/nothing'; 'dsb ls' lists what there is"
        )
        assert (files(tmp_path / "source"), files(root)) == before


@needs_disks
def test_restore_to_a_full_disk_says_so_and_can_go_on(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    dsb.ok("backup", "one")
    with loop_disk(tmp_path, megabytes=8) as small, mounted_at(small.device, tmp_path / "small") as target:
        with (target / "junk").open("wb") as junk:
            os.posix_fallocate(junk.fileno(), 0, os.statvfs(target).f_bavail * os.statvfs(target).f_frsize - 700_000)
        told = dsb.refused(4, "restore", "one", target / "restored")
        assert "full" in told
        (target / "junk").unlink()
        dsb.ok("restore", "one", target / "restored")
        assert files(target / "restored") == files(tmp_path / "source")


@needs_disks
def test_an_ordinary_user_is_told_to_mount_or_ask_root(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(path.stat().st_mode | 0o055)
    for path in [dsb.folder, *dsb.folder.iterdir()]:
        os.chown(path, NOBODY, NOBODY)
    told = dsb.refused(4, "backup", "one", user=NOBODY)
    assert "'one' is " in told
    with mounted_at(disk.device, tmp_path / "disk") as root:
        told = dsb.refused(4, "backup", "one", user=NOBODY)
        assert f"the disk at {root} may not be read or written by this user, for what lies on it is its owner's" in told
    assert subprocess.run(["mountpoint", "-q", tmp_path / "mounted" / "one"], check=False).returncode != 0
