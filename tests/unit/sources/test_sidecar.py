"""What side files say."""

from __future__ import annotations

import json

import pytest

from distbackupd.sources.sidecar import SideFile, parse_side_file

HASH = "ab" * 32


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({}, SideFile(None, None, None)),
        ({"hash": HASH}, SideFile(bytes.fromhex(HASH), None, None)),
        ({"hash": HASH.upper(), "more": [1]}, SideFile(bytes.fromhex(HASH), None, None)),
        ({"hash": ""}, SideFile(None, None, None)),
        ({"hash": None, "priority": None, "maxcopies": None}, SideFile(None, None, None)),
        ({"priority": 0}, SideFile(None, 0, None)),
        ({"priority": 7, "maxcopies": 2}, SideFile(None, 7, 2)),
        ({"maxcopies": "inf"}, SideFile(None, None, 0)),
    ],
)
def test_parse_side_file_usable_says_what_it_says(mapping: dict[str, object], said: SideFile) -> None:
    assert parse_side_file(json.dumps(mapping).encode()) == said


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"hash": "abc"}',
        b'{"hash": 5}',
        b'{"hash": "' + b"g" * 64 + b'"}',
        b'{"priority": -1}',
        b'{"priority": 1.5}',
        b'{"priority": true}',
        b'{"priority": "3"}',
        b'{"priority": 99999999999999999999}',
        b'{"maxcopies": 0}',
        b'{"maxcopies": "many"}',
        b'{"maxcopies": false}',
    ],
)
def test_parse_side_file_unusable_says_why(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(it is|its)\b"):
        parse_side_file(content)
