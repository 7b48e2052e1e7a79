from __future__ import annotations

import os
import queue
import signal
import threading

import pytest

from distbackupd.daemon.signals import beside, signals


def test_signals_call_their_action_in_another_thread() -> None:
    heard: queue.SimpleQueue[tuple[str, bool]] = queue.SimpleQueue()

    def hear(name: str) -> None:
        heard.put((name, threading.current_thread() is threading.main_thread()))

    with signals({signal.SIGHUP: lambda: hear("hup"), signal.SIGTERM: lambda: hear("term")}):
        os.kill(os.getpid(), signal.SIGHUP)
        assert heard.get(timeout=20) == ("hup", False)
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard.get(timeout=20) == ("term", False)


def test_signals_over_handlers_are_as_before() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with signals({signal.SIGHUP: lambda: None}):
        assert signal.getsignal(signal.SIGHUP) != before
    assert signal.getsignal(signal.SIGHUP) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_beside_gives_what_the_work_gave_while_signals_are_heard() -> None:
    heard = threading.Event()
    main = threading.get_ident()

    def work() -> int:
        assert threading.get_ident() != main
        # As to a thread that waits for a disk: it gets none itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard.wait(20)
        return 7

    with signals({signal.SIGTERM: heard.set}):
        assert beside(work) == 7


def test_beside_raises_what_the_work_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        beside(lambda: 1 // 0)
