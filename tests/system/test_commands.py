"""The commands from the first to the last, on real disks: what a person types and reads."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.loop_disks import loop_disk, mounted_at, run
from tests.bed.programs import Dsb
from tests.trees import assert_same_tree, build_nasty_tree, describe_tree

MEGABYTES = 128
"""Size of the disks here."""


@contextmanager
def mounted_disk(place: Path, name: str, megabytes: int = MEGABYTES, reserved: bool = False) -> Iterator[Path]:
    """A fresh ext4 disk, mounted by hand."""
    with loop_disk(place, megabytes=megabytes) as disk:
        if not reserved:
            run("tune2fs", "-m", "0", disk.device)
        with mounted_at(disk.device, place / name) as root:
            yield root


def assert_objects_hash_to_their_names(root: Path) -> list[str]:
    """The names of all objects on a disk, each of which was read and hashed."""
    names = []
    for path in sorted((root / "distbackup-objects").glob("*/*")):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        assert path.parent.name == path.name[:3]
        names.append(path.name)
    return names


def write_random(folder: Path, count: int, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:03}").write_bytes(os.urandom(size))


@pytest.mark.needs("ext4", "rsync", "tune2fs")
def test_from_a_source_to_a_restored_tree(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    source, nested = tmp_path / "source", tmp_path / "elsewhere"
    build_nasty_tree(source)
    write_random(nested, 3, 1000)
    assert dsb.ok("source", "map", "/", source) == f"Set / -> {source}\n"
    dsb.ok("source", "map", "/plain/stream archive", nested)
    assert dsb.json("source")["sources"] == [
        {"virtual_path": "/", "path": str(source)},
        {"virtual_path": "/plain/stream archive", "path": str(nested)},
    ]
    assert "0 changed, 0 gone; hashed" in dsb.ok("update")

    with mounted_disk(tmp_path, "disk") as root:
        added = dsb.ok("disk", "add", "photos-01", root).splitlines()
        size = dsb.json("disk", "list")[0]["size"]
        assert added[0] == "Added disk photos-01:"
        assert added[1].startswith("  UUID: ")
        assert added[2:4] == ["  Nexus index: 0", f"  Size: {size:,}"]
        assert added[4].startswith("  Device (current): /dev/loop")
        assert added[5:] == [f"  Mount point (current): {root}"]
        told = dsb.ok("backup", "photos-01")
        assert "photos-01: copied" in told
        assert told.endswith("destination photos-01 updated.\n")
        objects = assert_objects_hash_to_their_names(root)
        assert sorted(path.name for path in root.iterdir()) == [
            "README.txt",
            "distbackup-disk.json",
            "distbackup-objects",
            "distbackup-restore.py",
            "distbackup-session.json",
            "distbackup-tmp",
            "distbackup.sqlite",
            "lost+found",
        ]

        (disk,) = dsb.json("info")["disks"]
        assert disk["objects"] == len(objects)
        assert dsb.json("info")["copies"].keys() == {"1"}
        listed = dsb.json("ls")
        expected = {b"/" + path for path, facts in describe_tree(source).items() if facts[0] != 0o040000}
        expected |= {f"/plain/stream archive/{number:03}".encode() for number in range(3)}
        assert {os.fsencode(entry["path"]) for entry in listed} == expected
        assert all(entry["disks"] == ["photos-01"] for entry in listed if entry["size"])
        assert "(photos-01) /plain/stream archive/000\n" in dsb.ok("ls", "/plain/stream archive")
        assert "photos-01: " in dsb.ok("status")
        assert dsb.json("status")["sessions"][0]["outcome"] == "finished"
        verified = dsb.json("verify", "photos-01")
        assert (verified["objects"], verified["bad"]) == (len(objects), [])
        assert "no file" not in dsb.ok("disk")

        restored = tmp_path / "restored"
        report = dsb.json("restore", "photos-01", restored)
        assert {key: report[key] for key in ("failed", "missing", "in_the_way", "not_kept")} == {
            "failed": 0,
            "missing": 0,
            "in_the_way": 0,
            "not_kept": {},
        }
    assert_same_tree(nested, restored / "plain" / "stream archive")
    run("rm", "-r", restored / "plain" / "stream archive")
    copy_times(source / "plain", restored / "plain")
    assert_same_tree(source, restored)


def copy_times(of: Path, to: Path) -> None:
    state = of.stat()
    os.utime(to, ns=(state.st_atime_ns, state.st_mtime_ns))


def snapshot(root: Path) -> dict[str, bytes]:
    """Content of every file below, but for locks and SQLite's own helpers."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith((".lock", "-shm", "-wal"))
    }


@pytest.mark.needs("ext4", "tune2fs")
def test_no_action_and_simulate_change_nothing(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    source = tmp_path / "source"
    write_random(source, 3, 5000)
    dsb.ok("source", "map", "/", source)
    dsb.ok("update")
    with mounted_disk(tmp_path, "disk") as root:
        dsb.ok("disk", "add", "one", root)
        dsb.ok("backup", "one")
        write_random(source, 2, 6000)
        dsb.ok("update")
        write_random(source / "later", 5, 7000)
        before, disk_before = snapshot(dsb.folder), snapshot(root)
        assert "5 new" in dsb.ok("-n", "update") or "6 new" in dsb.ok("-n", "update")
        plan = dsb.ok("backup", "one", "--simulate").splitlines()
        assert [line.split(" (")[0] for line in plan[:2]] == ["copy /000", "copy /001"] or len(plan) == 3
        assert all(line.endswith("(): it has no copy yet") for line in plan[:-1])
        assert plan[-1] == "one: would copy 2 objects (12.0 kB) and delete 0 objects (0 bytes); nothing was changed"
        assert {step["action"] for step in dsb.json("backup", "one", "--simulate")} == {"copy"}
        for words in (
            ("backup", "one"),
            ("backup", "one", "-u"),
            ("verify", "one"),
            ("restore", "one", tmp_path / "restored"),
            ("source", "map", "/other", source),
            ("source", "unmap", "/"),
            ("source", "lock", "/later"),
            ("source", "set", "-p", "3", "/"),
            ("source", "reset", "/"),
            ("disk", "rename", "one", "two"),
            ("disk", "set", "one", "--size", "50M"),
            ("disk", "set", "one", "--relpath", "x"),
            ("disk", "drop", "one"),
            ("disk", "del", "one"),
            ("disk", "refresh", "one"),
            ("disk", "add", "two", tmp_path / "elsewhere", "--folder"),
        ):
            dsb.ok("-n", *words)
            assert snapshot(dsb.folder) == before, words
            assert snapshot(root) == disk_before, words
        assert not (tmp_path / "restored").exists()
        assert not (tmp_path / "elsewhere").exists()


def test_no_action_makes_no_catalogue(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    assert "no catalogue" in dsb.refused(5, "-n", "source", "map", "/", tmp_path)
    assert not dsb.folder.exists()


@pytest.mark.needs("ext4", "tune2fs")
def test_add_tells_of_reserved_blocks(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    with mounted_disk(tmp_path, "disk", reserved=True) as root:
        device = subprocess.run(["findmnt", "-no", "SOURCE", root], capture_output=True, text=True, check=True)
        (note,) = [line for line in dsb.ok("disk", "add", "one", root).splitlines() if line.startswith("Note: ")]
        assert note.endswith(f"'tune2fs -m 0 {device.stdout.strip()}' sets them free")


@pytest.mark.needs("ext4", "tune2fs")
def test_three_disks_with_too_little_room_share_what_there_is(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    write_random(tmp_path / "source", 30, 1_000_000)
    dsb.ok("source", "map", "/", tmp_path / "source")
    with (
        mounted_disk(tmp_path, "one") as one,
        mounted_disk(tmp_path, "two") as two,
        mounted_disk(tmp_path, "three") as three,
    ):
        roots = {"one": one, "two": two, "three": three}
        for name, root in roots.items():
            dsb.ok("disk", "add", name, root, "--size", "15M")
        for name in roots:
            dsb.ok("backup", name, "--update")
        copies = dsb.json("info")["copies"]
        assert "0" not in copies
        assert sum(group["objects"] for group in copies.values()) == 30
        for disk in dsb.json("info")["disks"]:
            held = assert_objects_hash_to_their_names(roots[disk["name"]])
            assert len(held) == disk["objects"]
            assert disk["used"] <= 15_000_000
        told = dsb.ok("backup", "one")
        assert "; no room here for" in told

        name_of_gone = hashlib.sha256((tmp_path / "source" / "000").read_bytes()).hexdigest()
        (tmp_path / "source" / "000").unlink()
        dsb.ok("update")
        for name in roots:
            dsb.ok("backup", name)
        kept = [path for root in roots.values() for path in root.glob(f"distbackup-objects/*/{name_of_gone}")]
        assert kept, "a deleted file's last copy is kept for thirty days"
        dsb = Dsb(dsb.folder, keep_deleted="0")
        assert sum("deleted 1 object" in dsb.ok("backup", name, "--noflush") for name in roots) >= 1
        assert all(
            disk["objects"] == len(assert_objects_hash_to_their_names(roots[disk["name"]]))
            for disk in dsb.json("info")["disks"]
        )


@pytest.mark.needs("ext4", "tune2fs")
def test_backup_limits(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    write_random(tmp_path / "source", 10, 100_000)
    dsb.ok("source", "map", "/", tmp_path / "source")
    with mounted_disk(tmp_path, "one") as one, mounted_disk(tmp_path, "two") as two:
        dsb.ok("disk", "add", "one", one)
        dsb.ok("disk", "add", "two", two)
        assert "one: copied 3 objects (300 kB)" in dsb.ok("backup", "one", "-u", "--limit", "350k")
        assert "two: copied 7 objects (700 kB)" in dsb.ok("backup", "two", "--maxcopies", "1")
        assert "two: copied 3 objects (300 kB)" in dsb.ok("backup", "two")
        assert dsb.json("info")["copies"]["2"]["objects"] == 3


@pytest.mark.needs("ext4", "tune2fs")
def test_a_disk_by_name_uuid_and_path(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    write_random(tmp_path / "source", 2, 1000)
    dsb.ok("source", "map", "/", tmp_path / "source")
    with loop_disk(tmp_path, megabytes=MEGABYTES) as disk:
        with mounted_at(disk.device, tmp_path / "disk") as root:
            (root / "backup").mkdir()
            dsb.ok("disk", "add", "one", root / "backup" / "data", "--folder")
            (known,) = dsb.json("disk", "list")
            assert known["relative_path"] == "backup/data"
            for name in ("one", known["uuid"], known["uuid"].upper(), root / "backup" / "data"):
                assert "one: recognised at" in dsb.ok("backup", name, "-u")
        with mounted_at(disk.device, tmp_path / "another place") as root:
            assert f"one: recognised at {root}/backup/data" in dsb.ok("backup", "one")
        told = dsb.ok("backup", "one")
        assert f"one: recognised at {tmp_path}/mounted/one/backup/data" in told
        assert "one is done, you may unplug it\n" in told
        assert not re.search(f"^{disk.device} ", Path("/proc/self/mounts").read_text(), re.MULTILINE)


@pytest.mark.needs("ext4", "tune2fs")
def test_the_life_of_a_disk(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    write_random(tmp_path / "source", 4, 1000)
    dsb.ok("source", "map", "/", tmp_path / "source")
    with mounted_disk(tmp_path, "disk") as root:
        dsb.ok("disk", "add", "one", root, "--size", "20M")
        dsb.ok("backup", "one", "-u")
        assert "one: size 30,000,000, " in dsb.ok("disk", "set", "one", "--size", "30M")
        assert "Renamed one to first" in dsb.ok("disk", "rename", "one", "first")
        assert '"name": "first"' in (root / "distbackup-disk.json").read_text()

        (root / "moved").mkdir()
        for name in ("disk.json", "session.json", "objects", "tmp"):
            (root / f"distbackup-{name}").rename(root / "moved" / f"distbackup-{name}")
        (root / "distbackup.sqlite").rename(root / "moved" / "distbackup.sqlite")
        assert "there is no distbackup-disk.json" in dsb.refused(4, "backup", "first")
        dsb.ok("disk", "set", "first", "--path", root / "moved")
        assert "nothing to do" in dsb.ok("backup", "first") or "checked" in dsb.ok("backup", "first")

        objects = sorted((root / "moved" / "distbackup-objects").glob("*/*"))
        objects[0].unlink()
        assert "0 objects more and 1 fewer" in dsb.ok("disk", "refresh", "first")
        assert "copied 1 object" in dsb.ok("backup", "first")
        assert "holds 4 objects" in dsb.refused(2, "disk", "del", "first")
        assert "holds 4 objects; other disks" in dsb.ok("disk", "drop", "first")
        assert dsb.json("info")["copies"].keys() == {"0"}
        assert "4 objects more and 0 fewer" in dsb.ok("disk", "refresh", "first")
        dsb.ok("disk", "drop", "first")
        dsb.ok("disk", "del", "first")
        assert dsb.json("disk", "list") == []
        assert "Taken over as they lie there: 4 objects" in dsb.ok("disk", "add", "again", root / "moved")
        assert dsb.json("info")["copies"].keys() == {"1"}


def complete(dsb: Dsb, line: str) -> list[str]:
    """What the shell would offer at the end of ``line``, with ``dsb`` set up as argcomplete's users do."""
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line.encode())),
        "DISTBACKUP_PATH": str(dsb.folder),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(dsb.folder / "offered"),
    }
    process = dsb.start(env=environment)
    out, err = process.communicate()
    assert (out, err) == ("", "")
    return [word.rstrip() for word in (dsb.folder / "offered").read_text().split("\n") if word]


def test_completion_of_disks_and_virtual_paths(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    (tmp_path / "source" / "holidays").mkdir(parents=True)
    write_random(tmp_path / "source" / "holidays", 1, 10)
    dsb.ok("source", "map", "/photos", tmp_path / "source")
    dsb.ok("source", "map", "/photographs", tmp_path / "source")
    dsb.ok("update")
    for name in ("photos-01", "music-01"):
        dsb.ok("disk", "add", name, tmp_path / name, "--folder")
    assert complete(dsb, "dsb backup ") == ["music-01", "photos-01"]
    assert complete(dsb, "dsb backup ph") == ["photos-01"]
    assert complete(dsb, "dsb source unmap /ph") == ["/photographs/", "/photos/"]
    assert complete(dsb, "dsb ls /photos/") == ["/photos/holidays/"]
    assert complete(dsb, "dsb ls /photos/holidays/") == ["/photos/holidays/000"]
    assert "verify" in complete(dsb, "dsb ver")


def test_a_reader_that_has_seen_enough_is_no_trouble(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    write_random(tmp_path / "source", 1, 1)
    for number in range(3000):
        (tmp_path / "source" / f"a name that fills the pipe {number}").touch()
    dsb.ok("source", "map", "/", tmp_path / "source")
    dsb.ok("update")
    process = dsb.start("ls")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 0
    process.stderr.close()


def test_a_folder_that_two_sources_show_is_in_both_places(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    write_random(tmp_path / "source" / "below", 2, 100)
    dsb.ok("source", "map", "/", tmp_path / "source")
    dsb.ok("source", "map", "/again", tmp_path / "source" / "below")
    dsb.ok("update")
    paths = [entry["path"] for entry in dsb.json("ls")]
    assert paths == ["/again/000", "/again/001", "/below/000", "/below/001"]
    assert "0 new, 0 changed, 0 gone" in dsb.ok("update")


def test_a_session_checks_its_share_and_no_more(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue", verify_share="10%")
    write_random(tmp_path / "source", 40, 100_000)
    dsb.ok("source", "map", "/", tmp_path / "source")
    dsb.ok("disk", "add", "one", tmp_path / "disk", "--folder")
    assert "one: copied 40 objects (4.00 MB), checked 4 objects" in dsb.ok("backup", "one", "-u")


def test_what_is_printed_as_json_can_be_read(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    write_random(tmp_path / "source", 3, 1000)
    dsb.ok("source", "map", "/", tmp_path / "source")
    assert dsb.json("update")["hashed"] == 3
    added = dsb.json("disk", "add", "one", tmp_path / "disk", "--folder")
    assert added["name"] == "one"
    assert len(dsb.json("backup", "one", "--simulate")) == 3
    done = dsb.json("backup", "one", "-u")
    assert (done["uuid"], done["copied_objects"]) == (added["uuid"], 3)
    assert dsb.json("backup", "one", "--simulate") == []
    assert dsb.json("verify", "one")["objects"] == 3
    assert dsb.json("info")["disks"][0]["objects"] == 3
    assert [entry["path"] for entry in dsb.json("ls", "/00*")] == ["/000", "/001", "/002"]
    assert dsb.refused(2, "--json", "ls", "nothing").startswith("nothing in the catalogue matches 'nothing'")
    assert dsb.json("disk", "list")[0]["path"] == str(tmp_path / "disk")
    assert dsb.json("status")["activity"] is None
    assert dsb.json("restore", "one", tmp_path / "restored")["restored"] >= 3
    assert dsb.json("source")["settings"] == {}
