"""Copies and sources that rot, on real media: what is read, what is struck, what comes back."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd.config.settings import Settings
from distbackupd.model.disks import DiskIdentity
from distbackupd.model.errors import DiskTrouble
from distbackupd.model.events import SourceRotted
from distbackupd.store.folder_store import FolderStore
from distbackupd.wiring import open_catalogue, open_engine
from tests.bed.fault_disk import fault_disk
from tests.bed.loop_disks import LoopDisk, loop_disk, make_foreign_image, mounted_at, plugged, run
from tests.bed.programs import Dsb
from tests.bed.waiting import wait_until, wait_until_settled
from tests.fakes.reporter import FakeReporter
from tests.fakes.stopping import Never

NEVER = Never()
UUID = "12345678-1234-4234-8234-123456789012"
SIZES = (3_000, 100_000, 3_000_000)

needs_disks = pytest.mark.needs("ext4", "tune2fs")


def on(kind: str, *needs: str) -> object:
    return pytest.param(kind, marks=pytest.mark.needs("root", "loop", *needs))


MEDIA = [
    on("ext4", "ext4"),
    on("xfs", "xfs"),
    on("btrfs", "btrfs"),
    on("ntfs", "mkfs.ntfs", "ntfs-3g"),
    on("exfat", "mkfs.exfat", "mount.exfat-fuse"),
]


@contextlib.contextmanager
def medium(kind: str, folder: Path) -> Iterator[tuple[FolderStore, Path, Path]]:
    """A store on a mounted disk of this kind, where it lies, and the disk's image."""
    if kind in ("ntfs", "exfat"):
        disk = make_foreign_image(folder / "image", kind, 40)
        driver = {"ntfs": "ntfs-3g", "exfat": "mount.exfat-fuse"}[kind]
        with plugged(disk) as volume:
            mounted = folder / "mnt"
            mounted.mkdir()
            run(driver, volume.device, mounted)
            with contextlib.closing(prepared(mounted, "fuseblk", volume.device)) as store:
                yield store, mounted, disk.image
        return
    with (
        loop_disk(folder, kind) as disk,
        mounted_at(disk.device, folder / "mnt") as mounted,
        contextlib.closing(prepared(mounted, kind, disk.device)) as store,
    ):
        yield store, mounted, disk.image


def prepared(root: Path, filesystem_type: str, device: str) -> FolderStore:
    store = FolderStore(os.fsencode(root), filesystem_type, device)
    store.prepare()
    store.write_identity(DiskIdentity(UUID, "one"))
    return store


def put(store: FolderStore, root: Path, content: bytes) -> tuple[bytes, Path]:
    """Copy the content there as a session does: its digest and its file."""
    digest = hashlib.sha256(content).digest()
    source = root.parent / "content"
    source.write_bytes(content)
    with source.open("rb") as file:
        store.commit([store.stage(file.fileno(), digest, len(content), NEVER)])
    return digest, root / "distbackup-objects" / digest.hex()[:3] / digest.hex()


def flip_on_the_medium(image: Path, content: bytes) -> None:
    """Change a bit of the content where it really lies, behind the file system's back."""
    with image.open("r+b") as medium:
        place = medium.read().find(content[-512:])
        assert place > 0, "the content lies there in one piece"
        medium.seek(place)
        medium.write(bytes([content[-512] ^ 8]))


@pytest.mark.parametrize("kind", MEDIA)
def test_check_reads_what_is_on_the_medium_and_not_what_is_in_memory(kind: str, tmp_path: Path) -> None:
    contents = [os.urandom(size) for size in SIZES]
    with medium(kind, tmp_path) as (store, root, image):
        copies = [put(store, root, content) for content in contents]
        for (digest, path), content in zip(copies, contents, strict=True):
            assert path.read_bytes() == content
            assert store.check(digest, len(content), NEVER).problem == ""
            assert path.read_bytes() == content
            flip_on_the_medium(image, content)
        store.forget_cached()
        for (digest, _), content in zip(copies, contents, strict=True):
            assert store.check(digest, len(content), NEVER).problem in (
                "its content does not match its name",
                "it cannot be read: Input/output error",
            )


@pytest.mark.needs("root", "loop", "nbd")
@pytest.mark.parametrize("what", ["break_reads", "die"])
def test_check_disk_that_fails_has_no_bad_and_no_missing_copies(what: str, tmp_path: Path) -> None:
    with (
        fault_disk(tmp_path / "bed") as disk,
        mounted_at(disk.volume.device, tmp_path / "mnt") as root,
        contextlib.closing(prepared(root, "ext4", disk.volume.device)) as store,
    ):
        digest, _ = put(store, root, os.urandom(3_000_000))
        getattr(disk, what)()
        for asked in (digest, hashlib.sha256(b"never there").digest()):
            with pytest.raises(DiskTrouble):
                store.check(asked, 3_000_000, NEVER)


@pytest.mark.needs("root", "loop", "nbd", "mkfs.ntfs", "ntfs-3g")
def test_check_disk_that_fails_is_noticed_behind_a_driver_in_user_space_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service cannot look at the device; all it sees is what the driver says, and that comes from memory."""
    monkeypatch.setattr(
        "tests.bed.fault_disk.make_image", lambda path, *_, megabytes: make_foreign_image(path, "ntfs", megabytes)
    )
    with fault_disk(tmp_path / "bed", "ntfs", 64) as disk:
        root = tmp_path / "mnt"
        root.mkdir()
        run("ntfs-3g", disk.volume.device, root)
        with contextlib.closing(prepared(root, "fuseblk", "/nowhere")) as store:
            copies = [put(store, root, os.urandom(3_000_000))[0] for _ in range(5)]
        run("umount", root)
        run("ntfs-3g", disk.volume.device, root)
        found = []
        with contextlib.closing(prepared(root, "fuseblk", "/nowhere")) as store:
            disk.die()
            for digest in [*copies, hashlib.sha256(b"never there").digest()]:
                with contextlib.suppress(DiskTrouble):
                    found.append(store.check(digest, 3_000_000, NEVER).problem)
        assert set(found) <= {""}, "what was read ahead is good, and the rest is trouble"
        assert len(found) < 6


@pytest.fixture
def dsb(tmp_path: Path) -> Dsb:
    """A catalogue with eight files of 300 kB."""
    dsb = Dsb(tmp_path / "catalogue")
    (tmp_path / "source").mkdir(exist_ok=True)
    for number in range(8):
        (tmp_path / "source" / f"{number}").write_bytes(os.urandom(300_000))
    dsb.ok("source", "map", "/", tmp_path / "source")
    wait_until_settled(*(tmp_path / "source").iterdir())
    dsb.ok("update")
    return dsb


@pytest.fixture
def disk(dsb: Dsb, tmp_path: Path) -> Iterator[LoopDisk]:
    """The disk ``one``, added, plugged in and not mounted."""
    with loop_disk(tmp_path, megabytes=160) as disk:
        with mounted_at(disk.device, tmp_path / "disk") as root:
            dsb.ok("disk", "add", "one", root)
        yield disk


def objects(root: Path) -> list[Path]:
    return sorted((root / "distbackup-objects").glob("*/*"))


def flip(path: Path) -> None:
    """Another content, and nothing else of the file."""
    state = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.mark.parametrize("kind", [on("ext4", "ext4"), on("xfs", "xfs"), on("btrfs", "btrfs")])
def test_what_the_medium_has_lost_is_struck_and_copied_again(kind: str, dsb: Dsb, tmp_path: Path) -> None:
    """btrfs sees by its checksums that a sector is wrong, and mostly does not give it at all."""
    with loop_disk(tmp_path, kind, megabytes={"xfs": 320}.get(kind, 200)) as disk:
        with mounted_at(disk.device, tmp_path / "disk") as root:
            dsb.ok("disk", "add", "one", root)
            dsb.ok("backup", "one")
        flip_on_the_medium(disk.image, (tmp_path / "source" / "3").read_bytes())
        with mounted_at(disk.device, tmp_path / "disk") as root:
            done = dsb("--json", "verify", "one")
            assert done.status == 7
            report = json.loads(done.out)
            (bad,) = report["bad"]
            unreadable = {"it cannot be read: Input/output error"} if kind == "btrfs" else set[str]()
            assert bad["problem"] in {"its content does not match its name"} | unreadable
            assert (bad["path"], report["copied_again"]) == ("/3", 1)
            assert [path.name for path in (root / "bad-objects").iterdir()] == [bad["hash"]]
            assert dsb.json("verify", "one")["bad"] == []
            assert "nothing to do" in dsb.ok("backup", "one")


@needs_disks
def test_an_object_under_a_wrong_name_is_a_bad_copy(dsb: Dsb, disk: LoopDisk, tmp_path: Path) -> None:
    with mounted_at(disk.device, tmp_path / "disk") as root:
        dsb.ok("backup", "one")
        first, second = objects(root)[:2]
        content = first.read_bytes()
        first.rename(tmp_path / "disk" / "aside")
        second.rename(first)
        (tmp_path / "disk" / "aside").rename(second)
        done = dsb("--json", "verify", "one")
        report = json.loads(done.out)
        assert done.status == 7
        assert {item["problem"] for item in report["bad"]} == {"its content does not match its name"}
        assert (len(report["bad"]), report["copied_again"], report["complete"]) == (2, 2, True)
        assert first.read_bytes() == content
        assert dsb.json("verify", "one")["bad"] == []


@needs_disks
def test_a_bad_copy_that_the_source_has_no_more_is_found_elsewhere_or_told_as_lost(
    dsb: Dsb, disk: LoopDisk, tmp_path: Path
) -> None:
    with mounted_at(disk.device, tmp_path / "disk") as root:
        dsb.ok("backup", "one")
        (tmp_path / "source" / "0").unlink()
        dsb.ok("update")
        lost = next(path for path in objects(root) if path.name not in present_hashes(tmp_path / "source"))
        flip(lost)
        done = dsb("verify", "one")
        assert done.status == 7
        assert "it was the only copy" in done.err
        assert "one: the last good copy of /0 is gone and no source has it" in done.err
        assert (root / "bad-objects" / lost.name).exists()
        assert dsb.json("verify", "one")["bad"] == []


def present_hashes(folder: Path) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.needs("root", "loop", "nbd", "ext4")
def test_a_disk_that_dies_while_it_is_verified_loses_no_copy_in_the_catalogue(dsb: Dsb, tmp_path: Path) -> None:
    with fault_disk(tmp_path / "bed", "ext4", 160) as disk:
        with mounted_at(disk.volume.device, tmp_path / "disk") as root:
            dsb.ok("disk", "add", "two", root)
            dsb.ok("backup", "two")
        with mounted_at(disk.volume.device, tmp_path / "disk"):
            before = dsb.ok("ls")
            disk.break_reads()
            done = dsb("verify", "two")
            assert done.status == 4
            assert "bad" not in done.out + done.err
            disk.mend()
            assert dsb.ok("ls") == before
            assert dsb.json("verify", "two")["objects"] == 8


@pytest.mark.needs("root", "loop", "nbd", "ext4")
def test_an_interrupted_verification_goes_on_where_it_was(dsb: Dsb, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / "source" / f"more{number}").write_bytes(os.urandom(1_000_000))
    dsb.ok("update")
    with fault_disk(tmp_path / "bed", "ext4", 240, "EIO", "--filter=rate", "rate=100M") as disk:
        with mounted_at(disk.volume.device, tmp_path / "disk") as root:
            dsb.ok("disk", "add", "slow", root)
            dsb.ok("backup", "slow")
        with mounted_at(disk.volume.device, tmp_path / "disk"):
            process = dsb.start("verify", "slow")
            disk.hang()
            try:
                wait_until(lambda: is_reading(process), "it reads")
                process.send_signal(signal.SIGINT)
            finally:
                disk.wake()
            _, err = process.communicate(timeout=60)
            assert process.returncode == 130, err
            assert "verifying was stopped; what was verified is noted, the next run goes on there" in err
            again = dsb.json("verify", "slow")
            assert again["complete"]
            assert again["bad"] == []
            assert again["resumed"] is not None
            assert dsb.json("verify", "slow")["resumed"] is None
            assert dsb.json("verify", "slow", "--restart")["objects"] == 48


def is_reading(process: subprocess.Popen[str]) -> bool:
    """Whether it has opened the catalogue and one of its threads waits for the disk."""
    try:
        opened = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
    except FileNotFoundError:  # one was closed meanwhile
        return process.poll() is not None
    if not any(path.endswith("/distbackup.sqlite") for path in opened):
        return False
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{process.pid}/task").glob("*/stat")]
    return "D" in states or process.poll() is not None


class RottingDisk:
    """The disk with the sources, mounted at ``root``, which loses bits while it is not mounted."""

    def __init__(self, disk: LoopDisk, root: Path) -> None:
        self.disk = disk
        self.root = root

    def rot(self, *names: str) -> None:
        """Nobody writes these files, and yet they hold something else."""
        contents = [(self.root / name).read_bytes() for name in names]
        run("umount", self.root)
        for content in contents:
            flip_on_the_medium(self.disk.image, content)
        run("mount", self.disk.device, self.root)


@pytest.fixture
def rotting(tmp_path: Path) -> Iterator[RottingDisk]:
    with loop_disk(tmp_path, megabytes=16) as disk, mounted_at(disk.device, tmp_path / "source") as root:
        (root / "lost+found").rmdir()
        yield RottingDisk(disk, root)


@needs_disks
def test_rot_in_a_source_is_no_change_and_comes_back_from_a_disk(
    rotting: RottingDisk, dsb: Dsb, disk: LoopDisk, tmp_path: Path
) -> None:
    rotten = rotting.root / "3"
    good, state = rotten.read_bytes(), rotten.stat()
    with mounted_at(disk.device, tmp_path / "disk"):
        dsb.ok("backup", "one")
    assert dsb.ok("heal") == "No source file is known to have rotted.\n"
    rotting.rot("3")
    assert "hashed" not in dsb.ok("update")
    with loop_disk(tmp_path, megabytes=160) as second, mounted_at(second.device, tmp_path / "second") as root:
        dsb.ok("disk", "add", "two", root)
        done = dsb("backup", "two")
        assert done.status == 3
        assert (
            "/3: its content changed, but not its size and time, so it rotted; the good content is on one, see 'dsb heal'"
            in done.err
        )
        assert dsb.ok("backup", "two"), "it is told once, and not tried again"
        assert len(objects(root)) == 7
    (listed,) = dsb.json("heal")
    assert (listed["path"], listed["disks"], listed["fetched"]) == ("/3", ["one"], False)
    assert [line.split()[-2:] for line in dsb.ok("heal").splitlines()[1:2]] == [["rotten", "one"]]
    assert dsb.refused(2, "heal", "/4") == "no file that rotted matches '/4'; 'dsb heal' lists them"
    disk.unplug()
    done = dsb("heal", "/3")
    assert done.status == 3
    assert "/3: no good copy of it is here; one should have one: plug in one of them" in done.out
    disk.plug()
    assert dsb.ok("-n", "heal", "--all") == "Would heal: /3\n"
    assert rotten.stat().st_ino == state.st_ino
    with mounted_at(disk.device, tmp_path / "disk"):
        told = dsb.ok("heal", "--all")
    assert "/3: its good content is back" in told
    assert rotten.read_bytes() == good
    assert (rotten.stat().st_mtime_ns, rotten.stat().st_mode) == (state.st_mtime_ns, state.st_mode)
    assert dsb.json("heal") == []
    (kept,) = rotting.root.glob("3.replaced-*")
    assert f"  {kept}\n" in told
    assert (kept.stat().st_ino, kept.stat().st_size) == (state.st_ino, len(good)), "what it replaced is kept"
    kept.unlink()
    assert "hashed" not in dsb.ok("update"), "it is known to be right, and where it lies now"


@needs_disks
def test_rot_is_healed_with_no_disk_once_a_session_has_fetched_the_content(
    rotting: RottingDisk, dsb: Dsb, disk: LoopDisk, tmp_path: Path
) -> None:
    rotten = rotting.root / "3"
    good = rotten.read_bytes()
    with mounted_at(disk.device, tmp_path / "disk") as root:
        dsb.ok("backup", "one")
        next(path for path in objects(root) if path.read_bytes() == (rotting.root / "5").read_bytes()).unlink()
        rotting.rot("3", "5")
        with loop_disk(tmp_path, megabytes=160) as second, mounted_at(second.device, tmp_path / "second") as other:
            dsb.ok("disk", "add", "two", other)
            assert dsb("backup", "two").status == 3
        done = dsb("backup", "one")
        assert "one: fetched the good content of 1 rotten source file; 'dsb heal --all' puts it back" in done.out
        assert "1 object that should lie on it is gone" in done.err
    disk.unplug()
    done = dsb("heal", "--all")
    assert done.status == 3
    assert rotten.read_bytes() == good
    assert os.listdir(dsb.folder / "rescued") == []
    (left,) = dsb.json("heal")
    assert left["path"] == "/5"
    assert "Took 1 file as they are; the next backup copies them." in dsb.ok("heal", "--accept", "/5")
    assert dsb.json("heal") == []
    disk.plug()
    with mounted_at(disk.device, tmp_path / "disk"):
        assert "copied 1 object" in dsb.ok("backup", "one")


@needs_disks
def test_what_was_written_with_its_time_put_back_is_backed_up_and_never_healed_away(
    dsb: Dsb, disk: LoopDisk, tmp_path: Path
) -> None:
    path = tmp_path / "source" / "3"
    with mounted_at(disk.device, tmp_path / "disk") as root:
        dsb.ok("backup", "one")
        flip(path)
        wait_until_settled(path)
        written = path.read_bytes()
        told = dsb.ok("backup", "-u", "one")
        assert "/3: its content changed although its size and time are the same; what it holds now is backed up" in told
        assert written in [item.read_bytes() for item in objects(root)]
        assert dsb.ok("heal", "--all") == ""
    assert path.read_bytes() == written
    assert dsb.json("info")["unconfirmed"] == {"files": 0, "bytes": 0}


@needs_disks
def test_what_was_written_since_the_scan_is_no_rot_for_the_disk_that_copies_it(
    dsb: Dsb, disk: LoopDisk, tmp_path: Path
) -> None:
    path = tmp_path / "source" / "3"
    flip(path)
    with mounted_at(disk.device, tmp_path / "disk") as root:
        done = dsb("backup", "one")
        assert done.status == 3
        assert "/3: skipped, its content changed although its size and time are the same; it will be tried again" in done.err
        assert dsb.ok("heal") == "No source file is known to have rotted.\n"
        assert "believed until" in dsb.ok("info")
        dsb.ok("backup", "-u", "one")
        assert path.read_bytes() in [item.read_bytes() for item in objects(root)]


@needs_disks
def test_the_daemons_engine_finds_rot_when_nothing_else_is_to_be_done(
    rotting: RottingDisk, dsb: Dsb, tmp_path: Path
) -> None:
    rotting.rot("3")
    reporter = FakeReporter()
    with open_engine(dsb.folder, Settings(reread="30d"), reporter) as engine:
        engine.reread(NEVER)
    with open_catalogue(dsb.folder) as catalogue:
        state = json.loads(catalogue.sessions.recall("rereading") or "")
        catalogue.sessions.remember("rereading", json.dumps({**state, "began": state["began"] - 31 * 86400}))
    with open_engine(dsb.folder, Settings(reread="0"), reporter) as engine:
        engine.reread(NEVER)
        assert reporter.events == []
        engine.reload(Settings(reread="30d"))
        engine.reread(NEVER)
    (told,) = reporter.told(SourceRotted)
    assert told.sentence == (
        "/3: its content changed, but not its size and time, so it rotted; no disk has the good content, see 'dsb heal'"
    )
    assert [item["path"] for item in dsb.json("heal")] == ["/3"]


@needs_disks
def test_info_says_how_old_the_oldest_check_is_and_that_sources_rotted(
    rotting: RottingDisk, dsb: Dsb, disk: LoopDisk, tmp_path: Path
) -> None:
    dsb = Dsb(dsb.folder, verify_share="0")
    with mounted_at(disk.device, tmp_path / "disk"):
        dsb.ok("backup", "one")
        assert "Read again and found good: one nothing yet.\n" in dsb.ok("info")
        dsb.ok("verify", "one")
    told = dsb.ok("info")
    assert f"Read again and found good: one all since {time.strftime('%Y-%m-%d')}.\n" in told
    assert "rotted" not in told
    (shown,) = dsb.json("info")["disks"]
    assert shown["verified_share"] == 1.0
    assert abs(shown["verified_since"] - time.time()) < 60
    rotting.rot("3")
    with loop_disk(tmp_path, megabytes=160) as second, mounted_at(second.device, tmp_path / "second") as root:
        dsb.ok("disk", "add", "two", root)
        dsb("backup", "two")
    assert "1 source file rotted: 'dsb heal' lists them.\n" in dsb.ok("info")
    assert dsb.json("info")["rotten_files"] == 1
