from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from distbackupd.engine.ports import BadContent
from distbackupd.model.errors import CatalogueTrouble, Interrupted
from distbackupd.store import rescued
from distbackupd.store.rescued import RescueFolder
from tests.fakes.stopping import Never, StopWhen

CONTENT = os.urandom(3 << 20)
DIGEST = hashlib.sha256(CONTENT).digest()


@pytest.fixture
def folder(tmp_path: Path) -> RescueFolder:
    return RescueFolder(os.fsencode(tmp_path / "rescued"))


def opened(path: Path, content: bytes) -> Callable[[], int]:
    path.write_bytes(content)
    return lambda: os.open(path, os.O_RDONLY)


def test_keep_content_can_be_read_again_by_nobody_else(folder: RescueFolder, tmp_path: Path) -> None:
    assert not folder.has(DIGEST)
    assert folder.keep(DIGEST, len(CONTENT), opened(tmp_path / "object", CONTENT), Never())
    assert folder.has(DIGEST)
    with open(folder.open(DIGEST), "rb") as file:
        assert file.read() == CONTENT
    assert (tmp_path / "rescued").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "rescued" / DIGEST.hex()).stat().st_mode & 0o777 == 0o600


def test_keep_bad_content_is_not_kept(folder: RescueFolder, tmp_path: Path) -> None:
    with pytest.raises(BadContent):
        folder.keep(DIGEST, len(CONTENT), opened(tmp_path / "object", CONTENT[:-1] + b"x"), Never())
    assert os.listdir(tmp_path / "rescued") == []


def test_keep_stopped_leaves_nothing(folder: RescueFolder, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        folder.keep(DIGEST, len(CONTENT), opened(tmp_path / "object", CONTENT), StopWhen(lambda: True))
    assert os.listdir(tmp_path / "rescued") == []


def test_keep_without_room_says_so(folder: RescueFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescued, "_MARGIN", 1 << 60)
    assert not folder.keep(DIGEST, len(CONTENT), opened(tmp_path / "object", CONTENT), Never())
    assert not folder.has(DIGEST)


def test_keep_only_removes_the_others(folder: RescueFolder, tmp_path: Path) -> None:
    folder.keep_only([])
    for content in (b"one", b"two"):
        folder.keep(hashlib.sha256(content).digest(), 3, opened(tmp_path / "object", content), Never())
    (tmp_path / "rescued" / ("0" * 64 + ".new")).touch()
    folder.keep_only([hashlib.sha256(b"two").digest()])
    assert os.listdir(tmp_path / "rescued") == [hashlib.sha256(b"two").hexdigest()]


def test_keep_follows_no_link_to_another_folder(folder: RescueFolder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "rescued").symlink_to("elsewhere")
    with pytest.raises(CatalogueTrouble):
        folder.keep(DIGEST, len(CONTENT), opened(tmp_path / "content", CONTENT), Never())
    assert not folder.has(DIGEST)
    assert list((tmp_path / "elsewhere").iterdir()) == []
