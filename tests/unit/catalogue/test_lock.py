"""One engine at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distbackupd.catalogue.lock import current_activity, engine_lock
from distbackupd.model.errors import CatalogueTrouble, EngineBusy

_HOLDER = """
import sys
from pathlib import Path
from distbackupd.catalogue.lock import engine_lock
with engine_lock(Path(sys.argv[1]), "dsb backup photos-03"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_engine_lock_second_holder_is_refused_and_told_the_first(tmp_path: Path) -> None:
    assert current_activity(tmp_path) is None
    with engine_lock(tmp_path, "dsb backup photos-03"):
        assert current_activity(tmp_path) == f"dsb backup photos-03, pid {os.getpid()}"
        with (
            pytest.raises(EngineBusy, match=rf"\(dsb backup photos-03, pid {os.getpid()}\); try again"),
            engine_lock(tmp_path, "second"),
        ):
            pass
        assert current_activity(tmp_path) == f"dsb backup photos-03, pid {os.getpid()}"
    assert current_activity(tmp_path) is None
    with engine_lock(tmp_path, "second"):
        pass


def test_engine_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EngineBusy, match=f"pid {holder.pid}"), engine_lock(tmp_path, "second"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert current_activity(tmp_path) is None
    with engine_lock(tmp_path, "second"):
        assert (current_activity(tmp_path) or "").startswith("second, pid")


def test_engine_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), engine_lock(tmp_path, "first"):
        raise ValueError("x")
    with engine_lock(tmp_path, "second"):
        pass


def test_engine_lock_folder_that_is_none_is_catalogue_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CatalogueTrouble), engine_lock(tmp_path / "file", "x"):
        pass


def test_engine_lock_removes_what_one_that_died_left_half_written(tmp_path: Path) -> None:
    kept = {"distbackup.sqlite", "distbackup.sqlite-wal", "distbackup.sqlite.kept-1", "mine.new", "engine.lock"}
    left = {f"distbackup.sqlite.{kind}{ending}" for kind in ("spare", "new") for ending in ("", "-journal", "-wal", "-shm")}
    for name in kept | left:
        (tmp_path / name).touch()
    with engine_lock(tmp_path, "first"):
        assert {path.name for path in tmp_path.iterdir()} == kept
