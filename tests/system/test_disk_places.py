"""Where ``dsb disk add`` takes a place for a disk, and where it does not: real mounts, and a chroot that is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bed.loop_disks import loop_disk, mounted_at, run
from tests.bed.programs import ROOT, Dsb

pytestmark = pytest.mark.needs("root", "ext4")


@pytest.fixture
def dsb(tmp_path: Path) -> Dsb:
    dsb = Dsb(tmp_path / "catalogue")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("content")
    dsb.ok("source", "map", "/data", tmp_path / "source")
    return dsb


def below(*folders: Path) -> list[list[str]]:
    return [sorted(str(path) for path in folder.rglob("*")) for folder in folders]


def test_what_is_no_disk_of_its_own_is_refused_and_left_as_it_is(dsb: Dsb, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    before = below(tmp_path / "mnt", tmp_path / "source")
    for path in (Path("/"), tmp_path / "mnt", tmp_path / "source", dsb.folder, tmp_path):
        told = dsb.refused(2, "disk", "add", "one", path)
        assert told.startswith(f"{path} is no disk of its own: it lies on the file system that is mounted at ")
        assert "the source /data and the catalogue" in told
        assert "--folder" in told
    assert dsb.refused(2, "disk", "add", "one", tmp_path / "ubs").startswith(f"there is no folder {tmp_path}/ubs: mount ")
    assert dsb.json("disk", "list") == []
    assert below(tmp_path / "mnt", tmp_path / "source") == before
    assert not (tmp_path / "ubs").exists()
    told = dsb.ok("disk", "add", "one", tmp_path / "mnt", "--folder")
    assert "so what takes one takes all; its copies count all the same" in told
    assert "one: copied 1 object" in dsb.ok("backup", "-u", "one")


def test_a_mounted_disk_is_taken_as_a_whole_or_in_part_unless_it_holds_a_source(dsb: Dsb, tmp_path: Path) -> None:
    with loop_disk(tmp_path) as disk, mounted_at(disk.device, tmp_path / "mnt") as root:
        (root / "photos").mkdir()
        (root / "backup").mkdir()
        dsb.ok("-n", "disk", "add", "one", root)
        dsb.ok("source", "map", "/photos", root / "photos")
        for path in (root, root / "backup"):
            told = dsb.refused(2, "disk", "add", "one", path)
            assert f"mounted at {root}, with the source /photos, so" in told
        dsb.ok("source", "unmap", "/photos")
        assert "so what takes one takes all" not in dsb.ok("disk", "add", "one", root / "backup", "--size", "2M")
        assert f"mounted at {root}, with the disk one, so" in dsb.refused(2, "disk", "add", "two", root / "photos")
        (root / "moved").mkdir()
        for name in ("distbackup-disk.json", "distbackup-objects"):
            (root / "backup" / name).rename(root / "moved" / name)
        dsb.ok("disk", "set", "one", "--path", root / "moved")


@pytest.mark.needs("btrfs")
def test_subvolumes_of_one_file_system_are_one_place(dsb: Dsb, tmp_path: Path) -> None:
    with loop_disk(tmp_path, "btrfs") as disk, mounted_at(disk.device, tmp_path / "mnt") as root:
        for name in ("photos", "backup"):
            run("btrfs", "--quiet", "subvolume", "create", root / name)
        with (
            mounted_at(disk.device, tmp_path / "photos", "-o", "subvol=photos") as photos,
            mounted_at(disk.device, tmp_path / "backup", "-o", "subvol=backup") as backup,
        ):
            dsb.ok("source", "map", "/photos", photos)
            assert "with the source /photos, so" in dsb.refused(2, "disk", "add", "one", backup)


def test_what_lies_on_no_device_is_no_disk(dsb: Dsb, tmp_path: Path) -> None:
    with mounted_at("none", tmp_path / "memory", "-t", "tmpfs") as memory:
        assert "it lies on tmpfs, on no device of this machine" in dsb.refused(2, "disk", "add", "one", memory)
        told = dsb.refused(2, "disk", "add", "one", memory, "--folder")
        assert told.startswith(f"others may write to the folder {memory}, so they could exchange what lies there; nothing ")
        memory.chmod(0o755)
        dsb.ok("disk", "add", "one", memory, "--folder")


_IN_CHROOT = """
set -eu
root=$1; shift
for folder in /*; do
    case $folder in
    /proc | /tmp | /lost+found) ;;
    *)
        if [ -L "$folder" ]; then
            ln -sfn "$(readlink "$folder")" "$root$folder"
        elif [ -d "$folder" ]; then
            mkdir -p "$root$folder"
            mount --rbind "$folder" "$root$folder"
        fi
        ;;
    esac
done
mkdir -p "$root/proc" "$root/tmp"
mount -t proc proc "$root/proc"
for folder in "$PROGRAM" "$PYTHON"; do
    [ -n "$(ls -A "$root$folder" 2>/dev/null)" ] || { mkdir -p "$root$folder"; mount --bind "$folder" "$root$folder"; }
done
cd /
exec chroot "$root" "$@"
"""


def test_in_a_chroot_whose_root_is_no_mount_point_it_works_too(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "tmp" / "source").mkdir(parents=True)
    (root / "tmp" / "source" / "file").write_text("content")
    (root / "tmp" / "disk").mkdir()

    prefix = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _IN_CHROOT, "bash"]

    def dsb(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*prefix, root, sys.executable, "-m", "distbackupd.cli.main", "-d", "/tmp/catalogue", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PROGRAM": str(ROOT), "PYTHON": sys.prefix},
            capture_output=True,
            text=True,
            check=False,
        )

    assert dsb("source", "map", "/", "/tmp/source").returncode == 0
    refused = dsb("disk", "add", "one", "/tmp/disk")
    assert "it lies on the file system that is mounted at /, with the system, the source / and" in refused.stderr
    assert refused.returncode == 2
    added = dsb("disk", "add", "one", "/tmp/disk", "--folder", "--size", "50M")
    assert (added.returncode, added.stderr) == (0, "")
    assert "  Mount point (current): /\n  Relative path from mountpoint: tmp/disk\n" in added.stdout
    assert "one: copied 1 object" in dsb("backup", "-u", "one").stdout
