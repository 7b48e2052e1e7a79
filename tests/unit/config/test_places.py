from __future__ import annotations

from pathlib import Path

import pytest

from distbackupd.config.places import catalogue_folder


def test_catalogue_folder_explicit_wins(tmp_path: Path) -> None:
    environment = {"DISTBACKUP_PATH": "/elsewhere", "HOME": "/home/ada"}
    assert catalogue_folder(str(tmp_path), environment, tmp_path) == tmp_path


def test_catalogue_folder_named_file_means_its_folder(tmp_path: Path) -> None:
    assert catalogue_folder(str(tmp_path / "distbackup.sqlite"), {}) == tmp_path
    assert catalogue_folder(None, {"DISTBACKUP_PATH": str(tmp_path / "distbackup.sqlite")}) == tmp_path


def test_catalogue_folder_folder_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "distbackup.sqlite").mkdir()
    assert catalogue_folder(str(tmp_path / "distbackup.sqlite"), {}) == tmp_path / "distbackup.sqlite"


def test_catalogue_folder_relative_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert catalogue_folder("backup", {}) == tmp_path / "backup"


def test_catalogue_folder_environment_before_system(tmp_path: Path) -> None:
    assert catalogue_folder(None, {"DISTBACKUP_PATH": "/elsewhere"}, tmp_path) == Path("/elsewhere")


def test_catalogue_folder_system_where_it_exists(tmp_path: Path) -> None:
    assert catalogue_folder(None, {"HOME": "/home/ada"}, tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HOME": "/h"}, "/h/.config/distbackup"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/x/distbackup"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "x"}, "/h/.config/distbackup"),
    ],
)
def test_catalogue_folder_no_system_is_the_users(tmp_path: Path, environment: dict[str, str], folder: str) -> None:
    assert catalogue_folder(None, environment, tmp_path / "none") == Path(folder)
