"""What patterns would take away: as many files as the next scan really takes away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd.engine.pattern_effect import PatternEffect, pattern_effect
from distbackupd.model.sources import FolderSettings
from tests.unit.engine.scenes import Scene, scene_at

FILES = ("cache/a", "cache/below/b", "x.tmp", "sub/x.tmp", "sub/keep/y.tmp", "sub/cache", "deep/cache/c", "nested/cache/d")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        for name in FILES:
            opened.write(name, name)
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "z.tmp").write_text("z")
        opened.map(b"/nested", tmp_path / "elsewhere")
        opened.set(b"/sub/keep", rules=("!*.tmp",))
        opened.set(b"/deep", noinherit=True)
        opened.scan()
        yield opened


def effect(scene: Scene, path: bytes, *rules: str) -> PatternEffect:
    return pattern_effect(scene.bench, path, FolderSettings(rules=rules))


@pytest.mark.parametrize(
    ("path", "rules", "files"),
    [
        (b"/", ["cache"], {0: 3}),
        (b"/", ["*.tmp"], {0: 2}),
        (b"/", ["nothing", "*.tmp", "/cache"], {1: 2, 2: 3}),
        (b"/", ["!x.tmp", "*.tmp"], {}),
        (b"/", ["sub"], {0: 3}),
        (b"/", ["*"], {0: 7}),
        (b"/sub", ["*.tmp"], {0: 1}),
        (b"/deep", ["cache"], {0: 1}),
        (b"/nested", ["*.tmp"], {0: 1}),
        (b"/not/there", ["*"], {}),
        (b"/", [], {}),
    ],
)
def test_pattern_effect_is_what_the_next_scan_takes_away(
    scene: Scene, path: bytes, rules: list[str], files: dict[int, int]
) -> None:
    found = effect(scene, path, *rules)
    assert (found.files, found.whole) == (files, True)
    before = {entry.path: entry.size for entry in scene.catalogue.files.listing(b"/") if entry.kind == 0}
    noinherit = path == b"/deep"
    scene.set(path, rules=tuple(rules), noinherit=noinherit)
    scene.scan()
    left = {entry.path for entry in scene.catalogue.files.listing(b"/") if entry.kind == 0}
    assert sum(found.files.values()) == len(before.keys() - left)
    assert sum(found.sizes.values()) == sum(size for name, size in before.items() if name not in left)


def test_pattern_effect_above_all_sources_is_none(scene: Scene) -> None:
    scene.catalogue.sources.unmap(b"/")
    assert effect(scene, b"/", "*").files == {}


def test_pattern_effect_ends_when_it_takes_too_long(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbackupd.engine.pattern_effect._LOOKED_AT", 2)
    monkeypatch.setattr("distbackupd.engine.pattern_effect._LONGEST", -1.0)
    found = effect(scene, b"/", "*")
    assert not found.whole
    assert sum(found.files.values()) <= 2


def test_pattern_effect_forgets_folders_that_it_left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distbackupd.engine.pattern_effect._REMEMBERED", 1)
    assert effect(scene, b"/", os.fsdecode(b"cache")).files == {0: 3}
