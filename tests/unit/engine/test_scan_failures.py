from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distbackupd.engine.overview import idle_sentence, protection
from distbackupd.engine.scan_failures import failed_scan
from distbackupd.model.errors import CatalogueTrouble, Interrupted
from distbackupd.model.events import ScanFailed
from distbackupd.model.problems import FailedScan
from tests.fakes.stopping import StopWhen
from tests.unit.engine.scenes import Scene, scene_at


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_at(tmp_path) as opened:
        opened.write("a")
        yield opened


def fail_with(scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception, **options: Any) -> None:
    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(type(scene.catalogue.files), "folder", fail)
        with pytest.raises(type(error)):
            scene.scan(**options)


def test_a_failed_scan_is_remembered_and_told_once_until_a_whole_one_succeeds(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failed_scan(scene.bench) is None
    fail_with(scene, monkeypatch, CatalogueTrouble("there is no room left for the catalogue"))
    since = scene.clock.now()
    fail_with(scene, monkeypatch, OverflowError("too large"))
    assert failed_scan(scene.bench) == FailedScan(since, "unexpectedly (OverflowError: too large)")
    assert scene.reporter.told(ScanFailed) == [ScanFailed("there is no room left for the catalogue")]
    scene.scan(folders=[bytes(scene.real)])
    state = protection(scene.bench)
    assert state.failed_scan == FailedScan(since, "unexpectedly (OverflowError: too large)"), "not everything was looked at"
    assert "the last scan failed; what changed" in idle_sentence(state), "without the reason, for everybody reads it"
    scene.scan()
    assert failed_scan(scene.bench) is None
    assert "failed" not in idle_sentence(protection(scene.bench))
    fail_with(scene, monkeypatch, OverflowError("too large"), folders=[bytes(scene.real)])
    assert len(scene.reporter.told(ScanFailed)) == 2


def test_an_interrupted_scan_is_no_failure(scene: Scene) -> None:
    with pytest.raises(Interrupted):
        scene.scan(stop=StopWhen(lambda: True))
    assert failed_scan(scene.bench) is None


def test_a_simulated_scan_remembers_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(scene, monkeypatch, OverflowError("too large"), simulate=True)
    assert failed_scan(scene.bench) is None
    assert scene.reporter.told(ScanFailed) == []
