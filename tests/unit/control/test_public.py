"""Nothing that everybody on the bus gets has a path, a UUID, or words from elsewhere: of every event there is."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest

from distbackupd.control.wire import answer_of, details_of, news_of, protection_properties, standing_properties
from distbackupd.engine.overview import idle_sentence
from distbackupd.model import events
from distbackupd.model.events import DiskEvent, DiskWanted, Event
from distbackupd.model.problems import FailedScan
from distbackupd.model.standing import Answer, DiskStanding, Protection, Standing, Told
from distbackupd.notify.reporter import JournalReporter

SECRET = "/home/anna/SECRET"
UUID = "5ec3e7de-5ec3-45ec-8e7d-5ec3e75ec3e7"
NAMES = {"disk": "photos-03", "next_disk": "music-01", "disks": "music-01 and video-02"}
"""Attributes that hold names of disks, which are for everybody. Everything else in words is not."""


def all_classes(base: type[Event] = Event) -> list[type[Event]]:
    found = [base] if base.__name__ not in ("Event", "DiskEvent") and base.__module__.startswith("distbackupd.") else []
    return found + [one for child in base.__subclasses__() for one in all_classes(child)]


CLASSES = sorted({one.__name__: one for one in all_classes()}.values(), key=lambda one: one.__name__)


def filled(kind: type[Event]) -> Event:
    """An event of this class with a marker wherever words or bytes are."""
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for attribute in dataclasses.fields(kind):
        wanted = hints[attribute.name]
        if attribute.name in NAMES:
            values[attribute.name] = NAMES[attribute.name]
        elif attribute.name == "uuid":
            values[attribute.name] = UUID
        elif wanted is bytes:
            values[attribute.name] = SECRET.encode()
        elif wanted in (int, float, bool):
            values[attribute.name] = wanted(7)
        else:
            values[attribute.name] = f"{SECRET} {UUID}"
    return kind(**values)


def leaks(shown: object) -> list[str]:
    text = repr(shown)
    return [marker for marker in ("SECRET", "anna", UUID, UUID[:8]) if marker in text]


def test_every_class_is_walked() -> None:
    exported = {one for one in vars(events).values() if isinstance(one, type) and issubclass(one, Event)}
    assert set(CLASSES) >= exported - {Event, DiskEvent}
    assert len(CLASSES) > 25


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_public_form_of_each_event_names_nothing_but_disks_and_figures(kind: type[Event]) -> None:
    for event in (filled(kind), dataclasses.replace(filled(kind), **({"disk": ""} if kind is events.Braked else {}))):
        assert leaks(news_of(Told(1, 2, event))) == []
        for name, value in event.public_fields.items():
            assert name == "DISK" or value in ("yes", "no") or float(value) == 7, (name, value)
            assert event.fields[name] == value


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_line_of_systemctl_status_names_nothing_whatever_went_wrong(kind: type[Event]) -> None:
    told: list[Standing] = []
    reporter = JournalReporter(told.append, tell=lambda _: None)
    reporter.tell(filled(kind))
    reporter.begin("copying", 3, 7)
    assert leaks([reporter.trouble, [standing_properties(standing) for standing in told]]) == []


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_details_hold_all(kind: type[Event]) -> None:
    event = filled(kind)
    *_, sentence, fields = details_of(Told(1, 2, event))
    assert (sentence, fields) == (event.sentence, event.fields)
    assert fields.items() >= event.public_fields.items()


def test_a_class_that_says_nothing_of_it_is_told_to_nobody_else() -> None:
    @dataclasses.dataclass(frozen=True)
    class Novel(Event):
        path: bytes

        @property
        def sentence(self) -> str:
            return self.path.decode()

        @property
        def fields(self) -> dict[str, str]:
            return {"PATH": self.path.decode()}

    told = Told(1, 2, Novel(SECRET.encode()))
    assert news_of(told) is None
    assert told.event.public_fields == {}


def test_properties_name_nothing_but_disks_and_figures() -> None:
    protection = Protection(
        {0: 5, 1: 6},
        (DiskStanding("photos-03", UUID, 4, 3, 2, 1, 9),),
        DiskWanted("photos-03", UUID, 1, 5),
        1_700_000_000,
        brake=f"the brake is on: the source {SECRET} is empty",
        failed_scan=FailedScan(7, f"{SECRET} {UUID}"),
    )
    assert leaks([protection_properties(protection), idle_sentence(protection)]) == []


def test_answers_tell_everybody_no_more_than_the_exit_code() -> None:
    assert leaks([answer_of(Answer(1, code, f"{SECRET} {UUID}")) for code in (0, 1, 2, 4, 5, 130, 99)]) == []
