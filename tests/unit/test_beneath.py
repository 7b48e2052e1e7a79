"""Nothing leads out of a folder that is held open: the kernel's own call, and the walk where that is not to be had."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distbackupd import beneath
from tests.bed.loop_disks import run

Opener = Callable[[bytes, int, int], int]


@pytest.fixture(params=["as the machine has it", "name by name"])
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Opener]:
    """Opens beneath ``tmp_path/inside``, beside which there is a secret; closes all at the end."""
    monkeypatch.setattr(beneath, "_is_to_be_had", None if request.param == "as the machine has it" else False)
    (tmp_path / "inside/below").mkdir(parents=True)
    (tmp_path / "inside/below/file").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    folder = beneath.open_folder(bytes(tmp_path / "inside"))
    opened = [folder]

    def open_it(path: bytes, flags: int = os.O_RDONLY, mode: int = 0) -> int:
        opened.append(beneath.open_beneath(folder, path, flags, mode))
        return opened[-1]

    yield open_it
    for descriptor in opened:
        os.close(descriptor)


def refused(opener: Opener, path: bytes, flags: int = os.O_RDONLY) -> int:
    with pytest.raises(OSError, match=r".") as caught:
        opener(path, flags, 0)
    assert caught.value.errno is not None
    return caught.value.errno


def test_open_beneath_opens_files_and_folders(opener: Opener) -> None:
    assert os.read(opener(b"below/file", os.O_RDONLY, 0), 100) == b"content"
    assert os.listdir(opener(b"below", os.O_RDONLY | os.O_DIRECTORY, 0)) == ["file"]
    assert os.listdir(opener(b".", os.O_RDONLY | os.O_DIRECTORY, 0)) == ["below"]


def test_open_beneath_makes_files(opener: Opener, tmp_path: Path) -> None:
    os.write(opener(b"below/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), b"new")
    assert (tmp_path / "inside/below/new").read_bytes() == b"new"
    assert (tmp_path / "inside/below/new").stat().st_mode & 0o777 == 0o600
    assert refused(opener, b"below/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL) == errno.EEXIST
    assert refused(opener, b"below/missing") == errno.ENOENT
    assert refused(opener, b"below/file/more") == errno.ENOTDIR


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH, os.O_WRONLY | os.O_CREAT, os.O_RDONLY | os.O_DIRECTORY])
def test_open_beneath_follows_no_link(opener: Opener, tmp_path: Path, flags: int) -> None:
    (tmp_path / "inside/file link").symlink_to("below/file")
    (tmp_path / "inside/out").symlink_to(tmp_path)
    (tmp_path / "inside/magic").symlink_to("/proc/self/root")
    assert refused(opener, b"out/secret", flags) == errno.ELOOP
    assert refused(opener, b"magic/etc", flags) == errno.ELOOP
    # Linux looks at the link, or at the folder that it is not, first.
    assert refused(opener, b"file link", flags) in (errno.ELOOP, errno.ENOTDIR)
    assert not (tmp_path / "inside/out/new").exists()


def test_open_beneath_goes_never_up(opener: Opener, tmp_path: Path) -> None:
    assert refused(opener, b"../secret") == errno.EXDEV
    assert refused(opener, b"below/../../secret") == errno.EXDEV
    assert refused(opener, bytes(tmp_path / "secret")) == errno.EXDEV


@pytest.mark.needs("root")
def test_open_beneath_steps_onto_no_other_mount(opener: Opener, tmp_path: Path) -> None:
    (tmp_path / "inside/mount").mkdir()
    run("mount", "--bind", tmp_path, tmp_path / "inside/mount")
    try:
        assert refused(opener, b"mount/secret") == errno.EXDEV
        assert refused(opener, b"mount", os.O_RDONLY | os.O_DIRECTORY) == errno.EXDEV
    finally:
        run("umount", tmp_path / "inside/mount")


def test_open_beneath_does_not_wait_for_a_fifo(opener: Opener, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "inside/fifo")
    assert refused(opener, b"fifo", os.O_WRONLY) == errno.ENXIO
    opener(b"fifo", os.O_RDONLY, 0)
