"""``make crash`` in little: 300 cuts. See ``tests/crash``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.filesystems import FILESYSTEMS

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
@pytest.mark.needs("loop", "gcc", "fallocate")
def test_nothing_is_lost_whenever_power_or_the_program_or_the_disk_fails() -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse here")
    # With ntfs-3g a rename is not one step, so that a cut may leave a disk which asks for 'dsb disk refresh'.
    names = [name for name, kind in FILESYSTEMS.items() if not kind.missing and name != "NTFS"]
    command = [sys.executable, "-m", "tests.crash", "--cuts", "300", "--filesystems", ",".join(names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=880)
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
    assert int(done.stdout.splitlines()[-1].split()[0]) >= 300
    assert "THE RIG ITSELF FAILED" not in done.stdout
