from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distbackupd.catalogue.lock import SERVICE_LOCK_NAME
from distbackupd.daemon.presence import presence
from distbackupd.model.errors import CatalogueTrouble, EngineBusy


def test_presence_second_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with (
        presence(tmp_path),
        pytest.raises(EngineBusy, match=re.escape(f"(process {os.getpid()}) serves this catalogue")) as caught,
        presence(tmp_path),
    ):
        pytest.fail("two at once")
    assert caught.value.exit_code == 6


def test_presence_over_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with presence(tmp_path / "new" / "folder"):
            assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o700


def test_presence_file_of_a_killed_daemon_locks_nobody_out(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom distbackupd.daemon.presence import presence\n"
        "with presence(Path(sys.argv[1])):\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    assert (tmp_path / SERVICE_LOCK_NAME).exists()
    with presence(tmp_path):
        assert (tmp_path / SERVICE_LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_presence_no_folder_can_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogueTrouble, match="the catalogue's folder cannot be used"), presence(tmp_path / "file" / "x"):
        pytest.fail("no folder")
