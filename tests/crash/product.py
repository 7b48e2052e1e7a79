"""The product, played in forked children of a process that has imported it already: a ``dsb`` each, in a few milliseconds.

The only module here that knows it; it says nothing to the reader.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import gc
import importlib
import os
import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.crash.faults import Fault, arm

_PATIENCE = 60


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status (-9: killed), what it said, and whether that was a traceback."""

    status: int
    output: str
    complaints: str

    @property
    def crashed(self) -> bool:
        """Whether it showed a traceback."""
        return "Traceback (most recent call last)" in self.output + self.complaints


def prepare() -> None:
    """Import all of the product once, and let its children inherit that."""
    # Pure in what they answer, and asked anew by each command.
    ctypes.util.find_library = functools.cache(ctypes.util.find_library)
    for library in ("udev", "c"):
        ctypes.util.find_library(library)
    import distbackupd

    for module in pkgutil.walk_packages(distbackupd.__path__, "distbackupd."):
        if ".stand_alone." not in module.name and not module.name.startswith(("distbackupd.agent", "distbackupd.daemon")):
            importlib.import_module(module.name)
    cli: Any = importlib.import_module("distbackupd.cli.main")
    cli.build_parser = functools.cache(cli.build_parser)
    cli.build_parser()
    gc.collect()
    gc.freeze()


def dsb(arguments: Sequence[str], quiet: str, fault: Fault | None = None) -> Outcome:
    """Run one command; ``quiet``: a folder for what it says."""
    said = [os.path.join(quiet, name) for name in ("stdout", "stderr")]
    child = os.fork()
    if not child:
        _be_dsb(arguments, said, fault)
    status = _wait(child)
    texts = []
    for path in said:
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="replace") as file:
            texts.append(file.read())
    return Outcome(status, texts[0], texts[1])


def _be_dsb(arguments: Sequence[str], said: Sequence[str], fault: Fault | None) -> None:
    status = 70
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
        for number, path in enumerate(said, 1):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
        from distbackupd.cli import main as cli

        arm(fault)
        try:
            status = cli.main(list(arguments))
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else 1
        except BaseException:  # noqa: BLE001 - what a user would see is what is looked for
            arm(None)
            traceback.print_exc()
        arm(None)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)


def _wait(child: int) -> int:
    deadline = time.monotonic() + _PATIENCE
    watcher = os.pidfd_open(child)
    try:
        import select

        ready, _, _ = select.select([watcher], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -99
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(watcher)
