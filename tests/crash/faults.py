"""Faults call by call: the product is killed, or a call of it fails, at the n-th call that changes a file.

``faults.c`` does it, loaded into this process and so into each of its children; without it there are power cuts only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

KILL, HALF, ERROR = 1, 2, 3
_SOURCE = Path(__file__).with_name("faults.c")


@dataclass(frozen=True)
class Fault:
    """At the ``at``-th call (0: never, calls are only counted) below ``below``: what happens, ``error``, and so often
    (0: from then on).
    """

    below: str
    at: int = 0
    what: int = KILL
    error: int = errno.EIO
    times: int = 1


def build(folder: Path) -> Path:
    """The library, built if it is older than its source. Raises RuntimeError: it cannot be."""
    library = folder / "faults.so"
    if library.exists() and library.stat().st_mtime > _SOURCE.stat().st_mtime:
        return library
    if shutil.which("gcc") is None:
        raise RuntimeError("gcc is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"faults.so.{os.getpid()}"
    done = subprocess.run(
        ["gcc", "-O2", "-w", "-shared", "-fPIC", "-o", fresh, _SOURCE, "-ldl"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    os.rename(fresh, library)
    return library


def is_loaded() -> bool:
    """Whether this process was started with the library."""
    return hasattr(ctypes.CDLL(None), "crash_arm")


def arm(fault: Fault | None) -> None:
    """From now on in this process and its children; None: no more."""
    if not is_loaded():
        return
    library = ctypes.CDLL(None)
    if fault is None:
        library.crash_disarm()
        return
    library.crash_arm(fault.below.encode(), 1, ctypes.c_long(fault.at), fault.what, fault.error, ctypes.c_long(fault.times))


def calls() -> int:
    """How many calls were counted since it was armed."""
    return int(ctypes.CDLL(None).crash_count()) if is_loaded() else 0


def struck() -> str:
    """The call that was hit, such as ``fsync``; empty: none."""
    if not is_loaded():
        return ""
    library = ctypes.CDLL(None)
    library.crash_name.restype = ctypes.c_char_p
    return str(library.crash_name().decode())
