"""Outside commands, run in one of two ways: by this process, or for it by PID 1, outside of the helper's sandbox.

In the sandbox a mount would show to this process alone. So PID 1 runs what mounts, checks, unlocks or looks into the
processes of others, as a transient unit with the whole machine before it: no shell reads its words. Input, output and exit
status pass through either way.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

_BY_PID_1 = (
    "systemd-run",
    "--quiet",
    "--pipe",
    "--wait",
    "--collect",
    # Drivers in user space (ntfs-3g, exfat-fuse) live on when the mount(8) that started them has ended.
    "--property=KillMode=process",
    # So that a shutdown that has begun does not refuse to unmount.
    "--property=DefaultDependencies=no",
    # The journal hears what came of it, not of each unit that came and went.
    "--property=LogLevelMax=err",
    "--setenv=LC_ALL=C",
    "--",
)

_NOT_RUN = re.compile(rb"^Failed to (?:connect to bus|start transient).*", re.MULTILINE)
"""What systemd-run says when it failed itself; what the command says passes through."""

_FOLDERS_OF_ROOT = "/usr/local/sbin:/usr/sbin:/sbin"

_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_RUN_MODULE = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__')"
"""An installed program finds its packages through its launcher, which Python does not hand on."""

Word = str | bytes


class CommandFailed(Exception):
    """A command did not succeed; ``str(error)`` is what it said, in one line without a full stop."""

    def __init__(self, sentence: str, status: int = -1) -> None:
        super().__init__(sentence)
        self.status = status
        """Its exit status; -1: it could not be run."""


class Finished(NamedTuple):
    """A command that ended. ``output`` and ``complaints`` are its standard output and standard error."""

    status: int
    output: bytes
    complaints: bytes


class Commands:
    """Runs outside commands; ``delegated``: not as children of this process, but by PID 1. Any thread may call it."""

    def __init__(self, delegated: bool = False) -> None:
        self.delegated = delegated
        self._prefix = _BY_PID_1 if delegated else ()

    def run(self, words: Sequence[Word], given: bytes = b"") -> bytes:
        """Run to the end; ``given`` is its standard input. Its standard output. Raises CommandFailed."""
        done = self.attempt(words, given)
        if done.status:
            raise CommandFailed(
                condense(done.complaints) or f"{os.fsdecode(words[0])} ended with status {done.status}", done.status
            )
        return done.output

    def attempt(self, words: Sequence[Word], given: bytes = b"") -> Finished:
        """Run to the end, whatever its exit status is. Raises CommandFailed if it could not be run at all."""
        program = os.fsdecode(words[0])
        if not is_installed(program):
            raise CommandFailed(f"{program} is not installed")
        command = [os.fsencode(word) for word in words]
        if self.delegated:
            # PID 1 expands $NAME in the words of what it runs, where nobody doubled the sign.
            command = [*map(os.fsencode, self._prefix), *(word.replace(b"$", b"$$") for word in command)]
        environment = {**os.environ, "LC_ALL": "C", "PATH": _search_path()}
        try:
            done = subprocess.run(command, input=given, capture_output=True, env=environment, check=False)
        except OSError as error:
            raise CommandFailed(f"{os.fsdecode(command[0])} cannot be started: {error.strerror}") from error
        if self.delegated and done.returncode and (said := _NOT_RUN.search(done.stderr)):
            raise CommandFailed(f"systemd cannot be asked to run {program}: {condense(said[0])}")
        return Finished(done.returncode, done.stdout, done.stderr)

    def run_module(self, module: str, *words: Word) -> bytes:
        """Run a module of this package as a program of its own, wherever the package lies; as :meth:`run`."""
        return self.run([sys.executable, "-P", "-c", _RUN_MODULE, _PACKAGES, module, *words])


def is_installed(program: str) -> bool:
    """Whether there is such a command, also where the search path of a user leaves out root's commands."""
    return shutil.which(program, path=_search_path()) is not None


def condense(stderr: bytes) -> str:
    """What a command said, in one line: without ``mount: /its/folder:`` before it and hints at dmesg behind it."""
    lines = [line.strip() for line in os.fsdecode(stderr).splitlines() if line.strip()]
    sentences = [line for line in lines if "dmesg(1)" not in line]
    text = (sentences or lines or [""])[0]
    program, separator, rest = text.partition(": ")
    if separator and program.removesuffix(".ntfs").removesuffix(".exfat") in ("mount", "umount"):
        place, separator, reason = rest.partition(": ")
        text = reason if separator and place.startswith("/") else rest
    return text.rstrip(".")


def _search_path() -> str:
    return f"{os.environ.get('PATH', '/usr/bin:/bin')}:{_FOLDERS_OF_ROOT}"
