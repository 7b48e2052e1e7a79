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
_FRESH_SECONDS = 600.0


class SystemAccounts:
    """See :class:`distbackupd.engine.ports.MachineAccounts`.

    Each question is asked in a thread, which is left behind when it takes too long; until it comes back nothing more is
    asked. Answers are kept for ten minutes, for the daemon scans whenever something changes.
    """

    def __init__(self, patience: float = _PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._asking: threading.Thread | None = None
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
            # "Not found" may also mean that a directory server is away, so it is never taken for news.
            with contextlib.suppress(KeyError, OSError, OverflowError, ValueError):
                name = grp.getgrgid(number).gr_name if is_group else pwd.getpwuid(number).pw_name
            self._known[is_group, number] = (time.monotonic(), name if name and name.isprintable() else None)

    def _in_time(self, ask: Callable[[], Answer]) -> Answer | None:
        """The answer; None: there is none, or none yet."""
        if self._asking is not None and self._asking.is_alive():
            return None
        answers: list[Answer] = []

        def ask_and_keep() -> None:
            with contextlib.suppress(KeyError, OSError, OverflowError, ValueError):
                answers.append(ask())

        self._asking = threading.Thread(target=ask_and_keep, name="account names", daemon=True)
        self._asking.start()
        self._asking.join(self._patience)
        return answers[0] if answers else None
