"""What many files cost: time, processor and memory of each command, and of the daemon at rest. From the repository's root:

    .venv/bin/python -m tests.benchmarks.scale 100000 200000

For each number of files a tree of small ones is made (folders of 1 to some thousands, names as people give them), backed up
to a folder and asked about. With two numbers or more the last columns tell how each figure grows: 1.0 is as the files do,
0 is not at all. Peak memory is that of the largest process. The daemon is measured as root only, beside a udevd of its own.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.bed.capabilities import PRIVATE_UDEVD
from tests.bed.programs import Dsb, running_daemon
from tests.bed.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
_WORDS = ("holiday", "invoice", "IMG", "scan", "notes", "final", "draft", "letter", "Übersicht", "backup", "track", "report")
_LARGEST = 4000
"""Files in the largest folders."""


class Figures(NamedTuple):
    """What one step took: seconds on the clock and of processors, and MB of memory at its peak."""

    wall: float
    processor: float
    memory: float


def main() -> None:
    arguments = _arguments()
    if arguments.daemon:
        print(json.dumps(measure_daemon(Path(arguments.daemon), arguments.seconds)))
        return
    rows: dict[str, list[Figures]] = {}
    for files in arguments.files:
        with tempfile.TemporaryDirectory(prefix="distbackupd-scale-", dir=arguments.folder) as place:
            for name, figures in measure(Path(place), files, arguments):
                rows.setdefault(name, []).append(figures)
                print(f"{files:>10,} {name:<26} {_told(figures)}", file=sys.stderr, flush=True)
    print(*table(arguments.files, rows), sep="\n")


def measure(place: Path, files: int, arguments: Namespace) -> Iterator[tuple[str, Figures]]:
    """Each step with its figures, as it is done."""
    made = make_tree(place / "source", files, arguments.seed)
    dsb = Dsb(place / "catalogue", settle="1s", scan_at="04:00", verify_share="0%", reread="0s")
    for words in (("source", "map", "/data", place / "source"), ("disk", "add", "one", place / "disk", "--folder")):
        dsb.ok(*words)
    folder = f"/data/{made[len(made) // 2]}"
    yield "update, all new", run(dsb, "update")
    yield "update, nothing new", run(dsb, "update")
    yield "backup, all", run(dsb, "backup", "one")
    yield "backup, nothing new", run(dsb, "backup", "one")
    for number in range(100):
        (place / "source" / made[number * 7 % len(made)] / f"new {number}").write_text(f"new {number}")
    yield "backup -u, 100 new files", run(dsb, "backup", "-u", "one")
    yield "verify", run(dsb, "verify", "one")
    yield "ls of everything", run(dsb, "ls")
    yield "ls of a folder", run(dsb, "ls", folder)
    yield "ls --json of everything", run(dsb, "--json", "ls")
    yield "ls --problems", run(dsb, "ls", "--problems")
    yield "log of a file", run(dsb, "log", f"{folder}/{min(os.listdir(place / 'source' / made[len(made) // 2]))}")
    yield "status", run(dsb, "status")
    yield "info", run(dsb, "info")
    yield "simulate, 2 more disks", run(dsb, "simulate", "--add", "1T", "--add", "1T")
    yield "restore of a folder", run(dsb, "restore", "--to", place / "restored", folder)
    if os.geteuid() == 0:
        command = [PRIVATE_UDEVD, sys.executable, "-m", "tests.benchmarks.scale", "--daemon", place]
        told = subprocess.run(
            [*command, "--seconds", str(arguments.seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        for name, figures in json.loads(told.stdout).items():
            yield name, Figures(*figures)


def make_tree(root: Path, files: int, seed: int) -> list[str]:
    """So many files of up to 2 kB below ``root``; its folders, by their paths. Folders are small mostly, and some large."""
    random = Random(seed)
    folders: list[str] = []
    made = 0
    while made < files:
        above = folders[random.randrange(len(folders))] if folders and random.random() < 0.7 else ""
        if above.count("/") > 8:
            continue
        folder = os.path.join(above, f"{random.choice(_WORDS)} {len(folders):06}")
        os.makedirs(root / folder)
        folders.append(folder)
        for number in range(
            min(files - made, max(1, round(random.paretovariate(0.9))) if random.random() < 0.5 else 20, _LARGEST)
        ):
            name = f"{random.choice(_WORDS)}-{number:04}-{random.randrange(10**6)}.{random.choice(('jpg', 'txt', 'pdf'))}"
            with open(root / folder / name, "wb") as file:
                file.write(b"%d " % made * random.randrange(1, 200))
            made += 1
    return folders


def run(dsb: Dsb, *words: str | Path) -> Figures:
    """A command of ``dsb`` that must succeed, with its figures."""
    command = [sys.executable, "-m", "distbackupd.cli.main", *dsb.words(*words)]
    began = time.monotonic()
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=complaints)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        complaints.seek(0)
        assert process.returncode == 0, (words, process.returncode, complaints.read()[-2000:])
    return Figures(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


def measure_daemon(place: Path, seconds: float) -> dict[str, Figures]:
    """The daemon from its start, and at rest for so long: ``processor`` is what it takes then."""
    dsb = Dsb(place / "catalogue", settle="1s", scan_at="04:00", verify_share="0%", reread="0s")
    began = time.monotonic()
    with running_daemon(dsb) as daemon:
        ready = Figures(time.monotonic() - began, _computed(daemon.process.pid), _memory(daemon.process.pid, "VmRSS"))
        wait_until(lambda: re.search("scanned .*entries", daemon.log), "the first scan is done", 3600)
        wait_until(lambda: "watching 1 source" in daemon.log, "it watches", 600)
        scanned = Figures(time.monotonic() - began, _computed(daemon.process.pid), _memory(daemon.process.pid, "VmHWM"))
        time.sleep(5)
        before = _computed(daemon.process.pid)
        time.sleep(seconds)
        rest = Figures(seconds, _computed(daemon.process.pid) - before, _memory(daemon.process.pid, "VmRSS"))
        assert daemon.stop(seconds=60) == 0
    return {"daemon until READY": ready, "daemon, first scan done": scanned, "daemon at rest": rest}


def _memory(process: int, name: str) -> float:
    status = Path(f"/proc/{process}/status").read_text("ascii")
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1000  # type: ignore[index] - the kernel always tells it


def _computed(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(files: list[int], rows: dict[str, list[Figures]]) -> Iterator[str]:
    """The figures by step and number of files, and how they grow from the first number to the last."""
    head = "".join(f"{number:>12,} files{'':<19}" for number in files)
    yield f"{'':<26} {head}" + ("growth: clock, processor, memory" if len(files) > 1 else "")
    for name, figures in rows.items():
        line = f"{name:<26} " + "".join(f"{_told(one):<37}" for one in figures)
        if len(figures) > 1:
            line += "  ".join(
                f"{_exponent(a, b, files[0], files[-1]):5.2f}" for a, b in zip(figures[0], figures[-1], strict=True)
            )
        yield line.rstrip()


def _told(figures: Figures) -> str:
    return f"{figures.wall:8.1f} s {figures.processor:8.2f} CPU s {figures.memory:6.0f} MB"


def _exponent(before: float, after: float, files_before: int, files_after: int) -> float:
    """Of the power of the files with which a figure grows; tiny figures do not."""
    if before < 0.05 or after < 0.05:
        return 0.0
    return math.log(after / before) / math.log(files_after / files_before)


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="scale", description=__doc__.split("\n", 1)[0])
    parser.add_argument("files", nargs="*", type=int, default=[100_000, 200_000], help="how many, once or more")
    parser.add_argument("--folder", help="where all is made, and removed afterwards (default: the temporary folder)")
    parser.add_argument("--seconds", type=float, default=60, help="how long the daemon is watched at rest")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--daemon", help="(for itself: the place of what was made)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
