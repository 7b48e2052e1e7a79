from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from distbackupd.sources import attributes
from distbackupd.sources.attributes import read_xattrs


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    os.setxattr(file, "user.a", b"1")
    os.setxattr(file, b"user.\xff\n", b"2" * 1000)
    return os.fsencode(file)


def test_read_xattrs_gives_names_that_are_no_utf_8(path: bytes) -> None:
    assert read_xattrs(path, True) == (((b"user.a", b"1"), (b"user.\xff\n", b"2" * 1000)), [])


@pytest.mark.parametrize("number", [errno.EIO, errno.E2BIG, errno.ERANGE, errno.EUCLEAN, errno.ENOMEM])
def test_read_xattrs_whose_names_cannot_be_had_is_told(path: bytes, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object, **__: object) -> list[str]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(attributes.os, "listxattr", fail)
    found, lost = read_xattrs(path, True)
    assert found == ()
    assert lost == [f"its extended attributes cannot be read ({os.strerror(number)}), so it is kept without them"]


@pytest.mark.parametrize("number", [errno.EIO, errno.E2BIG, errno.ERANGE])
def test_read_xattrs_one_value_that_cannot_be_had_is_told_and_the_others_kept(
    path: bytes, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    get = os.getxattr

    def fail(path: bytes, name: bytes, **more: bool) -> bytes:
        if name == b"user.a":
            raise OSError(number, os.strerror(number))
        return get(path, name, **more)

    monkeypatch.setattr(attributes.os, "getxattr", fail)
    assert read_xattrs(path, True) == (
        ((b"user.\xff\n", b"2" * 1000),),
        [f"some of its extended attributes cannot be kept ({os.strerror(number)})"],
    )


def test_read_xattrs_that_go_between_the_two_calls_are_none(path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    names = os.listxattr(path)
    os.removexattr(path, "user.a")
    monkeypatch.setattr(attributes.os, "listxattr", lambda *_, **__: names)
    assert read_xattrs(path, True) == (((b"user.\xff\n", b"2" * 1000),), [])


def test_read_xattrs_more_than_fits_keeps_the_first(path: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "_MOST_BYTES", 500)
    assert read_xattrs(path, True) == (
        ((b"user.a", b"1"),),
        ["some of its extended attributes cannot be kept (they are larger than all that is kept of one file)"],
    )
