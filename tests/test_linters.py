"""Linters, types, import contracts and the shipped scripts are tests like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
SHELL_SCRIPTS = [
    "packaging/build-deb.sh",
    "packaging/debian/postinst",
    "packaging/debian/postrm",
    "packaging/debian/prerm",
    "packaging/prepare.sh",
    ".ci/run",
    "tests/bed/container-boot",
    "tests/bed/container-rootfs",
    "tests/bed/private-udevd",
]


def check(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}", pytrace=False)


def test_ruff_finds_nothing() -> None:
    check(BIN / "ruff", "check")


def test_ruff_would_lay_out_nothing_anew() -> None:
    check(BIN / "ruff", "format", "--check", "--diff")


def test_mypy_finds_nothing() -> None:
    check(BIN / "mypy")


def test_mypy_finds_nothing_in_the_demo() -> None:
    check(BIN / "mypy", "packaging/demo/demo.py")


def test_import_contracts_hold() -> None:
    check(BIN / "lint-imports")


@pytest.mark.needs("shellcheck")
def test_shellcheck_finds_nothing() -> None:
    check("shellcheck", "--severity=warning", *SHELL_SCRIPTS)


@pytest.mark.needs("udevadm")
def test_udev_rules_parse() -> None:
    """Debian 13's udevadm verifies them; older ones cannot, and what a rule does is tested in ``tests/system``."""
    helped = subprocess.run(["udevadm", "--help"], capture_output=True, text=True, check=False).stdout
    if "verify" in helped:
        check("udevadm", "verify", "udev/75-distbackupd.rules")
