from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine.ports import BadContent
from distbackupd.model.errors import Interrupted, SourceChanged, SourceTrouble
from distbackupd.model.rot import RottenFile
from distbackupd.model.sources import RealPath
from distbackupd.sources.mending import mend_source
from tests.fakes.stopping import Never, StopWhen

GOOD, ROTTEN = os.urandom(3 << 20), os.urandom(3 << 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "file"
    path.parent.mkdir()
    path.write_bytes(ROTTEN)
    path.chmod(0o4751)
    os.utime(path, ns=(111, 987_654_321_123_456_789))
    return path


def found(path: Path, **other: Any) -> RottenFile:
    state = path.stat()
    rotten = RottenFile(
        file=1,
        path=b"/file",
        size=state.st_size,
        mtime_ns=state.st_mtime_ns,
        device=state.st_dev,
        inode=state.st_ino,
        object_id=1,
        digest=hashlib.sha256(GOOD).digest(),
        holders=frozenset(),
        seen=0,
        found_at=0,
        found=hashlib.sha256(path.read_bytes()).digest(),
        ctime_ns=state.st_ctime_ns,
    )
    return rotten._replace(**other)


def content(path: Path, what: bytes) -> Any:
    stored = path.parent.parent / "object"
    stored.write_bytes(what)
    return lambda: os.open(stored, os.O_RDONLY)


def test_mend_source_replaces_the_content_and_nothing_else(path: Path) -> None:
    os.setxattr(path, "user.name", b"value")
    before = path.stat()
    entry, kept = mend_source([RealPath(os.fsencode(path))], found(path), content(path, GOOD), Never())
    state = path.stat()
    assert path.read_bytes() == GOOD
    assert (state.st_dev, state.st_ino, state.st_ctime_ns) == (entry.device, entry.inode, entry.ctime_ns)
    assert entry.inode != before.st_ino
    assert os.stat(kept).st_ino == before.st_ino, "what it held is kept"
    assert (state.st_mode, state.st_uid, state.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert state.st_mtime_ns == before.st_mtime_ns
    assert os.getxattr(path, "user.name") == b"value"
    assert sorted(map(os.fsencode, os.listdir(path.parent))) == [b"file", os.path.basename(kept)]


def test_mend_source_never_keeps_over_something_else(path: Path) -> None:
    kept = []
    for _ in range(3):
        kept.append(mend_source([RealPath(os.fsencode(path))], found(path), content(path, GOOD), Never()).kept)
        path.write_bytes(ROTTEN)
        os.utime(path, ns=(111, 987_654_321_123_456_789))
    assert len(set(kept)) == 3
    assert [name.removeprefix(kept[0]) for name in kept] == [b"", b"-2", b"-3"]


def test_mend_source_name_of_any_length_keeps_what_it_replaces(path: Path) -> None:
    long = path.rename(path.parent / ("n" * 255))
    kept = mend_source([RealPath(os.fsencode(long))], found(long), content(long, GOOD), Never()).kept
    assert Path(os.fsdecode(kept)).read_bytes() == ROTTEN
    assert long.read_bytes() == GOOD


def test_mend_source_without_hard_links_keeps_what_it_replaces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: Any, **_more: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    kept = mend_source([RealPath(os.fsencode(path))], found(path), content(path, GOOD), Never()).kept
    assert (path.read_bytes(), Path(os.fsdecode(kept)).read_bytes()) == (GOOD, ROTTEN)


def test_mend_source_keeps_holes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(8 << 20)
        file.write(b"x")
    sparse = b"y" + bytes((8 << 20) - 1)
    rotten = found(path, digest=hashlib.sha256(sparse).digest())
    mend_source([RealPath(os.fsencode(path))], rotten, content(path, sparse), Never())
    assert path.read_bytes() == sparse
    assert path.stat().st_blocks * 512 < 1 << 20


def test_mend_source_bad_content_leaves_everything(path: Path) -> None:
    before = path.stat()
    with pytest.raises(BadContent):
        mend_source([RealPath(os.fsencode(path))], found(path), content(path, ROTTEN), Never())
    assert (path.read_bytes(), path.stat().st_ctime_ns, os.listdir(path.parent)) == (ROTTEN, before.st_ctime_ns, ["file"])


def test_mend_source_stopped_leaves_everything(path: Path) -> None:
    before = path.stat()
    with pytest.raises(Interrupted):
        mend_source([RealPath(os.fsencode(path))], found(path), content(path, GOOD), StopWhen(lambda: True))
    assert (path.read_bytes(), path.stat().st_ctime_ns, os.listdir(path.parent)) == (ROTTEN, before.st_ctime_ns, ["file"])


def test_mend_source_written_meanwhile_is_left_alone(path: Path) -> None:
    rotten, good = found(path), content(path, GOOD)

    def write_and_open() -> int:
        path.write_bytes(b"somebody's work")
        return int(good())

    with pytest.raises(SourceChanged, match="something was done to it meanwhile; it was left as it is"):
        mend_source([RealPath(os.fsencode(path))], rotten, write_and_open, Never())
    assert path.read_bytes() == b"somebody's work"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.needs("root")
def test_mend_source_whose_owner_would_not_stay_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(path, 1234, 1234)
    rotten, good = found(path), content(path, GOOD)

    def refuse(*_words: Any, **_more: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(SourceTrouble, match="its owner could not be kept; it was left as it is: ask as root"):
        mend_source([RealPath(os.fsencode(path))], rotten, good, Never())
    assert path.read_bytes() == ROTTEN
    assert os.listdir(path.parent) == ["file"]


def test_mend_source_full_disk_is_told_in_words(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rotten, good = found(path), content(path, GOOD)

    def refuse(*_words: Any, **_more: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(SourceTrouble, match="it cannot be replaced: No space left on device; it was left as it is"):
        mend_source([RealPath(os.fsencode(path))], rotten, good, Never())
    assert path.read_bytes() == ROTTEN
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.needs("root")
@pytest.mark.parametrize("back", [False, True])
def test_mend_source_names_exchanged_meanwhile_give_no_privilege(path: Path, back: bool) -> None:
    """A user renames a set-user-ID file of root's, which lies in his folder, into the place while the content is read."""
    path.chmod(0o644)
    os.chown(path, 1234, 1234)
    program = path.parent / "program"
    program.write_bytes(b"root's")
    program.chmod(0o4755)
    rotten, good = found(path), content(path, GOOD)

    def exchange() -> None:
        path.rename(path.parent / "aside")
        program.rename(path)
        (path.parent / "aside").rename(program)

    def exchange_and_open() -> int:
        exchange()
        return int(good())

    class Pulse(Never):
        def beat(self, done_bytes: int) -> None:
            if back and path.read_bytes() == b"root's":
                exchange()

    with contextlib.suppress(SourceChanged):
        mend_source([RealPath(os.fsencode(path))], rotten, exchange_and_open, Pulse())
    for file in path.parent.iterdir():
        state = file.stat()
        assert state.st_uid == 1234 or file.read_bytes() == b"root's"
        assert not state.st_mode & 0o7000 or file.read_bytes() == b"root's"
