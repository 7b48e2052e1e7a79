"""Signals as calls in a thread of their own.

A handler in Python would run in the engine's thread, between two of its steps, perhaps while it holds the very lock
that posting needs; and not at all while that thread sits in a system call. So signals only leave their number in a
socket, which the thread reads. And as the kernel hands signals to the main thread, which leaves nothing anywhere while it
waits for a disk that does not answer, all work is done in a thread :func:`beside` that.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

Action = Callable[[], None]
T = TypeVar("T")


@contextmanager
def signals(actions: Mapping[int, Action]) -> Iterator[None]:
    """While the context lasts, each of these signals calls its action in another thread. Enter from the main thread.

    Children that are started meanwhile get the signals' default behaviour.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    reader = threading.Thread(target=_read, args=[ours, actions], name="signals", daemon=True)
    before = {number: signal.signal(number, lambda *_: None) for number in actions}
    previous = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    reader.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        theirs.close()
        reader.join()
        ours.close()


def beside(work: Callable[[], T]) -> T:
    """Do it in a thread of its own, and wait for its end; what it returns or raises. Enter from the main thread."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="engine")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _read(ours: socket.socket, actions: Mapping[int, Action]) -> None:
    while numbers := ours.recv(64):
        for number in numbers:
            if action := actions.get(number):
                action()
