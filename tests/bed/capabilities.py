"""What this machine can do for a test. Each probe really tries; it gives the reason why not, or None."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bed.container import container

PRIVATE_UDEVD = Path(__file__).with_name("private-udevd")
"""The script that runs a command beside a udevd of its own."""

POLKITD = Path("/usr/lib/polkit-1/polkitd")
"""Where Debian has it; nobody needs it in his path."""


DISTBACKUP = Path(__file__).parents[2] / "build/distbackup/bin/dsb"
"""distbackup's own ``dsb``."""


def inside_private_udevd() -> bool:
    """Whether this process was started by ``private-udevd``."""
    return os.environ.get("PRIVATE_UDEVD") == "1"


def _root() -> str | None:
    return None if os.geteuid() == 0 else "needs root"


def _loop() -> str | None:
    missing = _root() or _commands("losetup", "mount", "umount", "blkid")
    if missing:
        return missing
    with tempfile.NamedTemporaryFile() as image:
        image.truncate(1 << 20)
        attached = _try("losetup", "--find", "--show", image.name)
        if attached.returncode:
            return f"no loop devices here: {attached.stderr.strip()}"
        _try("losetup", "--detach", attached.stdout.strip())
    return None


def _udevd() -> str | None:
    missing = _root() or _commands("unshare", "udevadm")
    if missing or inside_private_udevd():
        return missing
    started = _try(str(PRIVATE_UDEVD), "true")
    return None if started.returncode == 0 else f"no udevd of our own here: {started.stderr.strip()}"


def _nbd() -> str | None:
    if not Path("/dev/fuse").exists():
        return "no /dev/fuse here"
    return probe("loop") or _commands("nbdkit", "nbdfuse")


def _filesystem(name: str) -> str | None:
    missing = probe("loop") or _commands(f"mkfs.{name}")
    if missing:
        return missing
    _try("modprobe", "--quiet", name) if shutil.which("modprobe") else None
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    return None if name in known else f"this kernel has no {name}"


def _container() -> str | None:
    missing = probe("loop") or _commands(
        "findmnt", "journalctl", "mmdebstrap", "nsenter", "setpriv", "systemd-nspawn", "unshare"
    )
    if missing:
        return missing
    try:
        with container():
            return None
    except (RuntimeError, AssertionError) as error:
        return f"no container boots here: {error}"


def _polkitd() -> str | None:
    missing = _root() or _commands("unshare", "setpriv", "dbus-daemon")
    return missing or (None if POLKITD.exists() else "not installed: polkitd")


def _commands(*names: str) -> str | None:
    missing = [name for name in names if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


def _try(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _desktop() -> str | None:
    missing = _commands("Xvfb", "busctl", "dbus-daemon", "dunst", "import", "xdotool")
    if missing:
        return missing
    if not any(Path("/usr/lib").glob("*/xfce4/notifyd/xfce4-notifyd")):
        return "not installed: xfce4-notifyd"
    # Debian's own Python has dbusmock, whichever runs the tests.
    found = _try("/usr/bin/python3", "-c", "import dbusmock")
    return None if found.returncode == 0 else "not installed: python3-dbusmock"


def _distbackup() -> str | None:
    return None if DISTBACKUP.exists() else "no distbackup here: 'make build/distbackup/complete' installs it"


_PROBES: dict[str, Callable[[], str | None]] = {
    "root": _root,
    "distbackup": _distbackup,
    "loop": _loop,
    "udevd": _udevd,
    "polkitd": _polkitd,
    "nbd": _nbd,
    "desktop": _desktop,
    "container": _container,
    "ext4": functools.partial(_filesystem, "ext4"),
    "xfs": functools.partial(_filesystem, "xfs"),
    "btrfs": functools.partial(_filesystem, "btrfs"),
}


@functools.cache
def probe(need: str) -> str | None:
    """Why this machine cannot give ``need`` (root, loop, ext4, distbackup and others above); None if it can.

    Any other word is the name of a command that must be installed (``git``, ``systemd-analyze``).
    """
    known = _PROBES.get(need)
    return known() if known else _commands(need)
