"""Signals as calls in a thread of their own.

A handler in Python would run in the engine's thread, between two of its steps, perhaps while it holds the very lock
that posting needs; and not at all while that thread sits in a system call. So signals only leave their number in a
socket, which the thread reads.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Action = Callable[[], None]


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


def _read(ours: socket.socket, actions: Mapping[int, Action]) -> None:
    while numbers := ours.recv(64):
        for number in numbers:
            if action := actions.get(number):
                action()
