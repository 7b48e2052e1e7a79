"""The Debian package, and a root folder of one's own to install it into."""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}

# Lays a file system of our own over the machine's, in a mount namespace that ends with its last process.
_ENTER = """
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
for folder in run tmp; do mount -t tmpfs tmpfs "$1/root/$folder"; done
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mkdir "$1/root/run/lock"
echo ready
exec cat
"""


@functools.cache
def debian_package() -> Path:
    """The package of the tree as it is, built where it is not up to date."""
    built = subprocess.run([_ROOT / "packaging/build-deb.sh"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, f"{built.stdout}{built.stderr}"
    found = re.search(r"build/distbackupd_\S+\.deb", built.stdout)
    assert found, built.stdout
    return _ROOT / found[0]


class ThrowAwayRoot:
    """The machine's own root folder, in which anything may be changed. No systemd runs there."""

    def __init__(self, leader: int, folder: Path) -> None:
        self._leader = leader
        self.folder = folder

    def path(self, path: str) -> Path:
        """Where a file of it is seen from outside, while it lasts."""
        return Path(f"/proc/{self._leader}/root{self.folder}{path}")

    def attempt(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of bash's as root, with nothing from outside in its environment."""
        enter = ["nsenter", f"--target={self._leader}", "--mount", "--pid", "--", "chroot", str(self.folder)]
        return subprocess.run(
            [*enter, "bash", "-euc", script],
            env={**_ENVIRONMENT, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, script: str, **environment: str) -> str:
        """Run a script that must succeed; all it printed."""
        done = self.attempt(script, **environment)
        assert done.returncode == 0, f"{script!r} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def bring(self, file: Path) -> str:
        """Copy a file in; its path there."""
        self.path(f"/tmp/{file.name}").write_bytes(file.read_bytes())
        return f"/tmp/{file.name}"


@contextmanager
def throw_away_root(folder: Path) -> Iterator[ThrowAwayRoot]:
    """A root folder that is gone, with all that runs and is mounted in it, at the end, and when the tests are killed.

    Raises RuntimeError where the kernel does not give us one.
    """
    folder.mkdir()
    spaces = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
    with subprocess.Popen(
        [*spaces, "sh", "-c", _ENTER, "sh", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told = process.stdout.readline()
        if told != b"ready\n":
            raise RuntimeError(f"no root folder of our own here: {(told + process.stdout.read()).decode()}")
        (leader,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        try:
            yield ThrowAwayRoot(int(leader), folder / "root")
        finally:
            process.stdin.close()
            process.wait()
