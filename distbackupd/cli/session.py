"""What a command works with: the catalogue, the engine's ports, the settings, and a way to be stopped."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from distbackupd.cli.progress import make_reporter
from distbackupd.config.places import CATALOGUE_NAME, SYSTEM_FOLDER, catalogue_folder
from distbackupd.config.settings import Settings, load_settings
from distbackupd.engine.bench import Bench
from distbackupd.engine.door import HeldDisk, find_disk, find_disk_at, opened, opened_at
from distbackupd.engine.examining import sound_catalogue
from distbackupd.engine.timekeeping import glance_at_clock, look_at_clock
from distbackupd.model.disks import BackupDisk
from distbackupd.model.text import printable
from distbackupd.wiring import bench_on, engine_lock, open_catalogue, publish_disks, system_mounter


@dataclass(frozen=True)
class CommandSession:
    """One command's surroundings. ``stop`` is set by Ctrl+C and SIGTERM."""

    arguments: argparse.Namespace
    bench: Bench
    settings: Settings
    stop: threading.Event
    folder: Path

    @property
    def json(self) -> bool:
        """Whether data is printed for machines."""
        return bool(self.arguments.json)

    @property
    def simulate(self) -> bool:
        """Whether nothing may be changed."""
        return bool(self.arguments.noaction)

    def find_disk(self, name: str) -> BackupDisk:
        """The disk that a name, UUID or path means. Raises UsageError, DiskNotOurs."""
        if "/" in name:
            return find_disk_at(self.bench, os.path.realpath(os.fsencode(name)))[0]
        return find_disk(self.bench, name)

    @contextlib.contextmanager
    def disk_here(self, name: str, read_only: bool = False) -> Iterator[HeldDisk]:
        """The disk that a name, UUID or path means, held while the context lasts; mounted if it is only plugged in.

        Raises UsageError, DiskTrouble in a sentence that says what to do.
        """
        if "/" in name:
            with opened_at(self.bench, os.path.realpath(os.fsencode(name))) as held:
                yield held
            return
        with opened(self.bench, find_disk(self.bench, name), read_only, may_mount=os.geteuid() == 0) as held:
            yield held

    def publish_disks(self, *disks: BackupDisk) -> None:
        """Let udev and the helper know how it stands with these disks, as far as this user may."""
        if os.geteuid() == 0 and self.folder == SYSTEM_FOLDER:
            publish_disks(self.bench, disks)


@contextlib.contextmanager
def command_session(arguments: argparse.Namespace, writes: bool) -> Iterator[CommandSession]:
    """Open what the command needs; ``writes``: it changes the catalogue, or works with a disk for a while.

    Made-up objects (``dsb simulate --synthetic``) need no catalogue, so they get an empty one for a while.

    Raises CatalogueTrouble, EngineBusy, UsageError.
    """
    if getattr(arguments, "synthetic", None):
        with tempfile.TemporaryDirectory() as nowhere, _session_on(Path(nowhere), arguments, writes=True) as session:
            yield session
        return
    with _session_on(catalogue_folder(arguments.database, os.environ), arguments, writes) as session:
        yield session


@contextlib.contextmanager
def _session_on(folder: Path, arguments: argparse.Namespace, writes: bool) -> Iterator[CommandSession]:
    settings = load_settings(Path(arguments.config) if arguments.config else None)
    stop = threading.Event()
    # What changes nothing makes no catalogue either.
    read_only = not writes or (arguments.noaction and not (folder / CATALOGUE_NAME).exists())
    with open_catalogue(folder, read_only) as catalogue:
        activity = printable(f"dsb {arguments.command_name} {getattr(arguments, 'disk', None) or ''}").rstrip()
        with engine_lock(folder, activity) if writes else nullcontext(), stopped_by_signals(stop):
            bench = bench_on(catalogue, make_reporter(arguments.json), system_mounter(settings), folder)
            changes = writes and not arguments.noaction
            with sound_catalogue(bench) if changes else nullcontext():
                if changes:
                    look_at_clock(bench)
                elif writes:
                    glance_at_clock(bench)
                yield CommandSession(arguments, bench, settings, stop, folder)


@contextlib.contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl+C or SIGTERM stops at a safe place; a second Ctrl+C stops at once, which is safe too."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        sys.stderr.write("stopping as soon as nothing is left half-done; press Ctrl+C again to stop at once\n")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
