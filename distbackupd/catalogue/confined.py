"""A database that strangers may have written is only ever read in a process of its own, which has nothing to lose.

What comes back are raw JSON arrays; who asked checks every value in them. Nothing that the file says of itself is executed
or believed here: not its schema, not its length, not that it comes to an end.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distbackupd.catalogue import confined_reader
from distbackupd.catalogue.confined_reader import DAMAGED, ENDED, FRAME, STRANGE, TOO_MUCH
from distbackupd.model.copies import DamagedCopy
from distbackupd.model.errors import CatalogueTrouble
from distbackupd.model.text import printable, say_duration

_INTERPRETERS = (sys.executable, "/usr/bin/python3")
"""The second one where this process gave up the right to start what it is itself."""
_MARSHALLED = 2
"""A form that every Python reads."""
_SCRIPT = Path(confined_reader.__file__)
_LARGEST_FRAME = 1 << 27
_KILLED_LATER = 15
"""Seconds; the child finds out by itself that its time is up, unless it is stuck."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a reading may take. ``seconds`` of waiting and of computing; bytes of ``memory`` of the child, of the ``longest``
    value, and in ``total`` of what comes back; ``rows`` of one statement.
    """

    seconds: int
    memory: int
    longest: int
    rows: int
    total: int


GLANCE = Allowance(seconds=20, memory=512 << 20, longest=1 << 20, rows=200_000, total=64 << 20)
"""For a few rows."""
_SLOWEST = 250_000
"""Bytes a second, on the slowest machine and disk."""
_LONGEST_READING = 6 * 3600
LARGEST_FILE = 1 << 38
"""No catalogue has so many bytes."""


def allowance_for(size: int) -> Allowance:
    """For all of a file of ``size`` bytes: in proportion, as no whole file of ours needs more."""
    return Allowance(
        seconds=min(60 + size // _SLOWEST, _LONGEST_READING),
        memory=1 << 30,
        longest=40 << 20,
        rows=size // 8,
        total=(64 << 20) + 8 * size,
    )


@dataclass(frozen=True, slots=True)
class Question:
    """``tables``: which must be there, with which columns and declared types. ``whole``: of these all pages are checked,
    and their rows compared with their indexes. ``statements``: each gives one column of JSON arrays.
    """

    tables: Mapping[str, Sequence[tuple[str, str]]]
    statements: Sequence[str]
    whole: Sequence[str] = ()


def ask(descriptor: int, question: Question, allowance: Allowance) -> Generator[tuple[int, bytes], None, None]:
    """Numbers of statements, in order, each with some of its rows: a JSON array of arrays, not looked at yet.

    ``descriptor``: the file, open for reading. Raises DamagedCopy with the reason alone. Closed, it ends the child.
    """
    end = time.monotonic() + allowance.seconds + _KILLED_LATER
    child = _start(descriptor, question, allowance)
    try:
        assert child.stdout is not None
        pipe = child.stdout.fileno()
        left = allowance.total
        while True:
            number, length = FRAME.unpack(_exactly(pipe, FRAME.size, end))
            left -= length
            if length > _LARGEST_FRAME or left < 0:
                raise DamagedCopy("it holds more than its size allows")
            content = _exactly(pipe, length, end)
            if number == ENDED:
                return
            if number >= len(question.statements):
                raise DamagedCopy(_complaint(number, content, allowance))
            yield number, content
    finally:
        child.kill()
        assert child.stdout is not None
        child.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a disk that does not answer keeps whoever waits for it
            child.wait(_KILLED_LATER)


def _start(descriptor: int, question: Question, allowance: Allowance) -> subprocess.Popen[bytes]:
    asked = marshal.dumps(
        {
            "seconds": allowance.seconds,
            "cpu": allowance.seconds,
            "memory": allowance.memory,
            "longest": allowance.longest,
            "warm": bool(question.whole),
            "whole": list(question.whole),
            "tables": {table: list(columns) for table, columns in question.tables.items()},
            "statements": [(statement, allowance.rows) for statement in question.statements],
        },
        _MARSHALLED,
    )
    for interpreter in _INTERPRETERS:
        try:
            child = subprocess.Popen(
                [interpreter, "-I", "-S", "-B", str(_SCRIPT), str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                pass_fds=[descriptor],
            )
        except OSError as error:
            trouble = error
            continue
        assert child.stdin is not None
        with contextlib.suppress(OSError), child.stdin:  # what became of it shows when it is to answer
            child.stdin.write(asked)
        return child
    raise CatalogueTrouble(
        f"no copy of a catalogue can be read, for {printable(_INTERPRETERS[0])} cannot be started: {trouble.strerror}"
    )


def _exactly(pipe: int, length: int, end: float) -> bytes:
    parts = []
    poll = select.poll()
    poll.register(pipe, select.POLLIN | select.POLLHUP)
    while length:
        if not poll.poll(max(0, end - time.monotonic()) * 1000):
            raise DamagedCopy("reading it came to no end")
        part = os.read(pipe, min(length, 1 << 20))
        if not part:
            raise DamagedCopy("whoever reads it was stopped by what is in it")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _complaint(number: int, sentence: bytes, allowance: Allowance) -> str:
    if number == TOO_MUCH:
        return f"reading it takes more than {say_duration(allowance.seconds)} or too much memory"
    if number in (DAMAGED, STRANGE):
        return printable(sentence[: confined_reader.SENTENCE_BYTES])
    return "whoever reads it said what nobody asked"
