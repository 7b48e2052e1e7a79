"""Whatever lies in a file that others wrote, only the errors that are promised come of it, in one line, and soon."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.catalogue.encoding import decode_xattrs, encode_xattrs
from distbackupd.config.settings import Settings, load_settings
from distbackupd.model.errors import UsageError
from distbackupd.model.sources import FolderSettings
from distbackupd.sources.sidecar import parse_side_file
from tests.fuzz.cases import (
    JSON_VALUES,
    NASTY_NUMBERS,
    NASTY_TEXT,
    cases,
    damaged,
    is_fit_to_be_told,
    json_objects,
    texts_of,
)

HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for files; a module's, for it holds nothing from one case to the next."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@cases(300)
@given(texts_of(json_objects(hash=HASHES, priority=st.integers(0, 99), maxcopies=st.integers(1, 9) | st.just("inf"))))
def test_side_files(content: bytes) -> None:
    try:
        said = parse_side_file(content)
    except ValueError as error:
        assert is_fit_to_be_told(error, 200)  # noqa: PT017 - most cases raise nothing
        return
    assert said.digest is None or len(said.digest) == 32
    assert said.priority is None or 0 <= said.priority < 2**31
    assert said.maxcopies is None or 0 <= said.maxcopies < 2**31


FOLDER_SETTINGS = json_objects(
    lock=st.booleans(),
    priority=st.integers(0, 9),
    maxcopies=st.integers(0, 9),
    copies=st.integers(0, 9),
    rules=st.lists(st.text(max_size=9)),
)


@cases(300)
@given(FOLDER_SETTINGS)
def test_settings_of_folders_in_a_catalogue(mapping: dict[str, object]) -> None:
    try:
        known = FolderSettings.from_mapping(mapping)
    except UsageError as error:
        assert is_fit_to_be_told(error, 1000)  # noqa: PT017 - most cases raise nothing
        return
    assert FolderSettings.from_mapping(json.loads(json.dumps(known.to_mapping()))) == known


@cases(300)
@given(st.binary(max_size=300) | damaged(st.just(encode_xattrs(((b"user.a", b"1" * 20), (b"security.capability", b""))))))
def test_extended_attributes_in_a_catalogue(blob: bytes) -> None:
    try:
        known = decode_xattrs(blob)
    except ValueError:
        return
    assert encode_xattrs(known) == blob


def as_toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{as_toml(str(key))} = {as_toml(item)}' for key, item in value.items())}}}"
    return json.dumps(value) if value is not None else '""'


VALUES = st.sampled_from(
    ["30d", "03:00", "5%", "64M", "0", "1e9d", "99999999999999999999w", "²d", "24:60", "-1", "/mnt", ""]
)
LINES = st.dictionaries(
    st.sampled_from([*Settings.__struct_fields__, *Settings.__struct_fields__, '"a\\nb"', '"\\u001b[2J"', "x"]) | st.none(),
    VALUES | JSON_VALUES | NASTY_NUMBERS | NASTY_TEXT,
    max_size=5,
)
TABLES = LINES.map(lambda lines: "".join(f"{key or 'y'} = {as_toml(value)}\n" for key, value in lines.items()))
ENCODED = TABLES.map(lambda text: text.encode("utf-8", "surrogatepass"))
NO_TOML = st.sampled_from(
    [
        b"a = " + b"[" * 9000,
        b"a = " + b"{a=" * 9000,
        b"a = " + b"1" * 9000,
        b"[" + b"a." * 9000 + b"a]",
        b"a = 0x" * 99,
    ]
)


@cases(300)
@given(ENCODED | damaged(ENCODED) | NO_TOML | st.binary())
def test_the_settings_file(place: Path, content: bytes) -> None:
    file = place / f"{os.getpid()}\n.toml"
    file.write_bytes(content)
    try:
        settings = load_settings(file)
    except UsageError as error:
        assert is_fit_to_be_told(error, 2000)  # noqa: PT017 - most cases raise nothing
        return
    for name in dir(type(settings)):
        if not name.startswith("_"):
            getattr(settings, name)
    assert 0 <= settings.verify_share_fraction <= 1
    assert 0 <= settings.keep_deleted_seconds < 2**40
