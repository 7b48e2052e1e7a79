"""Side files beside their files: read from the folder that is open, and believed only if the right people wrote them."""

from __future__ import annotations

import os
import stat

from distbackupd.model.files import Entry, ProblemKind
from distbackupd.model.problems import FoundProblem
from distbackupd.sources import sidecar

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_FOREIGN = "it belongs to somebody else than its file, so it says nothing of it"


def with_side_file(folder: int, entry: Entry, problems: list[FoundProblem]) -> Entry | None:
    """The entry as its side file has it; None: it is to be left out. What is the matter goes to ``problems``."""
    name = entry.name + sidecar.SUFFIX
    try:
        side_file = _read(folder, name, entry)
    except OSError as error:
        problems.append(_problem(name, f"this side file cannot be read: {error.strerror}"))
        return entry
    except ValueError as error:
        problems.append(_problem(name, f"this side file says nothing usable: {error}"))
        return entry
    priority = entry.priority if side_file.priority is None else side_file.priority
    if priority == 0:
        return None
    maxcopies = -1 if side_file.maxcopies == 0 else side_file.maxcopies or 0
    return entry._replace(priority=priority, maxcopies=maxcopies)


def _problem(name: bytes, reason: str) -> FoundProblem:
    return FoundProblem(name, reason, ProblemKind.SIDE_FILE)


def _read(folder: int, name: bytes, entry: Entry) -> sidecar.SideFile:
    """Raises OSError, ValueError."""
    # Looked at before it is opened: opening a device may do something.
    _judge(os.stat(name, dir_fd=folder, follow_symlinks=False), entry)
    descriptor = os.open(name, _FLAGS, dir_fd=folder)
    try:
        _judge(os.fstat(descriptor), entry)
        return sidecar.parse_side_file(os.read(descriptor, sidecar.LARGEST))
    finally:
        os.close(descriptor)


def _judge(state: os.stat_result, entry: Entry) -> None:
    if state.st_uid not in (entry.attributes.uid, 0):
        raise ValueError(_FOREIGN)
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is no regular file")
