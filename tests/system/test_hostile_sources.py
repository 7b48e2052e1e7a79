"""Real users who change their part of a source while root scans and backs it up; names that were made to deceive."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.programs import NOBODY, Dsb

SECRET = b"root's secret\n"
_EXCHANGE, _HERE = 2, -100
ODD = b"[red]$HOME %s ${PATH} %(x)s\n<3>forged\x1b[31m\xff\xfe"


@contextlib.contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """A process of an ordinary user that gives two names to each other's things, as fast as it can."""
    library = ctypes.CDLL(None)
    names = os.fsencode(one), os.fsencode(other)
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        while library.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0:
            pass
        os._exit(1)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the attack was played to the end"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that an ordinary user reaches: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.mark.needs("root")
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_who_exchanges_his_things_for_links_gets_nothing_of_roots(place: Path, kind: str) -> None:
    dsb = Dsb(place / "catalogue")
    closed, home, disk = place / "closed", place / "source" / "home", place / "disk"
    for folder in (closed, home, disk):
        folder.mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "file").write_bytes(SECRET)
    if kind == "folder":
        (home / "his").mkdir()
        (home / "his" / "file").write_bytes(b"his")
        (home / "link").symlink_to(closed)
    else:
        (home / "his").write_bytes(b"x" * len(SECRET))
        (home / "link").symlink_to(closed / "file")
    for path in [home, *home.iterdir()]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    dsb.ok("source", "map", "/", place / "source")
    dsb.ok("disk", "add", "one", disk, "--folder")
    with exchanging(home / "his", home / "link"):
        for _ in range(15):
            assert dsb("update").status in (0, 3)
        dsb("backup", "one")
    found = {path.name for path in (disk / "distbackup-objects").glob("*/*")}
    assert hashlib.sha256(SECRET).hexdigest() not in found
    digest = hashlib.sha256(SECRET).digest()
    assert not any(digest in path.read_bytes() for path in (place / "catalogue").iterdir() if path.is_file())


def test_names_reach_no_terminal_and_nothing_expands_them(tmp_path: Path) -> None:
    dsb = Dsb(tmp_path / "catalogue")
    source = os.fsencode(tmp_path / "source")
    os.mkdir(source)
    os.mkdir(source + b"/" + ODD)
    os.mkfifo(source + b"/" + ODD + b"/" + ODD + b".meta-inf")
    with open(source + b"/" + ODD + b"/" + ODD, "wb") as file:
        file.write(b"content")
    dsb.ok("source", "map", "/", source)
    done = dsb("update")
    outputs = [done.out, done.err]
    for words in (("ls",), ("ls", "--problems"), ("info",), ("log", "/"), ("--json", "ls"), ("--json", "ls", "--problems")):
        listed = dsb(*words)
        assert listed.status == 0, listed
        outputs += [listed.out, listed.err]
    text = "".join(outputs)
    assert "\x1b" not in text
    assert "\n<3>forged" not in text
    assert "$HOME %s ${PATH} %(x)s" in text
    assert "[red]" in text
    assert os.environ.get("PATH", "?") not in text
