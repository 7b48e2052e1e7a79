from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

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

    return parts(open_engine)


class SleeplessLogin:
    """A machine without logind."""

    def start(self, going_down: Callable[[], None], awake: Callable[[], None]) -> None:
        pytest.fail("nobody is told")

    def inhibited(self, why: str) -> AbstractContextManager[object]:
        return nullcontext()

    def stop(self) -> None:
        pytest.fail("it was never started")


def parts(open_engine: Callable[[Path, Settings, Reporter], AbstractContextManager[Engine]]) -> Parts:
    """Parts of which only the engine is used."""

    def not_needed(*_: object) -> Any:
        pytest.fail("nobody needs that here")

    return Parts(open_engine, not_needed, list, not_needed, SleeplessLogin)


def test_run_catalogue_trouble_is_one_sentence_and_its_exit_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = failing(CatalogueTrouble("the catalogue is newer than this program"))
    assert run(Options(database=str(tmp_path), once=True), broken) == 5
    assert caplog.messages == ["the catalogue is newer than this program"]
    assert caplog.records[0].exc_info is None


def test_run_bug_is_told_with_its_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(Options(database=str(tmp_path), once=True), failing(ZeroDivisionError())) == 1
    assert caplog.records[0].exc_info is not None


def test_run_database_decides_where_the_lock_lies(tmp_path: Path) -> None:
    engine = FakeEngine()
    assert run(Options(database=str(tmp_path / "catalogue"), once=True), parts(engine.opened)) == 0
    assert (tmp_path / "catalogue" / "distbackupd.lock").exists()
