"""Every event knows its sentence, and its identifier is its own for ever."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

import pytest

from distbackupd.model import events
from distbackupd.model.errors import EXIT_CODES, DistbackupError
from distbackupd.model.events import Event

BASES = (Event, events.DiskEvent)
EVENTS = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind not in BASES]
_SAMPLES: dict[str, Any] = {"str": "text", "bool": True, "int": 1, "float": 1.5, "bytes": b"/pa\nth\xff", "Culprit": "disk"}


def sample(kind: type[Event]) -> Event:
    return kind(**{item.name: _SAMPLES[str(item.type)] for item in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", EVENTS)
def test_event_tells_a_sentence_and_plain_fields(kind: type[Event]) -> None:
    event = sample(kind)
    assert event.sentence
    assert event.sentence.isprintable()
    assert all(isinstance(value, str) for value in event.fields.values())
    assert all(key == key.upper() for key in event.fields)
    assert 3 <= event.severity <= 6


def test_message_identifiers_are_all_different() -> None:
    identifiers = [kind.MESSAGE_ID for kind in EVENTS]
    assert len(set(identifiers)) == len(identifiers)
    assert all(uuid.UUID(identifier).hex == identifier for identifier in identifiers)


def test_session_finished_says_only_what_was_done() -> None:
    nothing = events.SessionFinished("one", "u", 0, 0, 0, 0, 0, 0, 0, 0, 2.0)
    assert nothing.sentence == "one: nothing to do in 2.0 s"
    much = dataclasses.replace(nothing, copied_objects=2, copied_bytes=10**9, deleted_objects=1)
    much = dataclasses.replace(much, skipped=3, unplaced_objects=4)
    assert much.sentence == (
        "one: copied 2 objects (1.00 GB), deleted 1 object (0 bytes) in 2.0 s; 3 files skipped, to be tried again; "
        "no room here for 4 objects (0 bytes)"
    )


def _all_errors(kind: type[DistbackupError] = DistbackupError) -> list[type[DistbackupError]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in _all_errors(below))]


@pytest.mark.parametrize("kind", _all_errors())
def test_every_error_has_an_exit_code_that_the_table_explains(kind: type[DistbackupError]) -> None:
    assert kind.exit_code in EXIT_CODES
