"""Listings that nobody reads on: what is listed is read to its end all the same, and nothing of it is lost."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from pathlib import Path

import pytest

from distbackupd.cli import outlet as outlet_module
from distbackupd.cli.output import say_json_list, say_lines

LINES = [f"line {number} with an umlaut, \u00fc" for number in range(30_000)]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch):
    """A pipe: the end to read from, and a stream that writes to it."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", encoding="utf-8")
    monkeypatch.setattr(outlet_module, "_PATIENCE", 0.05)
    yield reading, stream
    stream.close()
    os.close(reading)


def read_all(descriptor: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += os.read(descriptor, 1 << 16)
    return found


def taken(ended: threading.Event):
    """Lines, and that the last of them was taken."""
    yield from LINES
    ended.set()


@pytest.mark.parametrize("room", [True, False], ids=["kept in a file", "no room for a file"])
def test_say_lines_reader_that_stops_keeps_nobody_waiting_and_gets_all(
    pipe, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    reading, stream = pipe
    monkeypatch.setattr(sys, "stdout", stream)
    if not room:
        monkeypatch.setattr(outlet_module, "_somewhere", lambda: None)
    ended = threading.Event()
    writer = threading.Thread(target=lambda: say_lines(taken(ended)))
    writer.start()
    assert ended.wait(20 if room else 0.5) is room
    expected = "".join(line + "\n" for line in LINES).encode()
    assert read_all(reading, len(expected)) == expected
    writer.join(20)
    assert ended.is_set()


class FileOnAFullDisk(io.FileIO):
    """As the kernel does, it takes a part of what still fits, and refuses only what comes then."""

    def write(self, content) -> int:
        if not (room := 100_001 - self.tell()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content[:room])


def test_say_lines_place_that_fills_up_in_the_middle_loses_nothing(
    pipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reading, stream = pipe
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(outlet_module, "_somewhere", lambda: FileOnAFullDisk(tmp_path / "kept", "w+"))
    writer = threading.Thread(target=lambda: say_lines(LINES))
    writer.start()
    writer.join(0.5)
    expected = "".join(line + "\n" for line in LINES).encode()
    assert read_all(reading, len(expected)) == expected
    writer.join(20)


def test_say_lines_reader_that_has_gone_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writing, "w"))
    with pytest.raises(BrokenPipeError):
        say_lines(LINES)
    monkeypatch.undo()


def test_say_json_list_of_nothing_and_of_some(capsys: pytest.CaptureFixture[str]) -> None:
    say_json_list([])
    say_json_list([1, "two"])
    assert capsys.readouterr().out == '[]\n[\n1,\n"two"\n]\n'
