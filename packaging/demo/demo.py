"""The main job, shown: a real tree, labelled disks that are plugged in, the real daemon, and a restore that equals it all.

As root, the disks are images on loop devices, and everything happens beside a udevd of its own, with a /run, mounts and
processes of its own (``tests/bed/private-udevd``): the machine sees two loop devices for a while. Anybody else gets the
same job with two folders as disks and ``dsb backup``; so does root with DEMO_WITHOUT_ROOT=1.

Every claim that is printed is checked. Whatever fails is told together with its step, and the exit status is 1. Nothing
is left behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
sys.path.insert(0, str(ROOT))

from distbackupd.model.disks import footprint  # noqa: E402 - the path to it is known only now
from distbackupd.model.text import say_size  # noqa: E402
from tests.bed.capabilities import PRIVATE_UDEVD, probe  # noqa: E402
from tests.bed.loop_disks import is_empty  # noqa: E402
from tests.bed.waiting import wait_until  # noqa: E402

TREES = ("/usr/share/doc", "/usr/share", "/usr/lib/python3")
MOST_FILES, MOST_BYTES = 6000, 200_000_000
CATALOGUE_ROOM = 32_000_000
"""Bytes for the catalogue's copy twice over, and for the file system's own tables."""
LONGEST = 115.0
"""Seconds after which the demo is ended by force."""
SETTINGS = 'keep_deleted = "0"  # what no file needs any more goes with the next session\nsettle = "1s"\n'


class Failed(Exception):
    """Something that was promised did not come about."""


@dataclass
class Stage:
    """The folder that all happens in, and how far we are."""

    folder: Path
    steps: int = 0
    step: str = ""
    began: float = field(default_factory=time.monotonic)
    contents: Counter[bytes] = field(default_factory=Counter)
    """How many files have this content, by its SHA-256."""
    share: int = 0
    """Megabytes that one disk may take: seven tenths of everything, so that two disks hold all once and not twice."""

    @property
    def tree(self) -> Path:
        """What is backed up."""
        return self.folder / "documents"

    def begin(self, step: str, explanation: str) -> None:
        """Headline of a step, and what happens in it."""
        self.steps += 1
        self.step = f"{self.steps}. {step}"
        show(f"\n{bold(self.step)}")
        show(textwrap.fill(explanation, 100, initial_indent="   ", subsequent_indent="   "))

    def run(self, line: str) -> str:
        """Run a line in a shell as the user would, and show it with what it says; what it said."""
        show(f"   $ {line}")
        done = self._do(line)
        for told in done.stdout.splitlines():
            show(f"     {told}")
        if done.returncode:
            raise Failed(f"'{line}' ended with status {done.returncode}")
        return done.stdout.strip()

    def ask(self, line: str) -> Any:
        """The JSON that a command prints."""
        return json.loads(self._do(line + " --json").stdout)

    def _do(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def environment(self) -> dict[str, str]:
        """That of a user whose shell finds our commands, with a catalogue of its own."""
        path = f"{BIN}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        return {**os.environ, "PATH": path, "DISTBACKUP_PATH": str(self.folder / "catalogue"), "LC_ALL": "C.UTF-8"}

    def copies(self) -> dict[int, int]:
        """Bytes by number of copies, as ``dsb info`` knows them."""
        return {int(copies): facts["bytes"] for copies, facts in self.ask("dsb info")["copies"].items()}


def main() -> int:
    """The outer half: chooses the way, and clears up whatever became of the inner half."""
    why_not = "DEMO_WITHOUT_ROOT is set" if os.environ.get("DEMO_WITHOUT_ROOT") else probe("ext4") or probe("udevd")
    if why_not:
        show(f"Without block devices ({why_not}): two folders take the place of the disks, 'dsb backup' that of the daemon.")
    else:
        show("distbackupd at work, beside a udevd of its own. The disks are images on loop devices.")
    folder = Path(tempfile.mkdtemp(prefix="distbackupd-demo-"))
    command = [sys.executable, __file__, "--in-folders" if why_not else "--on-disks", str(folder)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        process = subprocess.Popen(command if why_not else [str(PRIVATE_UDEVD), *command])
        try:
            return process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            show(f"\nThe demo FAILED: it took longer than {LONGEST:.0f} s.")
            return 1
        except KeyboardInterrupt:
            show("\nInterrupted.")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            return 130
        finally:
            process.kill()  # and with it every process inside
            process.wait()
    finally:
        for device in loop_devices_of(folder):
            subprocess.run(["losetup", "--detach", device], check=False)
            wait_until(lambda device=device: is_empty(device), f"{device} is detached")  # type: ignore[misc]
        shutil.rmtree(folder)


def inner(way: str, stage: Stage) -> int:
    """The inner half: the show itself. Its exit status."""
    try:
        make_tree(stage)
        if way == "--on-disks":
            show_on_disks(stage)
        else:
            show_in_folders(stage)
        compare(stage)
    except (Failed, AssertionError, OSError, subprocess.SubprocessError) as error:
        show(f"\nThe demo FAILED in step '{stage.step}': {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    except BaseException:
        show(f"\nThe demo FAILED in step '{stage.step}', by a mistake of its own:")
        raise
    show(f"\nDone in {time.monotonic() - stage.began:.0f} s. Disks, catalogue and copies are removed again.")
    return 0


def show_on_disks(stage: Stage) -> None:
    """Two ext4 disks on loop devices, and the daemon."""
    stage.begin(
        "Two labelled disks are made known",
        f"Each may take {stage.share} MB: together they cannot hold everything twice. A user mounts each of them once by "
        "hand, makes it known, and puts it back on the shelf.",
    )
    stage.run("dsb source map /documents documents")
    for name in ("shelf-01", "shelf-02"):
        with (stage.folder / f"{name}.img").open("wb") as image:
            image.truncate(image_size(stage.share * 1_000_000))
        # 4 KiB blocks, as on a big disk.
        stage.run(f"mkfs.ext4 -q -b 4096 -m 0 -L {name} {name}.img")
        device = plug(stage, name)
        (stage.folder / "mnt").mkdir(exist_ok=True)
        stage.run(f"mount {device} mnt")
        stage.run(f"dsb disk add {name} mnt --size {stage.share}M")
        stage.run("umount mnt")
        unplug(stage, device)
    (stage.folder / "distbackupd.toml").write_text(SETTINGS)
    with Daemon(stage) as daemon:
        daemon.wait_for("scanned .* new")
        stage.run("dsb info")
        check(set(stage.copies()) == {0}, "nothing has a copy yet")

        stage.begin("shelf-01 is plugged in", "Nothing is typed but that: udev tells the daemon, the daemon does the rest.")
        back_up(stage, daemon, "shelf-01")
        stage.run("dsb info")
        check(set(stage.copies()) == {0, 1}, "some objects have a copy now, and some found no room")

        stage.begin("shelf-02 is plugged in", "What has no copy yet goes first; the room that is left takes second copies.")
        back_up(stage, daemon, "shelf-02")
        stage.run("dsb info")
        check(set(stage.copies()) == {1, 2}, "everything has a copy now, and some things two")

        stage.begin("A file is changed, another is deleted", "Nobody tells the daemon: it watches the sources.")
        changed, deleted = victims(stage, "shelf-01")
        stage.run(f"echo 'a line more' >> {shlex.quote(changed)}")
        daemon.wait_for("scanned .* 1 changed")
        stage.run(f"rm {shlex.quote(deleted)}")
        daemon.wait_for("scanned .* 1 gone")
        check(0 in stage.copies(), "the changed file has no copy yet")

        stage.begin(
            "shelf-01 is plugged in again",
            "The changed file is copied. Which contents no file needs any more a whole scan finds, nightly or by hand; "
            "with keep_deleted = 0 their copies are deleted at once.",
        )
        stage.run("dsb update")
        back_up(stage, daemon, "shelf-01", "copied .*deleted", leave=True)
        stage.run("dsb info")
        check(0 not in stage.copies(), "everything has a copy again")

        stage.begin("Everything is restored", "One disk after another, into an empty folder.")
        (stage.folder / "restored").mkdir()
        stage.run("dsb restore shelf-01 restored")
        unplug(stage, daemon.device)
        back_up(stage, daemon, "shelf-02", leave=True)
        stage.run("dsb restore shelf-02 restored")
        unplug(stage, daemon.device)


def show_in_folders(stage: Stage) -> None:
    """Two folders for disks, and no daemon."""
    explanation = f"Each may take {stage.share} MB: together they cannot hold everything twice."
    stage.begin("Two folders are made known as disks", explanation)
    stage.run("dsb source map /documents documents")
    for name in ("shelf-01", "shelf-02"):
        (stage.folder / name).mkdir()
        stage.run(f"dsb disk add {name} {name} --folder --size {stage.share}M")
    (stage.folder / "distbackupd.toml").write_text(SETTINGS)

    stage.begin("The sources are scanned", "What is there, with all metadata, and the hash of every file.")
    stage.run("dsb update")
    check(set(stage.copies()) == {0}, "nothing has a copy yet")

    stage.begin("shelf-01 is backed up to", "It cannot hold everything.")
    stage.run("dsb backup shelf-01")
    check(set(stage.copies()) == {0, 1}, "some objects have a copy now, and some found no room")

    stage.begin("shelf-02 is backed up to", "What has no copy yet goes first; the room that is left takes second copies.")
    stage.run("dsb backup shelf-02")
    check(set(stage.copies()) == {1, 2}, "everything has a copy now, and some things two")

    stage.begin(
        "A file is changed, another is deleted", "The next backup scans first (-u), copies the one, drops the other."
    )
    changed, deleted = victims(stage, "shelf-01")
    stage.run(f"echo 'a line more' >> {shlex.quote(changed)}")
    stage.run(f"rm {shlex.quote(deleted)}")
    told = stage.run("dsb --config distbackupd.toml backup -u shelf-01")
    check(re.search("copied .*deleted", told), "something was copied and something was deleted")
    check(0 not in stage.copies(), "everything has a copy again")

    stage.begin("Everything is restored", "One disk after another, into an empty folder.")
    (stage.folder / "restored").mkdir()
    stage.run("dsb restore shelf-01 restored")
    stage.run("dsb restore shelf-02 restored")


def make_tree(stage: Stage) -> None:
    """Copy real files, all kinds of them, and not more than can be shown in a minute."""
    source = next((Path(tree) for tree in TREES if count_files(Path(tree)) >= 1000), Path(TREES[-1]))
    stage.begin("Something to back up", f"A copy of {source}.")
    stage.tree.mkdir()
    files = size = 0
    for entry in sorted(source.iterdir()):
        here = [path for path in (entry, *entry.rglob("*")) if path.is_file() and not path.is_symlink()]
        bytes_here = sum(path.stat().st_size for path in here)
        if files + len(here) > MOST_FILES or size + bytes_here > MOST_BYTES:
            continue
        subprocess.run(["cp", "--archive", "--", entry, stage.tree], check=False, stderr=subprocess.DEVNULL)
        files, size = files + len(here), size + bytes_here
    total = 0
    for path in stage.tree.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            digest = digest_of(path)
            stage.contents[digest] += 1
            if stage.contents[digest] == 1:
                total += footprint(path.stat().st_size, 4096)
    stage.share = total * 7 // 10 // 1_000_000
    show(f"   {files:,} files, {say_size(size)}")


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).digest()


def count_files(tree: Path) -> int:
    """Regular files below a folder, none where there is no folder."""
    return sum(len(files) for _folder, _folders, files in os.walk(tree))


def image_size(share: int) -> int:
    """Bytes of an ext4 image that has ``share`` bytes to give, beside its tables, its journal and the catalogue's room."""
    return (share + CATALOGUE_ROOM) * 107 // 100 // 4096 * 4096


class Daemon:
    """The real daemon in the foreground; its log is shown while it is written."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.device = ""

    def __enter__(self) -> Daemon:
        """Start it."""
        self._stage.begin("The daemon starts", "As systemd would start it. It scans, then it waits for disks.")
        command = ["distbackupd", "--config", "distbackupd.toml"]
        show(f"   $ {shlex.join(command)} &")
        self._process = subprocess.Popen(
            command,
            cwd=self._stage.folder,
            env=self._stage.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            show(f"     distbackupd: {line.rstrip()}")
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str, seconds: float = 45.0) -> None:
        """Wait until the log says so."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(f"the daemon's log did not say '{pattern}' within {seconds:.0f} s") from None
            if line is None:
                raise Failed("the daemon ended")
            if re.search(pattern, line):
                return

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ask it to stop, as systemd would; it must obey."""
        self._process.terminate()
        status = self._process.wait(20)
        self._reader.join()
        check(kind or status == 0, f"the daemon stops when it is asked to, with status 0 (it was {status})")


def plug(stage: Stage, name: str) -> str:
    """Attach the disk's image; its device."""
    return stage.run(f"losetup --find --show {name}.img")


def unplug(stage: Stage, device: str) -> None:
    """Detach it, which must be possible at once: nothing is mounted."""
    stage.run(f"losetup --detach {device}")
    wait_until(lambda: is_empty(device), f"{device} is free again, as nobody has it mounted")


def back_up(stage: Stage, daemon: Daemon, name: str, what: str = "", leave: bool = False) -> None:
    """Plug the disk, and wait until the daemon says that all is done; then it is unplugged, or left."""
    daemon.device = plug(stage, name)
    if what:
        daemon.wait_for(f"{name}: {what}")
    daemon.wait_for(f"{name} is done, you may unplug it")
    check(daemon.device not in Path("/proc/self/mounts").read_text(), f"{name} is unmounted")
    if not leave:
        unplug(stage, daemon.device)


def victims(stage: Stage, disk: str) -> tuple[str, str]:
    """Two files with a content of their own that the disk has a copy of: one to change and one to delete."""
    listed = stage.ask(f"dsb ls -d {disk}")
    found: Iterator[str] = (
        entry["path"].lstrip("/")
        for entry in listed
        if 0 < entry["size"] < 100_000
        and not entry["path"].endswith(".gz")
        and stage.contents[digest_of(stage.folder / entry["path"].lstrip("/"))] == 1
    )
    return next(found), next(found)


def compare(stage: Stage) -> None:
    """What was restored equals the source, in content and, where rsync is there to say it, in all its metadata."""
    stage.begin("What came back equals what is there", "The content of every file, then every owner, mode, time and link.")
    stage.run("diff -r --no-dereference documents restored/documents")
    if shutil.which("rsync"):
        words = "-aHAXS --delete --dry-run --itemize-changes"
        differences = stage.run(f"rsync {words} documents/ restored/documents/")
        check(not differences, "rsync finds nothing to do")
    show("     (no difference)")


def check(condition: object, claim: str) -> None:
    """Fail unless it is so."""
    if not condition:
        raise Failed(f"it is not so that {claim}")


def loop_devices_of(folder: Path) -> list[str]:
    """Loop devices that are still attached to our images."""
    found = []
    for backing in Path("/sys/class/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing.read_text().startswith(f"{folder}/"):
                found.append(f"/dev/{backing.parts[4]}")
    return found


def bold(text: str) -> str:
    """For terminals."""
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


def show(text: str) -> None:
    """One line at once, whole even when the daemon's log comes in between."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has us ignore it, in the background
    sys.exit(inner(sys.argv[1], Stage(Path(sys.argv[2]))) if sys.argv[1:] else main())
