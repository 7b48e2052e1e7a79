"""Whatever name a message speaks of, it is one line, one assignment, one argument of the bus, and expands to nothing."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
from hypothesis import given

from distbackupd.agent.notices import Narrator, Notice
from distbackupd.control.wire import News, details_of
from distbackupd.model.events import Event, FileSkipped, SessionFailed, SourceLocked
from distbackupd.model.standing import Told
from distbackupd.notify import readiness
from distbackupd.notify.journal import JournalHandler, LevelPrefix, OneLine
from tests.fuzz.cases import NASTY_TEXT, cases


def events(name: str) -> list[Event]:
    path = name.encode("utf-8", "surrogatepass")
    return [FileSkipped(path, name), SourceLocked(path, name), SessionFailed("photos-03", "u-1", name)]


@cases(150)
@given(NASTY_TEXT)
def test_a_record_is_one_entry(name: str) -> None:
    sent: list[dict[str, Any]] = []
    handler = JournalHandler(lambda message, **fields: sent.append({"MESSAGE": message, **fields}))
    stream = io.StringIO()
    prefixed, plain = logging.StreamHandler(stream), logging.StreamHandler(stream)
    prefixed.setFormatter(LevelPrefix())
    plain.setFormatter(OneLine())
    for event in events(name):
        record = logging.LogRecord("distbackupd", 30, "f", 1, "%s", (event.sentence,), None)
        record.event = event
        for one in (handler, prefixed, plain):
            one.handle(record)
    assert len(sent) == 3
    assert all(entry["MESSAGE"].isprintable() for entry in sent)
    assert len(stream.getvalue().splitlines()) == 6


@cases(150)
@given(NASTY_TEXT)
def test_the_status_is_one_assignment(name: str) -> None:
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readiness.daemon, "notify", told.append)
        readiness.status(f"photos-03: {name}")
    (message,) = told
    assert message.startswith("STATUS=photos-03: ")
    assert message.isprintable()


@cases(150)
@given(NASTY_TEXT)
def test_a_notification_is_plain_text(name: str) -> None:
    narrator = Narrator()
    for number, event in enumerate(events(name), 1):
        for notice in narrator.hear(News(*details_of(Told(number, 1, event)))):
            if isinstance(notice, Notice):
                assert notice.title.isprintable()
                assert all(line.isprintable() for line in notice.body.split("\n"))
