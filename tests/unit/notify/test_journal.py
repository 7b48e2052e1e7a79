from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distbackupd.model import events
from distbackupd.model.events import FileSkipped, MayUnplug, SessionFailed
from distbackupd.notify.journal import JournalHandler, is_captured, make_handler, set_up_logging, tell


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("distbackupd")
    kept = (root.handlers[:], root.level, own.level)
    yield
    root.handlers[:], root.level, own.level = kept


@pytest.fixture
def sent(restored_logging: None) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    logging.getLogger().handlers[:] = [
        JournalHandler(lambda message, **fields: entries.append({"MESSAGE": message} | fields))
    ]
    logging.getLogger("distbackupd").setLevel(logging.DEBUG)
    return entries


@pytest.fixture
def captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.TextIOWrapper]:
    """A stream that systemd is said to capture."""
    with (tmp_path / "stderr").open("w+") as stream:
        facts = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{facts.st_dev}:{facts.st_ino}")
        yield stream


def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("distbackupd.test", level, __file__, 1, message, None, None)


def test_tell_event_becomes_an_entry_with_its_fields(sent: list[dict[str, Any]]) -> None:
    tell(MayUnplug("photos-03", "6e5a"))
    (entry,) = sent
    assert entry["MESSAGE"] == "photos-03 is done, you may unplug it"
    assert entry["MESSAGE_ID"] == MayUnplug.MESSAGE_ID
    assert entry["PRIORITY"] == "5"
    assert entry["DISTBACKUP_DISK"] == "photos-03"
    assert entry["DISTBACKUP_DISK_UUID"] == "6e5a"
    assert entry["SYSLOG_IDENTIFIER"] == "distbackupd"


def test_tell_severity_becomes_the_priority(sent: list[dict[str, Any]]) -> None:
    tell(SessionFailed("d", "u", "full"))
    tell(FileSkipped(b"/a", "it changed"))
    tell(events.ScanStarted(1))
    assert [entry["PRIORITY"] for entry in sent] == ["3", "4", "6"]


def test_tell_percent_signs_stay(sent: list[dict[str, Any]]) -> None:
    tell(FileSkipped(b"/100%s%d", "it changed"))
    assert sent[0]["MESSAGE"].startswith("/100%s%d: skipped")


def test_handler_plain_record_has_no_message_id(sent: list[dict[str, Any]]) -> None:
    logging.getLogger("distbackupd.x").info("hello %s", "you")
    assert sent[0]["MESSAGE"] == "hello you"
    assert "MESSAGE_ID" not in sent[0]


def test_handler_exception_is_sent_with_its_traceback(sent: list[dict[str, Any]]) -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logging.getLogger("distbackupd.x").exception("a bug")
    assert "a bug\nTraceback" in sent[0]["MESSAGE"]
    assert "RuntimeError: broken" in sent[0]["MESSAGE"]


def test_handler_text_that_is_no_utf8_is_escaped(sent: list[dict[str, Any]]) -> None:
    logging.getLogger("distbackupd.x").info("name %s", b"\xff".decode("utf-8", "surrogateescape"))
    assert sent[0]["MESSAGE"] == "name \\xff"


def test_handler_journal_fails_does_not_raise(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_arguments: object, **_fields: object) -> None:
        raise OSError("no journal")

    JournalHandler(fail).handle(record(logging.INFO, "x"))
    assert "no journal" in capsys.readouterr().err


def test_handler_real_send_takes_every_event(restored_logging: None) -> None:
    """Whatever is listening, systemd's library must accept all field names and values."""
    handler = JournalHandler()
    handler.handleError = lambda record: pytest.fail("an entry was refused")  # type: ignore[method-assign]
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger("distbackupd").setLevel(logging.DEBUG)
    tell(MayUnplug("photos-03", "6e5a"))
    tell(FileSkipped(b"/caf\xe9\n", "it changed"))
    tell(events.BadCopyFound("d", "u", "ab" * 32, b"/x", "other content"))


def test_message_ids_are_fixed_and_unlike() -> None:
    classes = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)]
    told = [kind.MESSAGE_ID for kind in classes if kind not in (events.Event, events.DiskEvent)]
    assert all(len(message_id) == 32 and int(message_id, 16) for message_id in told)
    assert len(set(told)) == len(told)


def test_make_handler_from_a_shell_writes_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    stream = io.StringIO()
    make_handler(stream).handle(record(logging.ERROR, "photos-03: stopped"))
    assert stream.getvalue() == "photos-03: stopped\n"


def test_make_handler_captured_without_journal_prefixes_each_line(captured: io.TextIOWrapper, tmp_path: Path) -> None:
    make_handler(captured, str(tmp_path / "none")).handle(record(25, "one\n<0>two"))
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        traced = record(40, "a bug")
        traced.exc_info = sys.exc_info()
    make_handler(captured, str(tmp_path / "none")).handle(traced)
    captured.seek(0)
    first, *others = captured.read().splitlines()
    assert first == "<5>one\\n<0>two", "a name with a line end makes no second entry"
    assert others[0] == "<3>a bug"
    assert len(others) > 3
    assert all(line.startswith("<3>") for line in others)


def test_make_handler_captured_with_journal_is_the_journals(captured: io.TextIOWrapper, tmp_path: Path) -> None:
    assert isinstance(make_handler(captured, str(tmp_path)), JournalHandler)


@pytest.mark.parametrize("value", ["1:2", "nonsense", "", "1:2:3"])
def test_is_captured_inherited_from_a_desktop_is_false(captured: io.TextIOWrapper, monkeypatch: Any, value: str) -> None:
    assert is_captured(captured)
    monkeypatch.setenv("JOURNAL_STREAM", value)
    assert not is_captured(captured)


def test_set_up_logging_libraries_are_quiet(restored_logging: None) -> None:
    set_up_logging()
    assert not logging.getLogger("apscheduler").isEnabledFor(logging.INFO)
    assert logging.getLogger("distbackupd.daemon").isEnabledFor(logging.INFO)
    assert not logging.getLogger("distbackupd.daemon").isEnabledFor(logging.DEBUG)
    set_up_logging(verbose=True)
    assert logging.getLogger("distbackupd.daemon").isEnabledFor(logging.DEBUG)
