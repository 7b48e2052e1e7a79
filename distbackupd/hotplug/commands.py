"""mount(8) and umount(8). A replaceable piece: who mounts (this process, PID 1, udisks2) is decided here alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

_EVERYWHERE = ("nosuid", "nodev", "noexec", "noatime")

_OPTIONS = {
    "ext2": ("errors=remount-ro",),
    "ext3": ("errors=remount-ro",),
    "ext4": ("errors=remount-ro",),
    "vfat": ("umask=0077",),
    "exfat": ("umask=0077",),
    "ntfs": ("umask=0077",),
}
"""More options by file system: a damaged ext shall not be written on; on what has no owners, root alone reads."""

_TYPES = {"ntfs": "ntfs3,ntfs"}
"""Types to try in this order, where mount's own choice is not the best: the kernel's NTFS, then ntfs-3g."""


class CommandFailed(Exception):
    """mount or umount did not succeed; ``str(error)`` is what it said, in one line without a full stop."""


def mount(device: str, folder: bytes, filesystem_type: str, read_only: bool) -> None:
    """Mount the device. Raises CommandFailed.

    Without ``read_only`` a write-protected device may still end up mounted read-only, without an error.
    """
    options = [*_EVERYWHERE, *_OPTIONS.get(filesystem_type, ()), *(["ro"] if read_only else [])]
    types = ["-t", _TYPES[filesystem_type]] if filesystem_type in _TYPES else []
    _run(["mount", *types, "-o", ",".join(options), "--", device, folder])


def unmount(folder: bytes, lazily: bool = False) -> None:
    """Unmount what is mounted there. Raises CommandFailed: still in use, or not mounted.

    ``lazily`` is for a device that is gone: the mount disappears though files on it are open.
    """
    _run(["umount", *(["--lazy"] if lazily else []), "--", folder])


def _run(command: Iterable[str | bytes]) -> None:
    words = [os.fsencode(word) for word in command]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, env={**os.environ, "LC_ALL": "C"}, check=False
        )
    except OSError as error:
        raise CommandFailed(f"{os.fsdecode(words[0])} cannot be started: {error.strerror}") from error
    if done.returncode:
        raise CommandFailed(condense(done.stderr) or f"{os.fsdecode(words[0])} ended with status {done.returncode}")


def condense(stderr: bytes) -> str:
    """What mount said, without ``mount: /its/folder:`` before it and hints at dmesg behind it."""
    lines = [line.strip() for line in os.fsdecode(stderr).splitlines() if line.strip()]
    sentences = [line for line in lines if "dmesg(1)" not in line]
    text = (sentences or lines or [""])[0]
    program, separator, rest = text.partition(": ")
    if separator and program.removesuffix(".ntfs").removesuffix(".exfat") in ("mount", "umount"):
        place, separator, reason = rest.partition(": ")
        text = reason if separator and place.startswith("/") else rest
    return text.rstrip(".")
