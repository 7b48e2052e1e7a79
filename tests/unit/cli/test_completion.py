from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from distbackupd.cli.completion import complete_disk, complete_virtual_path


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
