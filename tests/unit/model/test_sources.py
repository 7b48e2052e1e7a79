"""Virtual paths, and settings as they are stored."""

from __future__ import annotations

from typing import Any

import pytest

from distbackupd.model.errors import UsageError
from distbackupd.model.sources import FolderSettings, canonical_virtual_path


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("", b"/"),
        ("/", b"/"),
        ("///", b"/"),
        ("photos//2024/", b"/photos/2024"),
        ("/a b/ä", "/a b/ä".encode()),
        (b"/\xff\n", b"/\xff\n"),
        ("/\udcff", b"/\xff"),
        ("...", b"/..."),
    ],
)
def test_canonical_virtual_path_is_absolute_without_doubled_slashes(path: str | bytes, canonical: bytes) -> None:
    assert canonical_virtual_path(path) == canonical
    assert canonical_virtual_path(canonical) == canonical


@pytest.mark.parametrize("path", [".", "..", "/a/../b", "/a/./b", "/a\0b", b"/.."])
def test_canonical_virtual_path_with_dots_or_nul_is_refused(path: str | bytes) -> None:
    with pytest.raises(UsageError):
        canonical_virtual_path(path)


@pytest.mark.parametrize(
    "settings",
    [FolderSettings(), FolderSettings(lock=True), FolderSettings(True, True, True, True, 2, 3, ("!a", "*.b"))],
)
def test_to_mapping_and_back_gives_the_same(settings: FolderSettings) -> None:
    assert FolderSettings.from_mapping(settings.to_mapping()) == settings


def test_to_mapping_keeps_only_what_is_set() -> None:
    assert FolderSettings().to_mapping() == {}
    assert FolderSettings(hide=True, rules=("a",)).to_mapping() == {"hide": True, "rules": ["a"]}


@pytest.mark.parametrize("mapping", [{"lock": None}, {"priority": 0}, {"maxcopies": None}, {"rules": None}, {"rules": []}])
def test_from_mapping_nothing_said_is_the_default(mapping: dict[str, Any]) -> None:
    assert FolderSettings.from_mapping(mapping) == FolderSettings()


@pytest.mark.parametrize(
    "mapping",
    [
        {"unknown": 1},
        {"lock": 1},
        {"lock": "true"},
        {"priority": -1},
        {"priority": True},
        {"maxcopies": "3"},
        {"maxcopies": 1.5},
        {"rules": "*.tmp"},
        {"rules": [1]},
    ],
)
def test_from_mapping_what_cannot_be_meant_is_refused(mapping: dict[str, Any]) -> None:
    (key,) = mapping
    with pytest.raises(UsageError, match=key):
        FolderSettings.from_mapping(mapping)


@pytest.mark.parametrize(
    "mapping", [{"a\nb\x1b[2J": 1}, {"lock": "x" * 100_000}, {"priority": 10**400}, {"rules": ["a", b"\n"]}]
)
def test_from_mapping_tells_what_is_wrong_in_one_line_that_ends(mapping: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refused:
        FolderSettings.from_mapping(mapping)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200
