"""Taking over what distbackup knows. With the real distbackup: ``tests/system/test_adoptions.py``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine.adoption import adopt
from distbackupd.model.adoption import FormerDisk, FormerFile
from distbackupd.model.errors import Interrupted
from distbackupd.model.files import EntryKind
from distbackupd.model.sources import Source
from tests.fakes.stopping import StopWhen
from tests.unit.engine.scenes import NEVER, Scene, scene_at, sha256

UUID = "5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11"
MOMENT = 1_700_000_000_123_456_789


@dataclass
class FakeFormer:
    """What distbackup knows, as a test says."""

    mapped: list[Source]
    files: list[FormerFile] = field(default_factory=list)
    held: list[bytes] = field(default_factory=list)
    set: dict[bytes, dict[str, Any]] = field(default_factory=dict)

    def sources(self) -> list[Source]:
        return self.mapped

    def settings(self) -> dict[bytes, dict[str, Any]]:
        return self.set

    def disks(self) -> list[FormerDisk]:
        return [FormerDisk(0, UUID, "one", b"", "1234-ABCD", "ext4", 10**9)]

    def holdings(self, disk: FormerDisk) -> Iterator[tuple[bytes, int]]:
        yield from sorted((sha256(content), len(content)) for content in self.held)

    def file(self, path: bytes) -> FormerFile | None:
        return next((file for file in self.files if file.path == path and not file.target), None)

    def below(self, path: bytes) -> Iterator[FormerFile]:
        top = path.rstrip(b"/") + b"/"
        yield from (file for file in self.files if file.path == path or file.path.startswith(top))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        yield opened


def former(scene: Scene, *files: FormerFile, held: list[bytes] | None = None) -> FakeFormer:
    return FakeFormer([Source(b"/", os.fsencode(scene.real))], list(files), held or [])


def file(path: bytes, content: bytes, mtime_ms: int = MOMENT // 10**6, **more: Any) -> FormerFile:
    return FormerFile(path, len(content), mtime_ms, 1, sha256(content) if content else None, 1, 0, **more)


@pytest.mark.parametrize(("off", "hashed"), [(0, []), (-1, []), (1, []), (2, [b"/a"]), (-1000, [b"/a"])])
def test_adopt_times_are_the_same_to_the_millisecond(scene: Scene, off: int, hashed: list[bytes]) -> None:
    path = scene.write("a", "content")
    os.utime(path, ns=(MOMENT, MOMENT))
    adoption = adopt(scene.bench, former(scene, file(b"/a", b"content", MOMENT // 10**6 + off)), NEVER)
    assert adoption.hashes == (0 if hashed else 1)
    assert [name.removeprefix(os.fsencode(scene.real)) for name in scene.tree.hashed] == hashed
    assert scene.digest("/a") == sha256("content")


def test_adopt_side_file_of_today_is_not_believed(scene: Scene) -> None:
    path = scene.write("a", "content")
    os.utime(path, ns=(MOMENT, MOMENT))
    scene.write("a.meta-inf", '{"hash": "' + sha256("other").hex() + '"}')
    adopt(scene.bench, former(scene, file(b"/a", b"content")), NEVER)
    assert scene.digest("/a") == sha256("content")


def test_adopt_what_its_disks_hold_lives_as_far_as_files_have_it(scene: Scene) -> None:
    path = scene.write("a", "content")
    os.utime(path, ns=(MOMENT, MOMENT))
    adopt(scene.bench, former(scene, file(b"/a", b"content"), held=[b"content", b"of nobody"]), NEVER)
    disk = scene.catalogue.disks.find("one")
    assert disk is not None
    assert (disk.uuid, disk.filesystem_uuid, disk.capacity) == (UUID, "1234-ABCD", 10**9)
    assert (disk.catalogue_generation, disk.clean) == (-1, False)
    assert set(scene.held(disk)) == {sha256("content"), sha256("of nobody")}
    facts = {scene.catalogue.objects.digests([item.id])[item.id][0]: item for item in scene.catalogue.objects.facts()}
    assert facts[sha256("content")].orphaned_at == 0
    assert facts[sha256("of nobody")].orphaned_at > 0


def test_adopt_interrupted_says_how_it_goes_on_and_does(scene: Scene) -> None:
    for number in range(30):
        os.utime(scene.write(f"{number}/a", f"content {number}"), ns=(MOMENT, MOMENT))
    database = former(scene, *(file(b"/%d/a" % number, b"content %d" % number) for number in range(30)))
    calls = iter(range(10**6))
    with pytest.raises(Interrupted, match="'dsb import-distbackup' goes on there"):
        adopt(scene.bench, database, StopWhen(lambda: next(calls) > 10))
    assert adopt(scene.bench, database, NEVER).disks == ["one"]
    assert scene.tree.hashed == []
    assert len(scene.paths()) == 60


def test_adopt_what_cannot_be_seen_is_made_up_from_what_was_known(scene: Scene) -> None:
    """A source that is not there: folders, times and priorities as far as anybody knows them."""
    scene.write("here")
    database = former(
        scene,
        file(b"/far/deep/er/a", b"a")._replace(priority=3, maxcopies=2),
        file(b"/far/deep/empty", b""),
        file(b"/far/link", b"", target=b"deep"),
        file(b"/far/unknown", b"x")._replace(digest=None),
        file(b"/farther", b"of another source"),
    )
    database.mapped.append(Source(b"/far", os.fsencode(scene.place / "far")))
    adoption = adopt(scene.bench, database, NEVER)
    assert adoption.unseen == 3
    entries = {entry.path: entry for entry in scene.catalogue.files.restore_entries(b"/far")}
    assert {path: entry.kind for path, entry in entries.items()} == {
        b"/far/deep": EntryKind.FOLDER,
        b"/far/deep/er": EntryKind.FOLDER,
        b"/far/deep/er/a": EntryKind.FILE,
        b"/far/deep/empty": EntryKind.FILE,
        b"/far/link": EntryKind.SYMBOLIC_LINK,
    }
    assert entries[b"/far/deep/er/a"].digest == sha256("a")
    assert entries[b"/far/deep/er/a"].mtime_ns == MOMENT // 10**6 * 10**6
    assert entries[b"/far/link"].target == b"deep"
    (fact,) = (item for item in scene.catalogue.objects.facts() if item.priority == 3)
    assert (fact.maxcopies, fact.orphaned_at) == (2, 0)
    assert "/farther" not in scene.paths()
    # The source comes back with one of its folders gone.
    (scene.place / "far" / "deep").mkdir(parents=True)
    (scene.place / "far" / "deep" / "new").write_text("new")
    scene.scan()
    assert {path for path in scene.paths() if path.startswith("/far/")} == {"/far/deep", "/far/deep/new"}
