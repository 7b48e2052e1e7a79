"""What is believed is read again, and what holds something else has changed."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd.engine import confirming
from distbackupd.engine.confirming import Confirmer
from distbackupd.model.errors import EngineBusy, Interrupted
from distbackupd.model.events import ContentsChanged, FileSkipped, SourceRotted
from distbackupd.planning import settling
from tests.bed.loop_disks import loop_disk, mounted_at
from tests.fakes.stopping import StopWhen
from tests.unit.engine.scenes import HOUR_NS, NEVER, Scene, scene_at, sha256


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        for name in ("a", "b", "folder/c"):
            opened.write(name, f"content of {name}")
        opened.scan()
        opened.tree.opened.clear()
        yield opened


@pytest.fixture
def confirmer(scene: Scene) -> Confirmer:
    return Confirmer(scene.bench, contextlib.nullcontext, lambda: time.time_ns() + HOUR_NS)


@pytest.fixture
def no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read again in a scan."""
    monkeypatch.setattr(confirming, "BUDGET", 0)


def write_unseen(path: Path, content: str) -> None:
    """As VeraCrypt does, and ``touch -r``: the same size, and the time put back."""
    before = path.stat()
    path.write_text(content)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def waiting(scene: Scene) -> int:
    return scene.catalogue.unconfirmed.total()[0]


# --- in a scan -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chmod", [False, True])
def test_scan_file_written_with_its_time_put_back_has_changed_and_is_told(scene: Scene, chmod: bool) -> None:
    disk = scene.add_disk("one")
    scene.back_up(disk)
    write_unseen(scene.real / "a", "CONTENT OF A")
    if chmod:
        (scene.real / "a").chmod(0o600)
    finished = scene.scan()
    assert (finished.confirmed, finished.unconfirmed, finished.hashed) == (1, 0, 0)
    assert scene.digest("/a") == sha256("CONTENT OF A")
    (told,) = scene.reporter.told(ContentsChanged)
    assert (told.path, told.files) == (b"/a", 1)
    assert next(item.digest for item in scene.catalogue.history.versions(b"/a")) == sha256("content of a")
    assert scene.back_up(disk).copied_objects == 1
    assert scene.reporter.told(SourceRotted) == []
    assert scene.scan().confirmed == 0


def test_scan_changed_mode_is_recorded_and_the_content_confirmed(scene: Scene) -> None:
    (scene.real / "a").chmod(0o600)
    finished = scene.scan()
    assert (finished.changed, finished.confirmed, finished.unconfirmed) == (1, 1, 0)
    assert scene.reporter.told(ContentsChanged) == []


def test_scan_file_moved_over_another_of_the_same_size_and_time_is_known_for_what_it_is(scene: Scene) -> None:
    for name in ("x", "y"):
        os.utime(scene.write(name, f"content {name}"), ns=(1, 10**18))
    scene.scan()
    (scene.real / "x").rename(scene.real / "y")
    scene.scan()
    assert scene.digest("/y") == sha256("content x")
    assert waiting(scene) == 0


def test_scan_file_of_the_same_size_and_time_that_takes_a_name_is_read(scene: Scene) -> None:
    path = scene.real / "a"
    before = path.stat()
    other = scene.place / "other"
    other.write_text("CONTENT OF A")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)
    scene.scan()
    assert scene.digest("/a") == sha256("CONTENT OF A")


@pytest.mark.usefixtures("no_budget")
def test_scan_renamed_file_is_believed_until_it_is_read(scene: Scene, confirmer: Confirmer) -> None:
    (scene.real / "folder" / "c").rename(scene.real / "d")
    finished = scene.scan()
    assert (finished.hashed, finished.unconfirmed) == (0, 1)
    assert scene.digest("/d") == sha256("content of folder/c")
    assert "1 file, 19 bytes, is believed until it is read again" in finished.sentence
    assert confirmer.go_on(NEVER)
    assert waiting(scene) == 0
    assert not confirmer.go_on(NEVER)


def test_scan_file_renamed_between_two_scans_of_parts_is_read(scene: Scene) -> None:
    """Its old name went in another scan: whether it is the same file nobody has seen."""
    (scene.real / "folder" / "c").rename(scene.place / "meanwhile")
    scene.scan(folders=[os.fsencode(scene.real / "folder")])
    (scene.place / "meanwhile").rename(scene.real / "d")
    assert scene.scan(folders=[os.fsencode(scene.real)]).hashed == 1


def test_scan_of_a_part_believes_what_went_elsewhere(scene: Scene) -> None:
    (scene.real / "folder" / "c").rename(scene.real / "d")
    assert scene.scan(folders=[os.fsencode(scene.real)]).hashed == 0
    assert scene.digest("/d") == sha256("content of folder/c")


def test_scan_hard_linked_tree_is_read_once(scene: Scene) -> None:
    shutil.copytree(scene.real / "folder", scene.real / "copy", copy_function=os.link)
    os.link(scene.real / "a", scene.real / "second")
    finished = scene.scan()
    assert (finished.hashed, finished.confirmed, finished.unconfirmed) == (0, 2, 0)
    assert scene.digest("/copy/c") == sha256("content of folder/c")
    write_unseen(scene.real / "a", "CONTENT OF A")
    assert scene.scan().confirmed == 1
    assert scene.digest("/a") == scene.digest("/second") == sha256("CONTENT OF A")


def test_scan_more_than_a_budget_waits_and_is_shown(
    scene: Scene, confirmer: Confirmer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "BUDGET", 2 * (settling.EFFORT + 20))
    for name in ("a", "b", "folder/c"):
        (scene.real / name).chmod(0o600)
    finished = scene.scan()
    assert (finished.changed, finished.confirmed, finished.unconfirmed) == (3, 2, 1)
    assert scene.scan().confirmed == 1, "the rest is next"
    (scene.real / "a").chmod(0o640)
    monkeypatch.setattr(confirming, "BUDGET", 0)
    assert scene.scan().unconfirmed == 1
    assert scene.scan(confirm_all=True).unconfirmed == 0


@pytest.mark.usefixtures("no_budget")
@pytest.mark.needs("root")
def test_scan_file_of_another_owner_is_not_his_before_it_is_read(scene: Scene, confirmer: Confirmer) -> None:
    write_unseen(scene.real / "a", "CONTENT OF A")
    os.chown(scene.real / "a", 1234, 1234)
    for _ in range(2):
        assert scene.scan().unconfirmed == 1
        (entry,) = scene.catalogue.files.restore_entries(b"/a")
        assert (entry.attributes.uid, entry.digest) == (os.geteuid(), sha256("content of a"))
    confirmer.go_on(NEVER)
    (entry,) = scene.catalogue.files.restore_entries(b"/a")
    assert (entry.attributes.uid, entry.digest) == (1234, sha256("CONTENT OF A"))
    assert (scene.scan().changed, waiting(scene)) == (0, 0)


@pytest.mark.needs("root", "loop", "ext4")
@pytest.mark.parametrize("owner", [0, 1234])
def test_scan_inode_used_again_by_a_file_with_a_fixed_time_is_read(tmp_path: Path, owner: int) -> None:
    """As Nix and OSTree make them, and as anybody can who wants another's content for his own."""
    with (
        loop_disk(tmp_path, "ext4", megabytes=64) as disk,
        mounted_at(disk.device, tmp_path / "source") as root,
        scene_at(tmp_path) as scene,
    ):
        first = root / "first"
        first.write_text("content one")
        os.utime(first, ns=(1, 10**9))
        scene.scan()
        inode = first.stat().st_ino
        first.unlink()
        second = root / "second"
        second.write_text("content two")
        os.utime(second, ns=(1, 10**9))
        os.chown(second, owner, owner)
        assert second.stat().st_ino == inode
        scene.scan()
        assert scene.digest("/second") == sha256("content two")


# --- what was read too soon ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filesystem_type", "ahead", "settled"), [("ext4", -1, 0), ("ext4", 30, 1), ("vfat", 30, 0), ("vfat", 90, 1)]
)
def test_scan_what_was_read_too_soon_after_a_write_is_read_again(
    scene: Scene, filesystem_type: str, ahead: int, settled: int
) -> None:
    scene.tree.filesystem_type = filesystem_type
    scene.scan()
    scene.tree.ahead_ns = ahead * 10**9
    scene.write("new", "written now")
    assert scene.scan().unconfirmed == 1 - settled
    scene.tree.ahead_ns = HOUR_NS
    finished = scene.scan()
    assert finished.unconfirmed == 0
    assert scene.scan().confirmed == 0


def test_scan_file_written_again_in_the_same_moment_has_changed(scene: Scene) -> None:
    scene.tree.ahead_ns = -(10**9)
    scene.write("new", "written now")
    assert scene.scan().unconfirmed == 1
    scene.rot("new", "WRITTEN NOW")
    assert scene.scan().changed == 1
    assert scene.digest("/new") == sha256("WRITTEN NOW")
    assert scene.reporter.told(SourceRotted) == []


def test_run_session_source_that_was_read_too_soon_has_changed_and_not_rotted(scene: Scene) -> None:
    scene.tree.ahead_ns = -(10**9)
    scene.write("new", "written now")
    scene.scan()
    scene.rot("new", "WRITTEN NOW")
    disk = scene.add_disk("one")
    assert scene.back_up(disk).skipped == 1
    assert scene.reporter.told(SourceRotted) == []
    scene.scan()
    assert scene.back_up(disk).copied_objects == 1


# --- while nothing else is to be done --------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_budget")
def test_go_on_reads_all_and_tells_what_changed(scene: Scene, confirmer: Confirmer) -> None:
    write_unseen(scene.real / "a", "CONTENT OF A")
    write_unseen(scene.real / "b", "CONTENT OF B")
    (scene.real / "folder" / "c").chmod(0o600)
    assert scene.scan().unconfirmed == 3
    assert confirmer.go_on(NEVER)
    assert waiting(scene) == 0
    (told,) = scene.reporter.told(ContentsChanged)
    assert told.files == 2
    assert "and 1 other file changed although their size and time are the same" in told.sentence
    assert scene.back_up(scene.add_disk("one")).copied_objects == 3


@pytest.mark.usefixtures("no_budget")
def test_go_on_ends_soon_and_goes_on_in_the_file(scene: Scene, confirmer: Confirmer) -> None:
    big = scene.write("big", os.urandom(10 << 20))
    scene.scan()
    big.chmod(0o600)
    scene.scan()
    looks = 0

    def busy() -> bool:
        nonlocal looks
        looks += 1
        return looks % 4 == 0

    scene.tree.opened.clear()
    for _ in range(50):
        if not confirmer.go_on(StopWhen(busy)):
            break
    assert waiting(scene) == 0
    assert 3 <= scene.tree.opened.count(os.fsencode(big)) <= 12, "it was read in pieces, and no piece twice"


@pytest.mark.usefixtures("no_budget")
def test_go_on_what_cannot_be_read_waits_and_holds_nothing_up(scene: Scene, confirmer: Confirmer) -> None:
    for name in ("a", "b"):
        (scene.real / name).chmod(0o600)
    scene.scan()
    (scene.real / "b").unlink()
    confirmer.go_on(NEVER)
    assert waiting(scene) == 1
    confirmer.go_on(NEVER)
    scene.scan()
    assert waiting(scene) == 0


@pytest.mark.usefixtures("no_budget")
def test_go_on_while_another_engine_is_at_work_notes_nothing_and_reads_again(scene: Scene) -> None:
    @contextlib.contextmanager
    def locked() -> Iterator[None]:
        if busy:
            raise EngineBusy("dsb is at work")
        yield

    busy = True
    confirmer = Confirmer(scene.bench, locked, lambda: time.time_ns() + HOUR_NS)
    (scene.real / "a").chmod(0o600)
    scene.scan()
    confirmer.go_on(NEVER)
    assert waiting(scene) == 1
    busy = False
    confirmer.go_on(NEVER)
    assert waiting(scene) == 0


def test_confirm_stopped_says_so_and_the_next_scan_goes_on(scene: Scene) -> None:
    (scene.real / "a").chmod(0o600)
    stopped = False
    scene.tree.before_list = lambda _path: None

    def stop_when_read(_path: bytes) -> None:
        nonlocal stopped
        stopped = True

    scene.tree.after_open = stop_when_read
    with pytest.raises(Interrupted, match="the next scan goes on there"):
        scene.scan(StopWhen(lambda: stopped))
    scene.tree.after_open = lambda _path: None
    assert scene.scan().unconfirmed == 0


def test_scan_what_is_believed_and_gone_with_its_source_is_not_told_as_skipped(scene: Scene) -> None:
    scene.write("file", "content")
    scene.scan()
    rows = [entry.row for entry in scene.catalogue.files.folder(b"/") if entry.name == b"file"]
    scene.catalogue.unconfirmed.doubt(rows)
    scene.real.rename(scene.place / "not mounted")
    scene.reporter.events.clear()
    assert scene.scan().skipped == 0
    assert scene.reporter.told(FileSkipped) == []
    assert scene.catalogue.unconfirmed.total()[0] == 1
