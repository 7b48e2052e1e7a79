"""What contents look like."""

from __future__ import annotations

import io
import sqlite3
import tarfile
import zipfile
import zlib
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbackupd.planning.kinds import HEAD, UNKNOWN, guess_extension


def zipped(**members: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return target.getvalue()


def tarred() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("name"))
    return target.getvalue()


def database() -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE one (two)")
        return connection.serialize()


@pytest.mark.parametrize(
    ("content", "extension"),
    [
        (b"\xff\xd8\xff\xe1 Exif", "jpg"),
        (b"\0\0\0\x20ftypisom", "mp4"),
        (b"\0\0\0\x18ftypheic", "heic"),
        (b"\0\0\0\x14ftypqt  ", "mov"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "wav"),
        (b"RIFF\x10\0\0\0AVI LIST", "avi"),
        (zipped(readme=b"text"), "zip"),
        (zipped(word__document=b"text"), "docx"),
        (zipped(mimetype=b"application/epub+zip"), "epub"),
        (zipped(mimetype=b"application/vnd.oasis.opendocument.text"), "odt"),
        (tarred(), "tar"),
        (database(), "sqlite"),
        (b"\x1f\x8b" + zlib.compress(b"text"), "gz"),
        ("Süße Bilder\n".encode(), "txt"),
        (("ü" * HEAD).encode(), "txt"),
        (("a" + "ü" * HEAD).encode(), "txt"),  # the last character is cut
        (b"", UNKNOWN),
        (b"\0\0\0\0", UNKNOWN),
        (b"text with \0 in it", UNKNOWN),
        ("Süß".encode("latin-1"), UNKNOWN),
        (b"\xef\xbf\xbd"[:2] * 2000, UNKNOWN),
    ],
)
def test_guess(content: bytes, extension: str) -> None:
    assert guess_extension(content[:HEAD]) == extension


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_guess_anything_gives_a_name_that_is_safe_in_a_path(content: bytes) -> None:
    assert guess_extension(content).isalnum()


@settings(deadline=None, derandomize=True)
@given(st.text(min_size=1, max_size=3000).filter(str.isprintable))
def test_guess_text_of_any_language_is_text_wherever_it_is_cut(text: str) -> None:
    words = "words: " + text
    assert guess_extension((words * (HEAD // len(words.encode()) + 1)).encode()[:HEAD]) == "txt"
