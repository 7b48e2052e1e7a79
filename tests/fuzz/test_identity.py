"""Who a disk says it is, and what its last session left: files that anybody may have written who had it in hand."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.model.errors import DiskNotOurs
from distbackupd.store import identity, session_token
from distbackupd.store.folders import Folder
from distbackupd.store.identity import identity_text, read_identity
from distbackupd.store.session_token import read_token
from tests.fuzz.cases import NASTY_TEXT, cases, is_fit_to_be_told, json_objects, texts_of

UUIDS = st.uuids().map(str) | st.sampled_from(["{}", "urn:uuid:", "0" * 32, "²" * 32, "٣" * 32, "../../etc"])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A disk's folder; one for all cases of a test, each of which writes the whole file anew."""
    return tmp_path


@pytest.fixture
def root(place: Path) -> Iterator[Folder]:
    folder = Folder(os.open(place, os.O_RDONLY | os.O_DIRECTORY))
    yield folder
    folder.close()


@cases(200)
@given(texts_of(json_objects(uuid=UUIDS, name=NASTY_TEXT)))
def test_who_a_disk_says_it_is(place: Path, root: Folder, content: bytes) -> None:
    (place / os.fsdecode(identity.FILE_NAME)).write_bytes(content)
    try:
        said = read_identity(root, os.fsencode(place))
    except DiskNotOurs as error:
        assert is_fit_to_be_told(error)  # noqa: PT017 - most cases raise nothing
        return
    assert said is not None
    assert str(uuid.UUID(said.uuid)) == said.uuid
    assert said.uuid.isascii()
    assert isinstance(said.name, str)
    identity_text(said).decode("ascii")


@cases(200)
@given(texts_of(json_objects(token=st.uuids().map(str))))
def test_what_the_last_session_left(place: Path, root: Folder, content: bytes) -> None:
    (place / os.fsdecode(session_token.FILE_NAME)).write_bytes(content)
    token = read_token(root)
    assert len(token) <= 4096
