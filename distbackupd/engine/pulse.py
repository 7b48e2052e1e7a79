"""How worker threads and the engine's thread tell each other how far the work is and whether to go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from distbackupd.engine.ports import Reporter, Stop

Task = TypeVar("Task")
Result = TypeVar("Result")

WORKERS = 4
"""Enough to keep a disk's queue filled; hashing and input/output release the interpreter's lock."""
_LANES = 2
"""So many large files at once: one is read while the other is written; more would make a spinning disk seek."""
_LARGE = 32 << 20
_LOOK_SECONDS = 0.25


class Meter:
    """The :class:`~distbackupd.engine.ports.Pulse` that workers are given; the engine's thread reads it."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._bytes = 0
        self._aborted = False
        self._lanes = threading.BoundedSemaphore(_LANES)

    def lane(self, size: int) -> AbstractContextManager[object]:
        """To be held while a file of this size is read: large ones have to wait for each other."""
        return self._lanes if size >= _LARGE else nullcontext()

    def is_set(self) -> bool:
        """Whether to stop: somebody asked, or the work is being given up because of an error."""
        return self._aborted or self._stop.is_set()

    def abort(self) -> None:
        """Let all workers stop."""
        self._aborted = True

    def beat(self, done_bytes: int) -> None:
        """So many bytes more are done."""
        with self._lock:
            self._bytes += done_bytes

    def drain(self) -> int:
        """Bytes done since the last call."""
        with self._lock:
            done, self._bytes = self._bytes, 0
        return done


def handfuls(items: Iterable[Task], size: Callable[[Task], int], most: int, most_bytes: int) -> Iterator[list[Task]]:
    """The items in order, small ones together so that handing them over costs little, large ones soon alone.

    A handful has at most ``most`` items, and no further one once it has ``most_bytes``.
    """
    handful: list[Task] = []
    total = 0
    for item in items:
        handful.append(item)
        total += size(item)
        if len(handful) >= most or total >= most_bytes:
            yield handful
            handful, total = [], 0
    if handful:
        yield handful


def work_in_threads(
    tasks: Iterable[Task],
    work: Callable[[Task], Result],
    meter: Meter,
    reporter: Reporter,
    workers: int = WORKERS,
    meanwhile: Callable[[], None] = lambda: None,
) -> Generator[Result, None, None]:
    """Results of ``work`` for each task, in the order in which they are finished; progress is told while waiting.

    At most ``4 * workers`` tasks are under way, so an endless stream of tasks is no trouble. An exception of ``work``
    or of the consumer ends all: what is under way is told to stop and waited for. When a stop is asked for, no new task
    is begun; results of what was under way still come. ``meanwhile`` is called now and then while workers work.
    """
    remaining = iter(tasks)
    running: set[Future[Result]] = set()
    with ThreadPoolExecutor(workers, thread_name_prefix="worker") as pool:
        try:
            while True:
                while len(running) < 4 * workers and not meter.is_set():
                    task = next(remaining, None)
                    if task is None:
                        break
                    running.add(pool.submit(work, task))
                if not running:
                    return
                finished, running = wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                reporter.advance(0, meter.drain())
                meanwhile()
                for future in finished:
                    yield future.result()
        except BaseException:
            meter.abort()
            for future in running:
                future.cancel()
            raise
