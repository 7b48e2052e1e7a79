"""Sources that vanish, turn empty, cannot be read, or change under our hands; names and paths of every kind."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.loop_disks import loop_disk, mounted_at
from tests.bed.programs import NOBODY, Dsb
from tests.trees import assert_same_tree, build_deep_path, describe_tree


class Scene:
    """A catalogue, a source of ten files at ``/``, and a folder that serves as the disk ``one``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.dsb = Dsb(place / "catalogue")
        self.source = place / "source"
        self.disk = place / "disk"
        (self.source / "below").mkdir(parents=True)
        self.disk.mkdir()
        for number in range(10):
            (self.source / "below" / f"{number}").write_bytes(os.urandom(2000 + number))
        self.dsb.ok("source", "map", "/", self.source)
        self.dsb.ok("disk", "add", "one", self.disk, "--folder")

    def backed_up(self) -> Scene:
        self.dsb.ok("update")
        self.dsb.ok("backup", "one")
        return self

    def paths(self) -> list[str]:
        return [entry["path"] for entry in self.dsb.json("ls")]

    def objects(self) -> list[str]:
        return sorted(path.name for path in (self.disk / "distbackup-objects").glob("*/*"))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def open_scene() -> Iterator[Scene]:
    """A scene that an ordinary user reaches: pytest's own folders are closed to others."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    try:
        yield Scene(place)
    finally:
        shutil.rmtree(place)


def test_a_source_that_vanished_keeps_its_files(scene: Scene) -> None:
    scene.backed_up()
    paths, objects = scene.paths(), scene.objects()
    scene.source.rename(scene.place / "away")
    assert scene.dsb.refused(3, "update") == (
        f"/: {scene.source}: it is not there any more; its files are kept as they were known"
    )
    assert (scene.paths(), scene.objects()) == (paths, objects)
    strict = Dsb(scene.dsb.folder, keep_deleted="0")
    braked = strict("backup", "one")
    assert braked.status == 0
    assert f"the brake is on: the source {scene.source} is missing. Nothing is deleted on any disk" in braked.err
    assert scene.objects() == objects
    (scene.place / "away").rename(scene.source)
    assert "0 new, 0 changed, 0 gone" in scene.dsb.ok("update")


def test_a_source_that_turned_empty_keeps_its_files_until_told(scene: Scene) -> None:
    scene.backed_up()
    paths = scene.paths()
    shutil.rmtree(scene.source / "below")
    assert scene.dsb.refused(3, "update") == (
        f"/: {scene.source}: it is empty, although files were known; if that is right, "
        "'dsb update --ignore-lock' records it; its files are kept as they were known"
    )
    assert scene.paths() == paths
    recorded = scene.dsb("update", "--ignore-lock")
    assert "11 gone" in recorded.out
    assert "the brake is on: of 10 files" in recorded.err
    assert scene.paths() == []


@pytest.mark.needs("ext4")
def test_a_source_that_is_not_mounted_keeps_its_files(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    with loop_disk(tmp_path) as disk:
        with mounted_at(disk.device, tmp_path / "source") as source:
            (source / "file").write_bytes(b"content")
            dsb.ok("source", "map", "/", source)
            dsb.ok("update")
        assert "it is empty and nothing is mounted there" in dsb.refused(3, "update")
        assert [entry["path"] for entry in dsb.json("ls")] == ["/file"]


@pytest.mark.needs("root")
def test_what_may_not_be_read_is_skipped_and_kept(open_scene: Scene) -> None:
    scene = open_scene
    scene.backed_up()
    for path in [scene.dsb.folder, *scene.dsb.folder.iterdir()]:
        os.chown(path, NOBODY, NOBODY)
    paths = scene.paths()
    closed = scene.source / "below" / "3"
    closed.chmod(0o600)
    closed.write_bytes(b"changed, and closed")
    done = scene.dsb("update", user=NOBODY)
    assert done.status == 3
    assert done.err == "/below/3: skipped, it cannot be read: Permission denied; it will be tried again\n"
    assert "1 file skipped, to be tried again" in done.out
    assert scene.paths() == paths

    (scene.source / "below").chmod(0o700)
    done = scene.dsb("update", user=NOBODY)
    assert done.status == 3
    assert done.err == "/below: it cannot be reached: Permission denied; its files are kept as they were known\n"
    assert scene.paths() == paths
    scene.source.chmod(0o700)
    assert "it cannot be reached: Permission denied; its files are kept" in scene.dsb.refused(3, "update", user=NOBODY)
    assert scene.paths() == paths
    for folder in (scene.source, scene.source / "below"):
        folder.chmod(0o755)
    closed.chmod(0o644)
    assert "2 changed, 0 gone" in scene.dsb.ok("update", user=NOBODY)


def test_a_side_file_that_says_nothing_usable_is_told(scene: Scene) -> None:
    (scene.source / "below" / "1.meta-inf").write_text("{")
    done = scene.dsb("update")
    assert done.status == 3
    assert done.err == (
        "/below/1.meta-inf: skipped, this side file says nothing usable: it is no JSON; it will be tried again\n"
    )
    assert "/below/1" in scene.paths()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.write_bytes(b"other"), "it changed since it was scanned"),
        (lambda path: path.write_bytes(path.read_bytes() + b"more"), "it changed since it was scanned"),
        (lambda path: os.truncate(path, 10), "it changed since it was scanned"),
        (lambda path: path.unlink(), "it is not there any more"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "it changed since it was scanned"),
        (lambda path: (path.unlink(), path.mkdir()), "it changed since it was scanned"),
    ],
    ids=["changed", "grown", "shrunk", "gone", "became a fifo", "became a folder"],
)
def test_a_file_that_is_another_when_it_is_copied_is_skipped(scene: Scene, change, reason: str) -> None:
    scene.dsb.ok("update")
    change(scene.source / "below" / "5")
    done = scene.dsb("backup", "one")
    assert done.status == 3
    assert done.err == f"/below/5: skipped, {reason}; it will be tried again\n"
    assert "copied 9 objects" in done.out
    assert "1 file skipped, to be tried again" in done.out
    assert len(scene.objects()) == 9
    scene.dsb.ok("update")
    assert "skipped" not in scene.dsb.ok("backup", "one")


def test_a_file_with_other_bytes_but_the_same_size_and_time_is_a_change_that_is_backed_up(scene: Scene) -> None:
    scene.dsb.ok("update")
    path = scene.source / "below" / "5"
    state = path.stat()
    path.write_bytes(bytes(state.st_size))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert scene.dsb("backup", "one").err == (
        "/below/5: skipped, its content changed although its size and time are the same; it will be tried again\n"
    )
    assert len(scene.objects()) == 9
    assert "its content changed although its size and time are the same" in scene.dsb("update").out
    scene.dsb.ok("backup", "one")
    assert len(scene.objects()) == 10


class Busy:
    """Somebody who writes to files all the time."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            for path in self._paths:
                with path.open("r+b") as file:
                    file.seek(0, os.SEEK_END if number % 3 else os.SEEK_SET)
                    file.write(b"%d" % number)
                if number % 50 == 0:
                    os.truncate(path, 4 << 20)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_file_that_never_rests_is_told_once_and_left_for_later(scene: Scene) -> None:
    busy = scene.source / "busy"
    busy.write_bytes(bytes(4 << 20))
    process = None
    with Busy(busy):
        process = scene.dsb.start("update")
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3, out + err
    assert err in (
        "/busy: skipped, it changed while it was read; it will be tried again\n",
        "/busy: skipped, it changed since it was scanned; it will be tried again\n",
    )
    assert len(scene.paths()) == 10
    scene.dsb.ok("update")
    assert len(scene.paths()) == 11


NAMES = [
    b"line\nbreak",
    b"\xff\xfe no utf-8",
    b"n" * 255,
    b"-rf",
    b"--help",
    b" ",
    b"\x1b[31mred",
    b"*",
    b"a\\b",
    b"\xc2\x85",
]


def test_any_name_is_backed_up_printed_on_one_line_and_restored(scene: Scene) -> None:
    for name in NAMES:
        with open(os.fsencode(scene.source) + b"/" + name, "wb") as file:
            file.write(b"content of " + name)
    scene.backed_up()
    listed = scene.dsb.ok("ls").splitlines()
    assert len(listed) == 10 + len(NAMES)
    assert all(line.isprintable() for line in listed)
    assert {os.fsencode(path) for path in scene.paths()} >= {b"/" + name for name in NAMES}
    scene.dsb.ok("restore", "one", scene.place / "restored")
    assert_same_tree(scene.source, scene.place / "restored")
    scene.dsb.ok("restore", "one", scene.place / "only that", "-f", b"/\xff\xfe no utf-8")
    assert os.listdir(os.fsencode(scene.place / "only that")) == [b"\xff\xfe no utf-8"]
    unlucky = os.fsencode(scene.source) + b"/\xff\xfe no utf-8"
    os.truncate(unlucky, 3)
    for words in (("ls", unlucky), ("restore", "one", unlucky), ("source", "map", b"/\xff", unlucky), ("verify", unlucky)):
        done = scene.dsb(*words)
        assert "Traceback" not in done.err
        assert done.status in (0, 2)


def test_paths_deeper_than_the_kernel_takes_at_once(scene: Scene) -> None:
    build_deep_path(scene.source, longer_than=9000)
    scene.backed_up()
    assert max(map(len, scene.paths())) > 9000
    scene.dsb.ok("restore", "one", scene.place / "restored")
    assert describe_tree(scene.place / "restored") == describe_tree(scene.source)
    assert "0 new, 0 changed, 0 gone" in scene.dsb.ok("update")


def test_a_name_is_printed_without_a_terminal_being_taken_over(scene: Scene) -> None:
    (scene.source / "\x1b]0;title\x07").write_bytes(b"x")
    scene.backed_up()
    assert "\\x1b]0;title\\x07" in scene.dsb.ok("ls")
    shown = [scene.dsb.ok("ls"), scene.dsb.ok("backup", "one", "--simulate"), scene.dsb.ok("info")]
    assert not any(character in text for text in shown for character in "\x1b\x07")


def test_the_catalogue_keeps_others_out(scene: Scene) -> None:
    assert stat.S_IMODE(scene.dsb.folder.stat().st_mode) == 0o700


def test_a_terminal_that_shows_no_umlauts_breaks_nothing(scene: Scene) -> None:
    (scene.source / "ä").write_bytes(b"x")
    scene.dsb.ok("update")
    process = scene.dsb.start("ls", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "/\\xe4\n" in out


class Appending(Busy):
    """Somebody who appends to a log, line by line and without a pause."""

    def _run(self) -> None:
        (path,) = self._paths
        with path.open("ab", buffering=0) as file:
            while not self._stop.wait(0.0002):
                file.write(b"another line\n")


def test_a_file_that_never_rests_is_copied_after_three_scans_marked_and_restored(scene: Scene) -> None:
    log = scene.source / "log"
    log.write_bytes(os.urandom(80 << 20))
    with Appending(log):
        for _ in range(2):
            assert scene.dsb("update").status == 3
            (problem,) = scene.dsb.json("ls", "--problems")
            assert (problem["path"], problem["kind"], problem["earlier_version"]) == ("/log", "unread", False)
        assert problem["tries"] == 2
        for command in (("info",), ("status",)):
            assert "Not read: 1 file, " in scene.dsb.ok(*command)
        told = scene.dsb.ok("ls", "--problems")
        assert "(2 tries) /log: it changed while it was read; no earlier version of it is known\n" in told
        scene.dsb.ok("update")
        assert scene.dsb.json("ls", "--problems") == []
        assert "Not read" not in scene.dsb.ok("info")
        assert scene.dsb("backup", "one").status == 0
    assert [entry["path"] for entry in scene.dsb.json("ls") if entry["taken_while_written"]] == ["/log"]
    assert " (one) /log (taken while it was written)\n" in scene.dsb.ok("ls")
    assert "/log (taken while it was written)\n" in scene.dsb.ok("log", "/log")
    assert "No bad files" in scene.dsb.ok("verify", "one")
    done = scene.dsb("restore", "--to", scene.place / "restored")
    assert done.status == 0
    assert "1 file taken while it was written, so parts may be of different moments: /log" in done.err + done.out
    assert (scene.place / "restored" / "log").stat().st_size == next(
        entry["size"] for entry in scene.dsb.json("ls") if entry["path"] == "/log"
    )
    scene.dsb("update")
    assert not any(entry["taken_while_written"] for entry in scene.dsb.json("ls"))
    scene.dsb("backup", "one")
    scene.dsb.ok("restore", "--overwrite", "--to", scene.place / "restored")
    assert (scene.place / "restored" / "log").read_bytes() == log.read_bytes()


FAR = (10_000_000_000, 20_000_000_000, -10_000_000_000, -9_300_000_000, -1, 0, 2**34, 2**40, -(2**40))
"""Times in seconds, of which each file system keeps what it can."""


def make_odd_entries(place: Path) -> int:
    """Entries that are all that an entry may be; how many regular files with content are among them."""
    base = os.fsencode(place)
    files = 0
    for number, seconds in enumerate(FAR):
        path = base + b"/time %d" % number
        with open(path, "wb") as file:
            file.write(path)
        os.utime(path, ns=(seconds * 10**9, seconds * 10**9 + number))
        folder = base + b"/folder %d" % number
        os.mkdir(folder)
        with open(folder + b"/\xff\n\x1b[2J", "wb") as file:
            file.write(folder)
        os.utime(folder, ns=(0, seconds * 10**9))
        files += 2
    for name in (b" ", b"\n", b"n" * 255, bytes(range(1, 47)) + bytes(range(48, 200))):
        with open(base + b"/" + name, "wb") as file:
            file.write(b"named " + name)
        os.chown(base + b"/" + name, 2**32 - 2, 2**32 - 2)
        files += 1
    for length in (4095, 4000, 3900, 1000):
        # How long a target may be differs.
        with contextlib.suppress(OSError):
            os.symlink(b"t" * length, base + b"/link to %d" % length)
    os.mknod(base + b"/device", 0o600 | stat.S_IFCHR, os.makedev(4095, 1048575))
    os.mknod(base + b"/socket", 0o600 | stat.S_IFSOCK)
    os.mkfifo(base + b"/fifo")
    with open(base + b"/attributes", "wb") as file:
        file.write(b"with attributes")
        for number in range(50):
            try:
                os.setxattr(file.fileno(), b"user.\xfe%d" % number, bytes(60_000 if number == 7 else 20))
            except OSError:
                continue
    return files + 1


@pytest.mark.needs("root")
@pytest.mark.parametrize("kind", ["ext4", "btrfs", "tmpfs"])
def test_no_entry_ends_a_scan_on_any_file_system(tmp_path: Path, kind: str) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    (tmp_path / "disk").mkdir()
    with contextlib.ExitStack() as stack:
        if kind == "tmpfs":
            source = stack.enter_context(mounted_at("tmpfs", tmp_path / "source", "-t", "tmpfs"))
            for name in ("huge", "huge too"):
                with (source / name).open("wb") as file:
                    file.truncate(2**63 - 4096)
        else:
            disk = stack.enter_context(loop_disk(tmp_path, filesystem_type=kind))
            source = stack.enter_context(mounted_at(disk.device, tmp_path / "source"))
        files = make_odd_entries(source)
        dsb.ok("source", "map", "/", source)
        dsb.ok("disk", "add", "one", tmp_path / "disk", "--folder")
        done = dsb("update")
        assert done.status == (3 if kind == "tmpfs" else 0), done.err
        assert "Traceback" not in done.err
        again = dsb("update")
        assert "0 new, 0 changed, 0 gone" in again.out or kind == "tmpfs"
        assert "hashed" not in again.out, "what does not fit is the same the next time"
        listed = dsb.json("ls", "--problems")
        assert {item["path"]: item["kind"] for item in listed}["/socket"] == "not_kept"
        assert all(
            item["path"].startswith("/time") or item["path"].startswith("/folder")
            for item in listed
            if item["kind"] == "inexact"
        )
        far = sum(not -(2**63) <= os.lstat(path).st_mtime_ns < 2**63 for path in source.glob("[tf]*"))
        assert sum(item["kind"] == "inexact" for item in listed) == far
        assert far or kind == "ext4"
        assert f"copied {files} objects" in dsb.ok("backup", "one").replace(",", "")
        dsb("restore", "--to", tmp_path / "restored")
        # Path.rglob() of Python 3.11.2 ends at a link whose target is longer than a name may be.
        for path in (Path(folder) / name for folder, _, names in os.walk(source) for name in names):
            restored = tmp_path / "restored" / path.relative_to(source)
            if stat.S_ISREG(path.lstat().st_mode) and not path.name.startswith("huge"):
                assert restored.read_bytes() == path.read_bytes()
                # The file system that is restored to may not take the large one.
                assert len(set(os.listxattr(path)) ^ set(os.listxattr(restored))) <= 1
