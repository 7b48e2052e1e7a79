"""The soak: a daemon, a source that never rests, disks that come and go, and every trouble in turn."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.bed.loop_disks import LoopDisk, make_image, mounted_at, plugged, run, unmount_all
from tests.bed.programs import Daemon, Dsb, running_daemon
from tests.soak import reader
from tests.soak.churn import Churn
from tests.soak.daemon import WATCHES

_SAMPLE_SECONDS = 1.0
_WARM_UP = 2
"""So many disks come before anything is measured: the first of them fill caches."""
_MEGABYTE = 1 << 20


class Sample(NamedTuple):
    """What the daemon has at one moment; ``memory``: anonymous bytes that are resident."""

    memory: int
    threads: int
    descriptors: int
    mounts: int
    watches: int


@dataclass
class Outcome:
    """What a soak found. ``wrong``: what must not be; empty if all is well."""

    seconds: float
    changes: int = 0
    plugs: int = 0
    troubles: dict[str, int] = field(default_factory=dict)
    found_by_scan: int = 0
    lines: int = 0
    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def quarter(self, number: int) -> Sample:
        """The least of each figure in one quarter of the time, 0 to 3: what comes and goes does not count as growth."""
        length = max(1, len(self.samples) // 4)
        part = self.samples[number * length : (number + 1) * length]
        return Sample(*(min(figures) for figures in zip(*part, strict=True)))

    def figures(self) -> str:
        """A table with the least of each quarter: what goes on growing is seen."""
        quarters = [self.quarter(number) for number in range(4)]
        lines = [
            f"{self.seconds:.0f} s: {self.changes:,} changes ({self.changes * 60 / self.seconds:,.0f} a minute)",
            f"{self.plugs} disks plugged in, {self.lines:,} lines logged, troubles {self.troubles}",
            f"{self.found_by_scan:,} entries were left for the scan to find",
            "".join(f"{title:>16}" for title in ("", "first quarter", "second", "third", "last quarter")),
        ]
        for name in Sample._fields:
            figures = [getattr(quarter, name) for quarter in quarters]
            shown = [f"{figure / _MEGABYTE:.1f} MiB" if name == "memory" else str(figure) for figure in figures]
            lines.append("".join(f"{word:>16}" for word in (name, *shown)))
        return "\n".join(lines)


class Soak:
    """In ``place``; with a udevd of its own around it. ``say`` hears how it goes."""

    def __init__(
        self, place: Path, say: Callable[[str], object] = print, period: float = 20, a_minute: int = 10_000
    ) -> None:
        self._place = place
        self._say = say
        self._period = period
        self._a_minute = a_minute
        self._source = place / "source"
        self._folders = 0
        self._disks: dict[str, LoopDisk] = {}
        self._dsb = Dsb(
            place / "catalogue",
            settle="1s",
            scan_at="04:00",
            keep_deleted="1min",
            verify_share="2%",
            brake_files=1_000_000_000,
            power_off=False,
        )

    def run(self, seconds: float) -> Outcome:
        """Soak for so long, then let it come to rest and look."""
        outcome = Outcome(seconds)
        with ExitStack() as cleanup:
            cleanup.enter_context(self._source_disk())
            churn = Churn(self._source, self._a_minute, Random(7))
            self._dsb.ok("source", "map", "/", self._source)
            for name in ("one", "two", "three"):
                self._disks[name] = self._new_disk(name)
                cleanup.callback(self._take_away, self._disks[name])
            folders = sum(1 for _ in os.walk(self._source))
            # Three quarters of the limit are used: it is met by what is made later.
            os.environ[WATCHES] = str(folders * 4 // 3 + 40)
            cleanup.callback(os.environ.pop, WATCHES)
            with running_daemon(self._dsb, module="tests.soak.daemon") as daemon:
                daemon.wait_for("watching 1 source", r"scanned [\d,]+ entries", seconds=120)
                churn.start()
                try:
                    self._play(daemon, churn, outcome, time.monotonic() + seconds)
                finally:
                    churn.stop()
                outcome.changes = churn.changes
                status = daemon.stop(seconds=60)
                # Each file that was not copied is named.
                outcome.lines = sum("skipped" not in line for line in daemon.log.splitlines())
                if status:
                    outcome.wrong.append(f"the daemon ended with {status}")
                if "a bug in distbackupd" in daemon.log or "Traceback" in daemon.log:
                    outcome.wrong.append(f"the daemon logged a bug: {daemon.log[-3000:]}")
            self._compare(outcome)
        self._judge(outcome)
        return outcome

    def _play(self, daemon: Daemon, churn: Churn, outcome: Outcome, end: float) -> None:
        troubles = [self._overflow, self._lose_udev_events, self._suspend]
        enough = threading.Event()
        sampling = threading.Thread(target=self._sample, args=[daemon.process.pid, outcome, enough], daemon=True)
        names = list(self._disks)
        number = 0
        while time.monotonic() < end or number < len(troubles):
            began = time.monotonic()
            if number == _WARM_UP:
                sampling.start()
            self._plug(daemon, names[number % len(names)], outcome)
            trouble = troubles[number % len(troubles)]
            trouble(daemon, churn)
            name = trouble.__name__.strip("_")
            outcome.troubles[name] = outcome.troubles.get(name, 0) + 1
            number += 1
            taken = time.monotonic() - began
            self._say(
                f"{max(0, end - began):.0f} s left; {taken:.0f} s; {churn.changes:,} changes, {_look(daemon.process.pid)}"
            )
            time.sleep(max(0, min(end, began + self._period) - time.monotonic()))
        enough.set()
        if sampling.ident is not None:
            sampling.join()
        outcome.samples.append(_look(daemon.process.pid))

    def _plug(self, daemon: Daemon, name: str, outcome: Outcome) -> None:
        disk = self._disks[name]
        disk.plug()
        try:
            daemon.wait_for(f"{name} is done, you may unplug it", seconds=300)
        finally:
            disk.unplug()
        outcome.plugs += 1

    # --- troubles ---

    def _overflow(self, daemon: Daemon, churn: Churn) -> None:
        """More happens than the kernel's queue of 16,384 events holds."""
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        with _standing_still(daemon):
            churn.flood(limit + 1000)

    def _lose_udev_events(self, daemon: Daemon, _churn: Churn) -> None:
        """More than the kernel keeps for the daemon's subscription: ENOBUFS."""
        with _standing_still(daemon):
            for _ in range(3):
                # Without its --settle, which waits for ever for a device that somebody else takes away meanwhile.
                run("udevadm", "trigger", "--subsystem-match=block", "--action=change")
                subprocess.run(["udevadm", "settle", "--timeout=5"], check=False)

    def _suspend(self, daemon: Daemon, _churn: Churn) -> None:
        """As in a machine that sleeps, but for the clock."""
        with _standing_still(daemon):
            time.sleep(min(3.0, self._period / 3))

    # --- at the end ---

    def _compare(self, outcome: Outcome) -> None:
        before = reader.read_catalogue(self._dsb.catalogue)
        real = reader.read_source(self._source)
        self._folders = sum(1 for _ in os.walk(self._source))
        outcome.found_by_scan = len(reader.differences(real, before))
        with ExitStack() as shelf:
            for disk in self._disks.values():
                shelf.enter_context(plugged(disk))
            subprocess.run(["udevadm", "settle", "--timeout=30"], check=False)
            with running_daemon(self._dsb, "--once", ready=False) as daemon:
                status = daemon.process.wait(600)
                if status:
                    outcome.wrong.append(f"distbackupd --once ended with {status}: {daemon.log[-2000:]}")
        outcome.wrong += reader.differences(real, reader.read_catalogue(self._dsb.catalogue))[:20]
        with ExitStack() as shelf:
            roots = {}
            for name, disk in self._disks.items():
                device = shelf.enter_context(plugged(disk, read_only=True)).device
                roots[name] = shelf.enter_context(mounted_at(device, self._place / "seen" / name, "-o", "ro"))
            outcome.wrong += reader.untrue_copies(self._dsb.catalogue, roots)[:20]

    def _judge(self, outcome: Outcome) -> None:
        if len(outcome.samples) < 8:
            return
        first, last = outcome.quarter(0), outcome.quarter(3)
        for name, more in (("threads", 1), ("descriptors", 3), ("mounts", 1)):
            if getattr(last, name) > getattr(first, name) + more:
                outcome.wrong.append(f"{name} grew from {getattr(first, name)} to {getattr(last, name)}")
        # The heap is torn into pieces at first; what leaks grows for as long as it takes.
        if last.memory > first.memory * 1.25 + 8 * _MEGABYTE:
            outcome.wrong.append(f"memory grew from {first.memory:,} to {last.memory:,} bytes")
        if last.watches > self._folders:
            outcome.wrong.append(f"{last.watches} watches are held for {self._folders} folders")
        if outcome.lines > outcome.seconds * 10 + 400:
            outcome.wrong.append(f"{outcome.lines:,} lines were logged")

    # --- the bed ---

    @contextmanager
    def _source_disk(self) -> Iterator[None]:
        image = self._place / "source.img"
        with image.open("wb") as file:
            file.truncate(2 << 30)
        run("mkfs.ext4", "-q", "-F", "-N", "200000", "-E", "lazy_itable_init=1,nodiscard", image)
        disk = LoopDisk(image, "ext4", "")
        with plugged(disk) as volume, mounted_at(volume.device, self._source):
            (self._source / "lost+found").rmdir()
            yield

    def _new_disk(self, name: str) -> LoopDisk:
        disk = make_image(self._place / f"{name}.img", "ext4", name, 1000)
        with plugged(disk) as volume, mounted_at(volume.device, self._place / "by hand") as root:
            self._dsb.ok("disk", "add", name, root, "--size", "40M" if name == "one" else "400M")
        return disk

    def _take_away(self, disk: LoopDisk) -> None:
        if disk.device:
            unmount_all(disk.device)
            disk.unplug()

    def _sample(self, process: int, outcome: Outcome, enough: threading.Event) -> None:
        while not enough.wait(_SAMPLE_SECONDS):
            outcome.samples.append(_look(process))


@contextmanager
def _standing_still(daemon: Daemon) -> Iterator[None]:
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.process.send_signal(signal.SIGCONT)


def _look(process: int) -> Sample:
    proc = Path(f"/proc/{process}")
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    watches = descriptors = 0
    for name in os.listdir(proc / "fd"):
        descriptors += 1
        try:
            watches += (proc / "fdinfo" / name).read_text().count("inotify wd")
        except OSError:  # closed meanwhile
            continue
    mounts = (proc / "mountinfo").read_text().count("\n")
    return Sample(int(status["RssAnon"].split()[0]) << 10, int(status["Threads"]), descriptors, mounts, watches)
