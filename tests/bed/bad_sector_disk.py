"""A disk of which some bytes cannot be read: image -> nbdkit, asked range by range -> nbdfuse -> loop device."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bed.loop_disks import is_empty, run, unmount_all
from tests.bed.waiting import wait_until

_READ = "test $(($4 + $3)) -le {begin} -o $4 -ge {end} || { echo EIO medium error >&2; exit 1; }; "


def place_on(device: str, path: Path) -> tuple[int, int]:
    """Where the first bytes of a file lie on the mounted ext4 on this device: begin and end of one block, in bytes."""
    told = run("filefrag", "-b4096", "-v", path)
    first = re.search(r"(?m)^ +0: +\d+\.\. *\d+: +(\d+)\.\.", told)
    assert first, told
    begin = int(first[1]) * 4096
    return begin, begin + 4096


@contextmanager
def bad_sector_disk(folder: Path, image: Path, bad: tuple[int, int]) -> Iterator[str]:
    """The image as a plugged disk, whose node this gives, while this lasts; reads of ``bad`` (begin, end) fail with EIO."""
    front = folder / "front"
    front.mkdir(parents=True)
    begin, end = bad
    words = [
        f"get_size=stat --format=%s '{image}'",
        "pread="
        + _READ.replace("{begin}", str(begin)).replace("{end}", str(end))
        + f"dd if='{image}' bs=1M iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none",
        f"pwrite=dd of='{image}' bs=1M oflag=seek_bytes seek=$4 conv=notrunc status=none",
        "can_write=exit 0",
        "can_flush=exit 0",
        "flush=exit 0",
    ]
    server = ["nbdkit", "--foreground", "--exit-with-parent", "eval", *words]
    process = subprocess.Popen(
        ["nbdfuse", str(front / "disk"), "[", *server, "]"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    device = ""
    try:
        wait_until((front / "disk").exists, "nbdfuse is up")
        device = run("losetup", "--find", "--show", front / "disk")
        yield device
    finally:
        if device:
            unmount_all(device)
            subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)
            # Each request is a program of its own: what is to be written back takes its time.
            wait_until(lambda: is_empty(device), f"{device} is detached", 60)
        subprocess.run(["umount", "--lazy", front], capture_output=True, check=False)
        process.terminate()
        process.wait(timeout=10)
        os.rmdir(front)
