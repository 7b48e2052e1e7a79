from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

from distbackupd.cli.output import say, say_json, say_json_list, say_lines, say_table
from distbackupd.cli.progress import PlainReporter
from distbackupd.model.events import FileSkipped, Remark


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        (lambda: say("a line"), "a line\n"),
        (lambda: say_lines(["one", "two"]), "one\ntwo\n"),
        (lambda: say_table(("disk",), [("one",)]), "disk\none\n"),
        (lambda: say_json(1), "1\n"),
        (lambda: say_json_list([1]), "[\n1\n]\n"),
        (lambda: PlainReporter().tell(Remark("good to know")), "good to know\n"),
    ],
    ids=["line", "lines", "table", "json", "list", "event"],
)
def test_what_is_said_is_seen_at_once_behind_a_pipe(monkeypatch: pytest.MonkeyPatch, told: Any, seen: str) -> None:
    ours, theirs = os.pipe()
    with open(ours, encoding="utf-8") as reader, open(theirs, "w", encoding="utf-8") as writer:
        monkeypatch.setattr(sys, "stdout", writer)
        told()
        os.set_blocking(ours, False)
        assert os.read(reader.fileno(), 65536).decode() == seen


def test_say_table_columns_are_as_wide_as_their_content(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(("disk", "size"), [("one", "1 GB"), ("a longer one", "10 GB")], right=(1,))
    assert capsys.readouterr().out.splitlines() == ["disk           size", "one            1 GB", "a longer one  10 GB"]


@pytest.mark.parametrize("value", [b"\xff\n\x00", b"plain", "ä\ud800".encode("utf-8", "surrogatepass")])
def test_say_json_keeps_names_that_are_no_utf8(capsys: pytest.CaptureFixture[str], value: bytes) -> None:
    say_json({"path": value})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["path"].encode("utf-8", "surrogateescape") == value


@pytest.mark.parametrize("values", [[], [1], [{"a": b"x"}, 2]])
def test_say_json_list_is_a_list(capsys: pytest.CaptureFixture[str], values: list[object]) -> None:
    say_json_list(iter(values))
    assert len(json.loads(capsys.readouterr().out)) == len(values)


def test_plain_reporter_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter()
    reporter.tell(Remark("good to know"))
    reporter.tell(FileSkipped(b"/a\n\xff", "it cannot be read"))
    printed = capsys.readouterr()
    assert printed.out == "good to know\n"
    assert printed.err == "/a\\n\\xff: skipped, it cannot be read; it will be tried again\n"


def test_plain_reporter_quiet_tells_only_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = PlainReporter(quiet=True)
    reporter.tell(Remark("good to know"))
    reporter.begin("copying", 2)
    reporter.advance(2, 10)
    reporter.end()
    reporter.tell(FileSkipped(b"/a", "it cannot be read"))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
