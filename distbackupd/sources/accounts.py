"""The users and groups of this machine, as its name services tell them."""

from __future__ import annotations

import contextlib
import grp
import pwd
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from distbackupd.model.owners import OwnerNames, OwnerNumbers

Answer = TypeVar("Answer")

_PATIENCE_SECONDS = 5.0
"""A directory server that does not answer can hold a single question for minutes."""
_MOST_OPEN = 8
"""So many questions may be left without an answer before no more are asked."""
_FRESH_SECONDS = 600.0


class SystemAccounts:
    """See :class:`distbackupd.engine.ports.MachineAccounts`.

    Questions are asked in threads, which are left behind when they take too long: one name that only a directory server
    could know does not hide those that this machine knows itself. Answers, and that there was none, are kept for ten
    minutes, for the daemon scans whenever something changes.
    """

    def __init__(self, patience: float = _PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._asking: list[threading.Thread] = []
        self._known: dict[tuple[bool, int], tuple[float, str | None]] = {}

    def names(self, numbers: OwnerNumbers) -> OwnerNames:
        """What they are called now."""
        wanted = [(False, number) for number in sorted(numbers.users)] + [
            (True, number) for number in sorted(numbers.groups)
        ]
        old = time.monotonic() - _FRESH_SECONDS
        stale = [key for key in wanted if key not in self._known or self._known[key][0] < old]
        if stale:
            self._in_time(lambda: self._look_up(stale))
        names = OwnerNames({}, {})
        for is_group, number in wanted:
            asked, name = self._known.get((is_group, number), (old, None))
            if name and asked > old:
                (names.groups if is_group else names.users)[number] = name
        return names

    def user(self, name: str) -> int | None:
        """The number of the user of this name."""
        return self._in_time(lambda: pwd.getpwnam(name).pw_uid)

    def group(self, name: str) -> int | None:
        """The number of the group of this name."""
        return self._in_time(lambda: grp.getgrnam(name).gr_gid)

    def _look_up(self, keys: list[tuple[bool, int]]) -> None:
        for is_group, number in keys:
            name = None
            self._known[is_group, number] = (time.monotonic(), None)
            # "Not found" may also mean that a directory server is away, so it is never taken for news.
            with contextlib.suppress(KeyError, OSError, OverflowError, ValueError):
                name = grp.getgrgid(number).gr_name if is_group else pwd.getpwuid(number).pw_name
            self._known[is_group, number] = (time.monotonic(), name if name and name.isprintable() else None)

    def _in_time(self, ask: Callable[[], Answer]) -> Answer | None:
        """The answer; None: there is none, or none yet."""
        self._asking = [thread for thread in self._asking if thread.is_alive()]
        if len(self._asking) >= _MOST_OPEN:
            return None
        answers: list[Answer] = []

        def ask_and_keep() -> None:
            with contextlib.suppress(KeyError, OSError, OverflowError, ValueError):
                answers.append(ask())

        thread = threading.Thread(target=ask_and_keep, name="account names", daemon=True)
        self._asking.append(thread)
        thread.start()
        thread.join(self._patience)
        return answers[0] if answers else None
