"""Loop devices and mounts that are gone when the process that made them is gone, however it ended.

A loop device here detaches itself when nobody has it open any more; whoever attached it keeps it open. Mounts are made in
a mount namespace of one's own (:func:`enter_private_namespace`).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import time

_libc = ctypes.CDLL(None, use_errno=True)
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_BLKFLSBUF = 0x1261
_AUTOCLEAR = 4
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 1 << 18
_ADDRESS = struct.Struct("<I")


class LoopDevice:
    """Attached to ``backing`` until :meth:`close`. ``path``: its node in /dev; ``number``: its minor number."""

    def __init__(self, backing: str) -> None:
        file = os.open(backing, os.O_RDWR | os.O_CLOEXEC)
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            while True:
                self.number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
                self.path = f"/dev/loop{self.number}"
                self._held = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
                # struct loop_config: descriptor, block size, struct loop_info64 (its flags at 52), reserved
                configuration = bytearray(304)
                struct.pack_into("<II", configuration, 0, file, 512)
                struct.pack_into("<I", configuration, 8 + 52, _AUTOCLEAR)
                try:
                    fcntl.ioctl(self._held, _LOOP_CONFIGURE, bytes(configuration))
                except OSError as error:
                    os.close(self._held)
                    if error.errno != errno.EBUSY:
                        raise
                else:
                    # The driver takes a short write for a whole one: a request must not reach the file in parts of which one
                    # fails, or nobody would hear of that.
                    with open(f"/sys/block/loop{self.number}/queue/max_sectors_kb", "w", encoding="ascii") as most:
                        most.write("64")
                    return
        finally:
            os.close(control)
            os.close(file)

    def forget(self) -> None:
        """What lies behind it was changed, or will be: nothing that was read from it is kept. It is not mounted."""
        fcntl.ioctl(self._held, _BLKFLSBUF)

    def close(self) -> None:
        """Nothing of it may be mounted any more."""
        os.close(self._held)


def enter_private_namespace() -> None:
    """What this process mounts from now on is seen by it and its children alone, and goes with them."""
    if _libc.unshare(_CLONE_NEWNS) or _libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "no mount namespace of one's own")


def mount(device: str, place: str, kind: str, options: str = "") -> None:
    """mount(2). Raises OSError."""
    if _libc.mount(device.encode(), place.encode(), kind.encode(), 0, options.encode()):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), device)


def unmount(place: str) -> None:
    """umount(2), as soon as nobody uses it any more. Raises OSError after ten seconds."""
    deadline = time.monotonic() + 10
    while _libc.umount2(place.encode(), 0):
        code = ctypes.get_errno()
        if code != errno.EBUSY or time.monotonic() > deadline:
            raise OSError(code, os.strerror(code), place)
        time.sleep(0.002)
