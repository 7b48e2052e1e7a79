from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.control.interface import Variant
from distbackupd.control.wire import (
    answer_of,
    details_of,
    news_of,
    outcome_of,
    protection_from,
    protection_properties,
    standing_from,
    standing_properties,
    wish_from,
    wish_options,
)
from distbackupd.model.events import BadCopyFound, DiskWanted, MayUnplug, ScanStarted
from distbackupd.model.plans import BackupWish
from distbackupd.model.problems import FailedScan, Unread
from distbackupd.model.standing import Answer, DiskStanding, Protection, Standing, Told

COPYING = Standing("session", "photos-01: copying 41%", "photos-01", "copying", 3, 7, 41, 100, 12.5)
PROTECTION = Protection(
    {0: 5, 1: 3 << 40, 2: 0},
    (DiskStanding("photos-01", "u-1", 4 << 40, 3 << 40, 12, 7, 1_700_000_000), DiskStanding("new", "u-2", 1, 0, 0, 0, None)),
    DiskWanted("photos-01", "u-1", 1, 3 << 40),
    1_700_000_100,
)


@pytest.mark.parametrize("standing", [Standing(), COPYING, Standing("paused", "paused; 'dsb resume' goes on")])
def test_standing_properties_and_back_give_the_same(standing: Standing) -> None:
    properties = standing_properties(standing)
    assert standing_from(properties) == standing
    assert properties["Paused"] == ("b", standing.state == "paused")


def test_standing_properties_without_an_activity_tell_no_progress() -> None:
    assert standing_properties(Standing("idle", "idle"))["Progress"] == ("a{sv}", {})


@pytest.mark.parametrize(
    "protection",
    [Protection(), PROTECTION, Protection(unread=Unread(3, 60_000_000, 1), failed_scan=FailedScan(7, "the disk is full"))],
)
def test_protection_properties_and_back_give_the_same(protection: Protection) -> None:
    """But for what is not for everybody: UUIDs, and the reason of a scan that failed."""
    known = replace(
        protection,
        disks=tuple(replace(disk, uuid="") for disk in protection.disks),
        wanted=protection.wanted and replace(protection.wanted, uuid=""),
        failed_scan=protection.failed_scan and replace(protection.failed_scan, reason=""),
    )
    assert protection_from(protection_properties(protection)) == known


def test_protection_properties_carry_the_sentence_of_the_wanted_disk() -> None:
    assert protection_properties(PROTECTION)["Wanted"][1]["sentence"] == ("s", "bring photos-01: 3.30 TB have one copy only")


wishes = st.builds(
    BackupWish,
    copy_limit=st.none() | st.integers(0, 2**63 - 1),
    copies_limit=st.none() | st.integers(1, 2**31 - 1),
    evict=st.booleans(),
    update=st.booleans(),
    ignore_lock=st.booleans(),
)


@given(wishes)
def test_wish_options_and_back_give_the_same(wish: BackupWish) -> None:
    assert wish_from(wish_options(wish)) == wish


def test_wish_options_leave_out_what_is_as_usual() -> None:
    assert wish_options(BackupWish()) == {}
    assert wish_options(BackupWish(copy_limit=0, evict=False)) == {"limit": ("t", 0), "flush": ("b", False)}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"limits": ("t", 5)},
            "there is no option 'limits' of BackUp; there are limit, maxcopies, flush, update, ignore-lock",
        ),
        ({"a\nb": ("t", 5)}, "there is no option 'a\\nb' of BackUp; there are limit, maxcopies, flush, update, ignore-lock"),
        ({"limit": ("s", "5G")}, "the option 'limit' of BackUp is a number of bytes, of D-Bus type 't', not 's'"),
        ({"update": ("i", 1)}, "the option 'update' of BackUp is true or false, of D-Bus type 'b', not 'i'"),
        ({"maxcopies": ("u", 0)}, "maxcopies 0 is no number of copies; 1 or more is meant"),
        ({"limit": ("t", 1 << 63)}, f"limit {1 << 63} is more than any disk holds; a number of bytes is meant"),
        (
            {"x" * 1_000_000: ("t", 5)},
            f"there is no option '{'x' * 40}…' of BackUp; there are limit, maxcopies, flush, update, ignore-lock",
        ),
    ],
)
def test_wish_from_options_that_cannot_be_meant_is_refused(options: dict[str, Variant], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        wish_from(options)


def test_news_of_an_event_has_its_kind_disk_and_fields() -> None:
    told = Told(17, 1_700_000_000, MayUnplug("photos-01", "u-1", powered_off=True))
    number, time, kind, severity, disk, sentence, fields = details_of(told)
    assert (number, time, kind, severity, disk) == (17, 1_700_000_000, "MayUnplug", 5, "photos-01")
    assert sentence == "photos-01 is done and switched off, you may unplug it"
    assert fields == {"DISK": "photos-01", "DISK_UUID": "u-1", "POWERED_OFF": "yes"}
    del fields["DISK_UUID"]
    assert news_of(told) == (number, time, kind, severity, disk, sentence, fields)


def test_news_of_an_event_without_a_disk_names_none() -> None:
    assert details_of(Told(1, 2, ScanStarted(3)))[4] == ""


def test_standing_properties_have_the_types_that_they_say() -> None:
    """sdbus sends no int where a double is said, and nothing below 0 as a count."""
    progress = standing_properties(Standing("session", "", "one", "copying", -1, 0, -1, 0, seconds=3))["Progress"][1]
    assert isinstance(progress["seconds"][1], float)
    assert (progress["items"], progress["bytes"]) == (("t", 0), ("t", 0))


def every_text(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.items() for text in every_text(item)]
    return [text for item in value for text in every_text(item)] if isinstance(value, (list, tuple)) else []


@given(st.text(), st.binary())
def test_what_goes_over_the_bus_is_text_that_the_bus_takes(text: str, path: bytes) -> None:
    """D-Bus ends the connection of whoever sends a NUL or what is no UTF-8."""
    lone = text + "\udcff"
    sent = [
        news_of(Told(1, 2, BadCopyFound(lone, "u-1", "00" * 32, path, lone))),
        details_of(Told(1, 2, BadCopyFound(lone, "u-1", "00" * 32, path, lone))),
        answer_of(Answer(1, 4, lone)),
        outcome_of(Answer(1, 4, lone)),
        standing_properties(Standing("session", lone, lone, lone)),
        protection_properties(Protection({}, (DiskStanding(lone, "u-1", 1, 0, 0, 0, None),), DiskWanted(lone, "u-1", 0, 1))),
    ]
    for one in every_text(sent):
        assert "\0" not in one
        one.encode("utf-8")
