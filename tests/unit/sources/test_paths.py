"""Paths longer than what the kernel takes at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distbackupd.sources.paths import open_folder, open_path
from tests.trees import build_deep_path


def deepest(root: Path) -> bytes:
    """The path of the folder at the bottom."""
    path = os.fsencode(root)
    while True:
        descriptor = open_folder(path)
        folders = [name for name in map(os.fsencode, os.listdir(descriptor)) if not name.startswith((b"bottom", b"link"))]
        os.close(descriptor)
        if not folders:
            return path
        path += b"/" + folders[0]


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = tmp_path_factory.mktemp("deep")
    build_deep_path(root, 9000)
    return deepest(root)


def test_open_path_any_length_is_opened(deep: bytes) -> None:
    assert len(deep) > 9000
    with open(open_path(deep + b"/bottom", os.O_RDONLY), "rb") as file:
        assert file.read() == b"at the bottom"
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        open_path(deep + b"/missing", os.O_RDONLY)
    with pytest.raises(NotADirectoryError):
        open_folder(deep + b"/bottom")
    with pytest.raises(FileNotFoundError):
        open_path(deep.replace(b"ddd", b"xxx") + b"/missing", os.O_RDONLY)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("length", [3990, 4000, 4001, 4090, 4095, 4096, 4100, 8000, 8001, 8192])
def test_open_path_lengths_around_the_limits_are_opened(tmp_path: Path, length: int) -> None:
    path = os.fsencode(tmp_path)
    descriptor = os.open(path, os.O_RDONLY)
    while len(path) < length:
        left = length - len(path) - 1
        name = b"n" * (left if left <= 255 else 200 if left > 456 else left // 2)
        if not name:
            break
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor, path = below, path + b"/" + name
    opened = open_folder(path)
    assert os.fstat(opened).st_ino == os.fstat(descriptor).st_ino
    os.mkdir(b"x" * 255, dir_fd=opened)
    assert os.listdir(opened) == ["x" * 255]
    os.close(opened)
    os.close(descriptor)
