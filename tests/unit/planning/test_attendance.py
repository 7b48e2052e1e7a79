"""Whether a source can be trusted."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from distbackupd.planning.attendance import distrust, distrust_changed, distrust_missing

ANY = settings(derandomize=True, database=None, deadline=None)
NAMES = st.sets(st.binary(min_size=1, max_size=3), max_size=60)


@pytest.mark.parametrize(("known_device", "device"), [(None, 1), (1, 1), (1, 2)])
def test_distrust_folder_with_content_is_believed(known_device: int | None, device: int) -> None:
    assert distrust(False, True, known_device, device) is None
    assert distrust(False, False, known_device, device) is None


@pytest.mark.parametrize(("known_device", "device"), [(None, 1), (1, 1), (1, 2)])
def test_distrust_empty_folder_that_always_was_is_believed(known_device: int | None, device: int) -> None:
    assert distrust(True, False, known_device, device) is None


def test_distrust_folder_that_turned_empty_says_how_to_record_it() -> None:
    assert "--ignore-lock" in (distrust(True, True, 1, 1) or "")
    assert "--ignore-lock" in (distrust(True, True, None, 1) or "")


def test_distrust_empty_folder_on_another_device_says_that_nothing_is_mounted() -> None:
    assert "nothing is mounted there" in (distrust(True, True, 1, 2) or "")


def names(*numbers: int) -> set[bytes]:
    return {b"%d" % number for number in numbers}


@pytest.mark.parametrize(
    ("known", "there", "on_another_device", "after_an_unmount"),
    [
        (names(), names(1), False, False),
        (names(1), names(1, 2), False, False),
        (names(1), names(2), True, True),
        (names(1, 2), names(2, 3), False, True),
        (names(1, 2, 3), names(3, 4), True, True),
        (names(1, 2, 3), names(2, 3), False, False),
        (names(*range(60)), names(99), True, True),
        (names(*range(60)), names(*range(6)), True, True),
        (names(*range(60)), names(*range(7)), False, True),
        (names(*range(60)), names(*range(30)), False, True),
        (names(*range(60)), names(*range(31)), False, False),
        ({b"lost+found", b"films"}, {b"lost+found", b"other"}, True, True),
        ({b"lost+found"}, {b"lost+found"}, False, False),
        ({b"lost+found"}, {b"placeholder"}, False, False),
    ],
)
def test_distrust_changed_where_nearly_nothing_of_what_was_known_is_left(
    known: set[bytes], there: set[bytes], on_another_device: bool, after_an_unmount: bool
) -> None:
    assert (distrust_changed(known, there, unmounted=False) is not None) is on_another_device
    assert (distrust_changed(known, there, unmounted=True) is not None) is after_an_unmount


@ANY
@given(NAMES, NAMES, st.booleans())
def test_distrust_changed_believes_a_folder_that_lost_nothing(known: set[bytes], more: set[bytes], unmounted: bool) -> None:
    assert distrust_changed(known, known | more, unmounted) is None


@ANY
@given(NAMES, NAMES, st.booleans())
def test_distrust_changed_never_believes_a_folder_of_which_nothing_is_left(
    known: set[bytes], other: set[bytes], unmounted: bool
) -> None:
    reason = distrust_changed(known, other - known, unmounted)
    assert bool(reason) is bool(known - {b"lost+found"})
    assert reason is None or "--ignore-lock" in reason


@ANY
@given(NAMES, NAMES, NAMES, st.booleans())
def test_distrust_changed_with_less_left_never_believes_more(
    known: set[bytes], there: set[bytes], gone: set[bytes], unmounted: bool
) -> None:
    if distrust_changed(known, there, unmounted):
        assert distrust_changed(known, there - gone, unmounted)
        assert distrust_changed(known, there, unmounted=True)


def test_distrust_missing_only_of_what_was_mounted() -> None:
    assert distrust_missing(was_mounted=False) is None
    assert "--ignore-lock" in (distrust_missing(was_mounted=True) or "")
