"""Whether a source can be trusted."""

from __future__ import annotations

import pytest

from distbackupd.planning.attendance import distrust


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
