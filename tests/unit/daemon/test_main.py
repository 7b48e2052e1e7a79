from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from distbackupd import __version__
from distbackupd.config.settings import Settings
from distbackupd.daemon.main import main, run
from distbackupd.daemon.service import Engine, Options, Parts
from distbackupd.engine.ports import Reporter
from distbackupd.model.errors import CatalogueTrouble
from tests.fakes.engine import FakeEngine


def test_main_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"distbackupd {__version__}\n"


def test_main_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--frobnicate"])
    assert left.value.code == 2
    assert "unrecognized arguments: --frobnicate" in capsys.readouterr().err


def failing(error: Exception) -> Parts:
    def open_engine(_folder: Path, _settings: Settings, _reporter: Reporter) -> AbstractContextManager[Engine]:
        raise error

    return Parts(open_engine, lambda _post: pytest.fail("no monitor is needed"), list)


def test_run_catalogue_trouble_is_one_sentence_and_its_exit_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = failing(CatalogueTrouble("the catalogue is newer than this program"))
    assert run(Options(database=str(tmp_path), once=True), parts) == 5
    assert caplog.messages == ["the catalogue is newer than this program"]
    assert caplog.records[0].exc_info is None


def test_run_bug_is_told_with_its_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(Options(database=str(tmp_path), once=True), failing(ZeroDivisionError())) == 1
    assert caplog.records[0].exc_info is not None


def test_run_database_decides_where_the_lock_lies(tmp_path: Path) -> None:
    engine = FakeEngine()
    parts = Parts(engine.opened, lambda _post: pytest.fail("no monitor is needed"), list)
    assert run(Options(database=str(tmp_path / "catalogue"), once=True), parts) == 0
    assert (tmp_path / "catalogue" / "distbackupd.lock").exists()
