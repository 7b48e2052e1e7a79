"""``dsb`` and ``distbackupd`` as a person or systemd starts them: processes of their own, with real exit statuses."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import distbackupd.cli.asking  # noqa: F401 - an ordinary user, as whom it may run, may not be able to read this Python
from distbackupd.cli.main import main
from tests.bed.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
NOBODY = 65534
"""An ordinary user and group, for what root would be let do anyway."""

Word = str | bytes | os.PathLike[str]


@dataclass(frozen=True)
class Finished:
    """What a program that ended left behind."""

    status: int
    out: str
    err: str


class Dsb:
    """``dsb`` on the catalogue in ``folder``, with settings of the test's own."""

    def __init__(self, folder: Path, **settings: str | bool | int) -> None:
        self.folder = folder
        self.catalogue = folder / "distbackup.sqlite"
        self.config = write_settings(folder.parent / f"{folder.name}.toml", folder.parent, settings)

    def words(self, *words: Word) -> list[str]:
        """The arguments of ``dsb``."""
        return [os.fsdecode(word) for word in ("-d", self.folder, "--config", self.config, *words)]

    def __call__(self, *words: Word, user: int | None = None) -> Finished:
        """Run to its end; ``user``: as this user and group, without any privilege."""
        return run_forked(self.words(*words), user)

    def ok(self, *words: Word, user: int | None = None) -> str:
        """Run a command that must succeed without a warning; what it printed."""
        done = self(*words, user=user)
        assert (done.status, done.err) == (0, ""), done
        return done.out

    def json(self, *words: Word) -> Any:
        """Run a command that must succeed, with ``--json``; the value that it printed."""
        return json.loads(self.ok("--json", *words))

    def refused(self, status: int, *words: Word, user: int | None = None) -> str:
        """Run a command that must end with this status and one sentence on standard error; that sentence."""
        done = self(*words, user=user)
        assert done.status == status, done
        lines = done.err.splitlines()
        assert len(lines) == 1, done
        assert "Traceback" not in done.err
        return lines[0].removeprefix("dsb: ")

    def start(self, *words: Word, prefix: tuple[str, ...] = (), **more: Any) -> subprocess.Popen[str]:
        """A process of ``dsb`` that goes on by itself. ``prefix``: a command that starts it."""
        command = [*prefix, sys.executable, "-m", "distbackupd.cli.main", *self.words(*words)]
        return subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, text=True, errors="surrogateescape", **_PIPES | more
        )


_PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def write_settings(path: Path, place: Path, settings: Mapping[str, str | bool | int]) -> Path:
    """A settings file; disks are mounted below ``place``."""
    lines = {"mount_folder": str(place / "mounted"), **settings}
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items()))
    return path


def run_forked(arguments: list[str], user: int | None = None) -> Finished:
    """``dsb`` in a process forked from this one: as real as a new one, without half a second of imports."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _become_dsb(arguments, user, out, err)
        _, waited = os.waitpid(child, 0)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "surrogateescape"))
    return Finished(os.waitstatus_to_exitcode(waited), *texts)


def _become_dsb(arguments: list[str], user: int | None, out: BinaryIO, err: BinaryIO) -> None:
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        sys.argv = ["dsb", *arguments]
        if user is not None:
            codecs.lookup("ascii")  # which this user may not load any more where the interpreter lies in a private folder
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        status = main(arguments)
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    except BaseException:  # noqa: BLE001 - told as the interpreter tells it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class Daemon:
    """A running ``distbackupd``. What it logs goes to ``log``, what it tells the service manager to ``manager``."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, manager: socket.socket) -> None:
        self.process = process
        self._log = log
        self.messages: list[str] = []
        self._read = 0
        threading.Thread(target=self._listen, args=[manager], daemon=True).start()

    @property
    def log(self) -> str:
        """All it logged so far."""
        return self._log.read_text("utf-8", "replace")

    def wait_for(self, *sentences: str, seconds: float = 15) -> str:
        """Wait until each of these patterns was logged, since the last call; what was logged until then."""

        def found() -> str:
            news = self.log[self._read :]
            return news if all(re.search(sentence, news) for sentence in sentences) else ""

        try:
            news = wait_until(found, f"{sentences} in the log", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the log:\n{self.log}") from error
        self._read += len(news)
        return news

    def wait_for_message(self, pattern: str) -> str:
        """Wait until the service manager was told something that matches; the first such message."""

        def found() -> str:
            return next((message for message in list(self.messages) if re.search(pattern, message)), "")

        return wait_until(found, f"{pattern} told to the service manager", 15)

    def _listen(self, manager: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while message := manager.recv(4096):
                self.messages.append(message.decode())

    def stop(self, number: int = signal.SIGTERM, seconds: float = 5) -> int:
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def running_daemon(dsb: Dsb, *words: str, ready: bool = True, module: str = "distbackupd.daemon.main") -> Iterator[Daemon]:
    """A daemon on the same catalogue and settings as ``dsb``, until it was stopped or this ends."""
    log = dsb.folder.parent / f"daemon-{os.urandom(4).hex()}.log"
    with tempfile.TemporaryDirectory() as place, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{place}/notify")
        command = [sys.executable, "-m", module, *dsb.words(*words)]
        environment = {key: value for key, value in os.environ.items() if key != "JOURNAL_STREAM"}
        # It must not show itself to whoever sits at this machine.
        environment.setdefault("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus")
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**environment, "NOTIFY_SOCKET": f"{place}/notify"},
            )
        daemon = Daemon(process, log, manager)
        try:
            if ready:
                daemon.wait_for_message("READY=1")
            yield daemon
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)
            manager.shutdown(socket.SHUT_RDWR)
