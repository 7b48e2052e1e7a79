"""A source's file system that dies at any moment is source trouble, in a sentence, whatever was being done."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine.ports import SourceTree
from distbackupd.model.errors import SourceTrouble
from distbackupd.model.files import WaitingFile
from distbackupd.model.sources import RealPath
from distbackupd.sources.tree import FolderTree
from distbackupd.store.folder_store import FolderStore
from tests.bed.foreign_targets import foreign_folder
from tests.bed.waiting import wait_until
from tests.fakes.stopping import Never

pytestmark = pytest.mark.needs("root", "loop", "mkfs.ntfs", "ntfs-3g")

NEVER = Never()
SIZE = 3_000_000


@dataclass
class Source:
    """A file on a file system whose driver can be killed, and all that a use case knows of it."""

    tree: SourceTree
    folder: Path

    @property
    def file(self) -> RealPath:
        return RealPath(os.fsencode(self.folder / "file"))

    def waiting(self, size: int = SIZE) -> WaitingFile:
        state = os.stat(self.folder / "file")
        return WaitingFile(0, b"/file", size, state.st_mtime_ns, 0, 0, state.st_ino)

    def die(self) -> None:
        found = subprocess.run(["pgrep", "--full", f"^ntfs-3g .*{self.folder}"], capture_output=True, text=True, check=True)
        for process in found.stdout.split():
            os.kill(int(process), signal.SIGKILL)
        wait_until(lambda: not answers(self.folder), "the file system is dead")


def answers(folder: Path) -> bool:
    try:
        os.listdir(folder)
    except OSError:
        return False
    return True


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with foreign_folder(tmp_path, "ntfs") as folder:
        (folder / "file").write_bytes(os.urandom(SIZE))
        yield Source(FolderTree(), folder)


BEFORE: list[Callable[[Source], Any]] = [
    lambda source: source.tree.inspect(RealPath(os.fsencode(source.folder))),
    lambda source: list(source.tree.list_folder(RealPath(os.fsencode(source.folder)), lambda _name: 1, follow=False)),
    lambda source: source.tree.describe_folder(RealPath(os.fsencode(source.folder))),
    lambda source: source.tree.names(RealPath(os.fsencode(source.folder))),
    lambda source: source.tree.identify(source.file),
    lambda source: source.tree.open_as_it_is(source.file),
]


@pytest.mark.parametrize("number", range(len(BEFORE)))
def test_whatever_is_begun_when_the_source_is_dead_is_source_trouble(source: Source, number: int) -> None:
    source.die()
    with pytest.raises(SourceTrouble, match="Transport endpoint is not connected"):
        BEFORE[number](source)
    assert source.tree.holes(source.file) == 0


def test_whatever_is_under_way_when_the_source_dies_is_source_trouble(source: Source, tmp_path: Path) -> None:
    waiting = source.waiting()
    state = os.stat(source.folder / "file")
    reading = source.tree.reading(source.file, SIZE, state.st_mtime_ns, state.st_ino)
    descriptor = source.tree.open_file(source.file, SIZE, state.st_mtime_ns, state.st_ino)
    (tmp_path / "disk").mkdir()
    store = FolderStore(os.fsencode(tmp_path / "disk"), "ext4")
    store.prepare()
    source.die()
    for work in (
        lambda: source.tree.confirm_unchanged(descriptor, SIZE, state.st_mtime_ns),
        lambda: store.stage(descriptor, bytes(32), SIZE, NEVER),
        lambda: store.stage(descriptor, bytes(32), 7, NEVER),
        lambda: store.stage_as_it_is(descriptor, SIZE, NEVER),
        lambda: source.tree.hash_file(source.file, waiting, NEVER),
        lambda: source.tree.take_file(source.file, waiting, NEVER),
        lambda: reading.go_on(NEVER),
    ):
        with pytest.raises(SourceTrouble):
            work()
    source.tree.close_file(descriptor)
    store.close()
