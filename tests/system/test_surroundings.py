"""``dsb`` in the surroundings that others have: no language, a foreign one, a strict umask, nothing set for Python."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bed.programs import ROOT, Dsb
from tests.bed.waiting import wait_until
from tests.trees import assert_same_tree

_NAMES = (b"plain", b"\xc3\xbcml\xc3\xa4ut", b"no utf-8 \xff", b"line\nbreak")

_DAY = """
set -e
dsb() { "$PROGRAM" -m distbackupd.cli.main --config "$SETTINGS" -d "$CATALOGUE" "$@"; }
dsb source map / "$1"
dsb disk add one "$2" --folder
dsb backup -u one
dsb ls
dsb log "/$(printf '\\303\\274')ml*"
dsb restore one "$3"
"""


@pytest.mark.parametrize(
    ("language", "umask"),
    [
        ({}, 0o077),
        ({"LANG": "de_DE.UTF-8", "LC_TIME": "de_DE.UTF-8"}, 0o022),
        ({"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0o027),
    ],
    ids=["none", "one that is not installed", "ASCII"],
)
def test_a_day_whatever_the_language_and_the_umask(tmp_path: Path, language: dict[str, str], umask: int) -> None:
    source, disk, restored = (tmp_path / name for name in ("source", "disk", "restored"))
    for folder in (source, disk, restored):
        folder.mkdir()
    for name in _NAMES:
        (source / os.fsdecode(name)).write_bytes(name)
    dsb = Dsb(tmp_path / "catalogue")
    done = subprocess.run(
        ["sh", "-c", _DAY, "sh", source, disk, restored],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PROGRAM": sys.executable,
            "SETTINGS": str(dsb.config),
            "CATALOGUE": str(dsb.folder),
            **language,
        },
        umask=umask,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"one: copied 4 objects" in done.stdout
    assert done.stdout.count(b"ml\xc3\xa4ut") + done.stdout.count(rb"ml\xe4ut") == 2, "in ls and in log"
    assert_same_tree(source, restored)
    assert stat.S_IMODE(dsb.catalogue.stat().st_mode) & umask == 0


def test_watch_into_a_pipe_says_how_it_stands_at_once(tmp_path: Path) -> None:
    """Where no daemon runs; with one, see test_asking."""
    dsb = Dsb(tmp_path / "catalogue")
    (tmp_path / "source").mkdir()
    dsb.ok("source", "map", "/", tmp_path / "source")
    assert not any(name.startswith("PYTHON") for name in os.environ)
    with (tmp_path / "watched").open("w") as watched, dsb.start("status", "--watch", stdout=watched) as watching:
        try:
            wait_until(lambda: "No disk is known yet" in (tmp_path / "watched").read_text(), "the status", 15)
        finally:
            watching.terminate()


def test_make_lets_nothing_through_that_somebody_set_for_himself(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(f"include {ROOT}/Makefile\nshow:\n\t@env\n")
    theirs = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": "/nowhere", "LANG": "de_DE.UTF-8", "LC_ALL": "C", "OTHER": "kept"}
    shown = subprocess.run(
        ["make", "--no-print-directory", "--file", tmp_path / "Makefile", "show"],
        env={"PATH": os.environ["PATH"], **theirs},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "OTHER=kept\n" in shown
    assert not [line for line in shown.splitlines() if line.startswith(("PYTHON", "LANG", "LC_"))]
