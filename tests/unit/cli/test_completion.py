from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from distbackupd.catalogue.catalogue import open_catalogue
from distbackupd.cli.completion import complete_disk, complete_restored, complete_virtual_path
from tests.unit.catalogue.making import add_disk, add_files


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_completion_trouble_offers_nothing_and_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "distbackup.sqlite").write_bytes(content)
    arguments = argparse.Namespace(database=str(tmp_path))
    assert complete_disk("", arguments) == []
    assert complete_virtual_path("/", arguments) == []
    assert complete_disk("/a/path", arguments) == []
    assert capsys.readouterr() == ("", "")


def test_complete_restored_offers_disks_or_with_a_destination_virtual_paths(tmp_path: Path) -> None:
    with open_catalogue(tmp_path) as catalogue:
        add_disk(catalogue, "photos-01")
        add_files(catalogue, b"/", b"photos.txt")
    for from_shelf in ({"to": "/srv", "minset": False}, {"to": None, "minset": True}):
        arguments = argparse.Namespace(database=str(tmp_path), **from_shelf)
        assert complete_restored("/ph", arguments) == ["/photos.txt"]
    arguments = argparse.Namespace(database=str(tmp_path), to=None, minset=False)
    assert complete_restored("ph", arguments) == ["photos-01"]
