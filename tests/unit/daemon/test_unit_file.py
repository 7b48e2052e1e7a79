from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from distbackupd.config.settings import Settings
from distbackupd.model.errors import CatalogueTrouble, EngineBusy, UsageError

UNIT = Path(__file__).parents[3] / "systemd" / "distbackupd.service"


def settings(key: str) -> list[str]:
    """What the unit says for a key, each time it says it."""
    return [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{key}=")]


@pytest.mark.needs("systemd-analyze")
def test_unit_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("ExecStart=/usr/bin/distbackupd", "ExecStart=/bin/true"))
    verify = ["systemd-analyze", "verify", "--man=no", str(copy)]
    result = subprocess.run(verify, capture_output=True, text=True, check=False)
    told = [line for line in result.stderr.splitlines() if "distbackupd" in line]
    assert told == []
    assert result.returncode == 0, result.stderr


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize("name", ["distbackupd.service", "distbackupd-helper.service"])
def test_unit_is_exposed_no_more_than_2_in_10(name: str) -> None:
    assess = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT.with_name(name))]
    told = subprocess.run(assess, capture_output=True, text=True, check=True).stdout
    exposure = re.search(rf"Overall exposure level for {name}: ([\d.]+)", told)
    assert exposure, told
    assert float(exposure[1]) <= 2.0, told


def test_unit_starts_the_daemon_and_reloads_by_signal() -> None:
    assert settings("ExecStart") == ["/usr/bin/distbackupd --sandboxed"]
    assert settings("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert settings("Type") == ["notify"]


def test_unit_lets_the_daemon_write_where_disks_are_mounted() -> None:
    assert Settings().mount_folder in " ".join(settings("BindPaths")).split()


def test_unit_errors_that_stay_are_not_retried() -> None:
    stays = {UsageError.exit_code, CatalogueTrouble.exit_code, EngineBusy.exit_code}
    assert {int(code) for code in settings("RestartPreventExitStatus")[0].split()} == stays
