from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from distbackupd.model.errors import CatalogueTrouble, EngineBusy, UsageError

UNIT = Path(__file__).parents[3] / "systemd" / "distbackupd.service"

OWN_NAMESPACE = [
    "PrivateTmp",
    "PrivateDevices",
    "PrivateMounts",
    "ProtectSystem",
    "ProtectHome",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectProc",
    "ProtectHostname",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "TemporaryFileSystem",
    "BindPaths",
    "MountFlags",
    "PrivateNetwork",
    "RuntimeDirectory",
]
"""Settings that put the service into a mount namespace (its mounts would not show outside), or break udev."""


@pytest.fixture
def service() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser["Service"]


def test_unit_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("ExecStart=/usr/bin/distbackupd", "ExecStart=/bin/true"))
    verify = ["systemd-analyze", "verify", "--man=no", str(copy)]
    result = subprocess.run(verify, capture_output=True, text=True, check=False)
    told = [line for line in result.stderr.splitlines() if "distbackupd" in line]
    assert told == []
    assert result.returncode == 0, result.stderr


def test_unit_starts_the_daemon_and_reloads_by_signal(service: configparser.SectionProxy) -> None:
    assert service["ExecStart"] == "/usr/bin/distbackupd"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["Type"] == "notify"


@pytest.mark.parametrize("setting", OWN_NAMESPACE)
def test_unit_mounts_are_seen_by_the_host(service: configparser.SectionProxy, setting: str) -> None:
    assert setting not in service


def test_unit_errors_that_stay_are_not_retried(service: configparser.SectionProxy) -> None:
    stays = {UsageError.exit_code, CatalogueTrouble.exit_code, EngineBusy.exit_code}
    assert {int(code) for code in service["RestartPreventExitStatus"].split()} == stays
