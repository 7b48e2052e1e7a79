"""The short form of ``make soak``: half a minute of load with each of the troubles."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.bed.programs import ROOT


@pytest.mark.needs("loop", "udevd", "ext4")
@pytest.mark.timeout(480)
def test_nothing_is_missed_and_nothing_left_after_half_a_minute_of_load() -> None:
    command = [sys.executable, "-m", "tests.soak", "30s", "8s"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False, timeout=460)
    assert done.returncode == 0, done.stdout + done.stderr
    for trouble in ("overflow", "lose_udev_events", "suspend"):
        assert f"'{trouble}': " in done.stdout
    assert "nothing was missed" in done.stdout
