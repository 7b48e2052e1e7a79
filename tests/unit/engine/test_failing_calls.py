"""Calls that change something on a backup disk fail in turn: what is recorded is true, the next session ends well."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DiskTrouble
from distbackupd.model.plans import Policy
from distbackupd.store import folder_store
from distbackupd.store.folder_store import FolderStore
from tests.unit.engine.scenes import NEVER, Scene, scene_at, sha256

CODES = (errno.EIO, errno.ENOSPC, errno.EROFS)
STEP = 6


class FailingCalls:
    """Calls that change something below ``root`` are counted; those from the ``at``-th on (``once``: that alone) fail."""

    def __init__(self, root: Path, at: int = 0, code: int = 0, once: bool = True) -> None:
        self.root = os.fsencode(root)
        self.at, self.code, self.once = at, code, once
        self.calls: list[str] = []
        self.failed: list[str] = []
        self._lock = threading.Lock()

    @contextmanager
    def injected(self) -> Iterator[FailingCalls]:
        with pytest.MonkeyPatch.context() as patch:
            self._replace(
                patch, os, "open", lambda path, flags, *_, dir_fd=None: (path, dir_fd) if flags & os.O_CREAT else None
            )
            self._replace(patch, os, "mkdir", lambda path, *_, dir_fd=None: (path, dir_fd))
            self._replace(patch, os, "unlink", lambda path, *_, dir_fd=None: (path, dir_fd))
            self._replace(patch, os, "rmdir", lambda path, *_, dir_fd=None: (path, dir_fd))
            self._replace(patch, os, "rename", lambda old, _new, src_dir_fd=None, dst_dir_fd=None: (old, src_dir_fd))
            for name in ("write", "fsync", "sendfile", "ftruncate"):
                self._replace(patch, os, name, lambda descriptor, *_: (b"", descriptor))
            self._replace(patch, folder_store, "flush_filesystem", lambda descriptor, *_: (b"", descriptor))
            yield self

    def _replace(self, patch: pytest.MonkeyPatch, module: Any, name: str, place: Callable[..., Any]) -> None:
        real = getattr(module, name)

        def call(*words: Any, **more: Any) -> Any:
            if (found := place(*words, **more)) is not None:
                self._meet(name, *found)
            return real(*words, **more)

        patch.setattr(module, name, call)

    def _meet(self, name: str, path: Any, folder: int | None) -> None:
        place = os.fsencode(path) if isinstance(path, (str, bytes, os.PathLike)) else b""
        if folder is not None:
            place = os.path.join(os.readlink(b"/proc/self/fd/%d" % folder), place)
        if not place.startswith(self.root):
            return
        with self._lock:
            self.calls.append(f"{name} {os.fsdecode(place.removeprefix(self.root))}")
            number = len(self.calls)
            fails = self.at and (number == self.at if self.once else number >= self.at)
            if fails:
                self.failed.append(self.calls[-1])
        if fails:
            raise OSError(self.code, os.strerror(self.code), place)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where flushing costs nothing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def life(memory: Path) -> Life:
    """Before a session in which all happens: copies of both sizes, deletions, a rotten copy, another name."""
    life = Life(memory)
    with life.scene() as (scene, disk):
        for number in range(3):
            scene.write(f"{number}")
        scene.write("rotten")
        scene.scan()
        scene.back_up(disk)
        (rotten,) = (path for path in life.root.glob("distbackup-objects/*/*") if path.read_bytes() == b"rotten")
        rotten.write_bytes(b"retton")
        for number in range(2):
            (scene.real / f"{number}").unlink()
            scene.write(f"new {number}")
        scene.write("large", bytes(range(256)) * 8192)
        scene.scan()
        scene.catalogue.disks.update(replace(disk, name="two"))
    life.keep()
    return life


class Life:
    """The state of catalogue and disk, which comes back as it was kept; the sources stay as they are."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.root = place / "disks" / "one"
        self.root.mkdir(parents=True)

    def keep(self) -> None:
        for name in ("catalogue", "disks"):
            shutil.copytree(self._place / name, self._place / "kept" / name)

    def come_back(self) -> None:
        for name in ("catalogue", "disks"):
            shutil.rmtree(self._place / name)
            shutil.copytree(self._place / "kept" / name, self._place / name)

    @contextmanager
    def scene(self) -> Iterator[tuple[Scene, BackupDisk]]:
        with scene_at(self._place) as scene, closing(FolderStore(os.fsencode(self.root), "ext4")) as store:
            scene.stores[os.fsencode(self.root)] = store
            known = scene.catalogue.disks.all()
            yield scene, known[0] if known else scene.add_disk("one", store)


def session(scene: Scene, disk: BackupDisk) -> DiskTrouble | None:
    """The trouble with which one that looks at everything ended; any other error is raised."""
    scene.clock.pass_time(30 * 3600)
    try:
        scene.back_up(disk, policy=Policy(grace=0), share=1.0)
    except DiskTrouble as trouble:
        return trouble
    return None


def untrue_of(scene: Scene, disk: BackupDisk) -> list[str]:
    """What the catalogue says of the disk that is not so; that a copy rotted need not be known yet."""
    store = scene.store(disk)
    checked = (store.check(*copy, NEVER) for copy in scene.held(disk).items() if copy[0] != sha256("rotten"))
    return [verdict.problem for verdict in checked if verdict.problem]


def what_is_wrong(scene: Scene, disk: BackupDisk, root: Path) -> list[str]:
    """After a session that ended well."""
    left = [path.name for path in (*root.glob("*.new"), *root.glob("distbackup-tmp/*"))]
    lying = {path.name for path in root.glob("distbackup-objects/*/*")}
    held = {digest.hex() for digest in scene.held(disk)}
    scene.assert_true(disk)
    return [f"left {left}"] * bool(left) + [f"{len(lying - held)} objects are not known"] * (lying != held)


@pytest.mark.parametrize("turn", range(6))
def test_a_session_whose_calls_fail_in_turn_records_nothing_untrue_and_the_next_ends_well(life: Life, turn: int) -> None:
    code, once = CODES[turn % 3], turn < 3
    with life.scene() as (scene, disk):
        with FailingCalls(life.root).injected() as counted:
            assert session(scene, disk) is None
        assert what_is_wrong(scene, disk, life.root) == []
    assert len(counted.calls) > 40
    wrong = []
    for number in range(1 + turn, len(counted.calls) + 1, STEP):
        life.come_back()
        with life.scene() as (scene, disk):
            with FailingCalls(life.root, number, code, once).injected() as failing:
                trouble = session(scene, disk)
            told = [event.sentence for event in scene.reporter.events]
            found = untrue_of(scene, disk)
            again = session(scene, disk)
            found += [f"the next: {again}"] if again else what_is_wrong(scene, disk, life.root)
            if trouble is None and not once and not any("room" in sentence for sentence in told):
                found.append("nobody was told")
            if found:
                wrong.append(f"{number} {failing.failed[:1]}: {trouble}: {found}: {told[-3:]}")
    assert wrong == []
