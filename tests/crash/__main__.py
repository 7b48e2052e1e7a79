"""``python -m tests.crash``: plays cuts and prints a table; exit status 1 if anything was lost. See ``make crash``."""

from __future__ import annotations

import argparse
import base64
import os
import pickle
import queue
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.crash import faults
from tests.crash.cuts import LOST
from tests.crash.filesystems import FILESYSTEMS
from tests.crash.report import Report
from tests.crash.sequences import Task, plan

_ROOT = Path(__file__).parents[2]
_BUILD = _ROOT / "build/crash"
_FAILED = _BUILD / "failed"
_ALONE = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
"""Drivers in user space that a worker started end with it, however it ends; and it ends with the one who hands out tasks."""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="make crash")
    parser.add_argument("--cuts", type=int, default=10_000, help="about so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cut", help="one that was kept, alone")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--filesystems", default=",".join(FILESYSTEMS))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return _work(arguments.seed)
    if reason := _cannot():
        sys.stdout.write(f"No cut can be made here: {reason}\n")
        return 77
    return _again(arguments.cut) if arguments.cut else _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    kinds = []
    for name in arguments.filesystems.split(","):
        if missing := FILESYSTEMS[name].missing:
            sys.stdout.write(f"without {name}: {missing}\n")
        else:
            kinds.append(name)
    environment = _with_faults()
    shutil.rmtree(_FAILED, ignore_errors=True)
    began, report = time.monotonic(), Report()
    tasks: queue.Queue[Task] = queue.Queue()
    for task in plan(arguments.cuts, kinds, random.Random(arguments.seed)):
        tasks.put(task)
    answers: queue.Queue[Any] = queue.Queue()
    workers = arguments.workers or (os.cpu_count() or 1) + 1
    for _ in range(workers):
        threading.Thread(target=_feed, args=(tasks, answers, arguments.seed, environment), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: answers.put(KeyboardInterrupt()))
    signal.signal(signal.SIGINT, lambda *_: answers.put(KeyboardInterrupt()))
    ended, broken = 0, 0
    while ended < workers:
        answer = answers.get()
        if isinstance(answer, KeyboardInterrupt):
            broken += 1
            sys.stdout.write("stopped\n")
            break
        if answer is None:
            ended += 1
        elif isinstance(answer, str):
            broken += 1
            sys.stdout.write(f"THE RIG ITSELF FAILED: {answer}\n")
        else:
            report.add(answer)
            _tell(answer)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{report.cuts:,} cuts, {report.losses:,} losses, {time.monotonic() - began:,.0f} s ")
    seconds = time.monotonic() - began
    sys.stdout.write(f"{report.table(kinds)}\n")
    sys.stdout.write(
        f"{report.cuts:,} cuts, {report.losses:,} losses in {seconds:,.0f} s, with {report.processor_seconds:,.0f} s of "
        f"processor time; seed {arguments.seed}\n"
    )
    return 1 if report.losses or broken else 0


def _tell(tally: Any) -> None:
    for label, problems, kept in tally.losses:
        sys.stdout.write(f"\nLOST: {tally.filesystem}, {tally.scene}, {label}\n")
        sys.stdout.writelines(f"  {problem}\n" for problem in problems)
        if kept:
            sys.stdout.write(f"  again: make crash CUT='{os.path.relpath(kept, _ROOT)}'\n")
    sys.stdout.flush()


def _feed(tasks: queue.Queue[Task], answers: queue.Queue[Any], seed: int, environment: dict[str, str]) -> None:
    """Hand tasks to one worker, each when it has done the one before."""
    command = [*_ALONE, sys.executable, "-m", "tests.crash", "--worker", "--seed", str(seed)]
    process = subprocess.Popen(
        command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        while True:
            try:
                task = tasks.get_nowait()
            except queue.Empty:
                break
            process.stdin.write(_line(task))
            process.stdin.flush()
            while (line := process.stdout.readline()) != b"\n":
                if not line:
                    answers.put(
                        f"{task.filesystem} {task.sequences[:1] or 'life'}: {process.stderr.read().decode()[-3000:]}"
                    )
                    return
                answers.put(pickle.loads(base64.b64decode(line)))
    finally:
        process.stdin.close()
        process.wait()
        answers.put(None)


def _work(seed: int) -> int:
    from tests.crash.worker import Worker

    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    worker = Worker(str(_FAILED), seed)
    for line in sys.stdin.buffer:
        for tally in worker.play(pickle.loads(base64.b64decode(line))):
            out.write(_line(tally))
            out.flush()
        out.write(b"\n")
        out.flush()
    return 0


def _again(path: str) -> int:
    """In a process of its own, which has the library that makes faults."""
    if os.getpid() != 1:
        command = [*_ALONE, sys.executable, "-m", "tests.crash", "--cut", path]
        return subprocess.run(command, cwd=_ROOT, env=_with_faults(), check=False).returncode
    from tests.crash.worker import Worker

    verdict = Worker(str(_FAILED), 1).again(path)
    sys.stdout.write(f"{verdict.result}\n")
    sys.stdout.writelines(f"  {problem}\n" for problem in verdict.problems)
    return int(verdict.result == LOST)


def _with_faults() -> dict[str, str]:
    """Surroundings for workers; without the library where it cannot be built."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DISTBACKUP"))}
    environment |= {"LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        environment["LD_PRELOAD"] = str(faults.build(_BUILD))
    except RuntimeError as error:
        sys.stdout.write(f"power cuts only, neither kill -9 nor errors: {error}\n")
    return environment


def _line(what: Any) -> bytes:
    return base64.b64encode(pickle.dumps(what)) + b"\n"


def _cannot() -> str:
    if os.geteuid():
        return "needs root"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            return f"there is no {device}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
