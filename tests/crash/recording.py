"""Block devices that remember: every write and every flush of all of them, in one order.

Linux attaches a loop device to a file of a file system that this module serves itself (FUSE, spoken to ``/dev/fuse``
directly, so nothing has to be built or installed). What the loop device writes or flushes is noted before it is answered.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.crash.devices import mount, unmount

WRITE, FLUSH = 1, 2
_RECORD = struct.Struct("<BBxxIQ")
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_LARGEST_WRITE = 1 << 17
_FOREVER = 1 << 30
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _WRITE, _STATFS, _RELEASE, _FSYNC = 1, 2, 3, 14, 15, 16, 17, 18, 20
_FLUSH, _INIT, _INTERRUPT, _DESTROY, _BATCH_FORGET = 25, 26, 36, 38, 42


class Record(NamedTuple):
    """One thing that was asked of a device: ``kind`` WRITE, with the data, or FLUSH."""

    kind: int
    device: int
    offset: int
    data: bytes


class Failing:
    """Lets one write of a device fail, as a sector that cannot be written does; shared with whoever serves."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 16)

    def arm(self, device: int, nth: int) -> None:
        """The ``nth`` write from now on (1: the next) to this device fails once with EIO; 0: none does."""
        self._shared[:16] = struct.pack("<qq", device, nth)

    def strikes(self, device: int) -> bool:
        """Whether this write, which was just asked for, is the one."""
        chosen, left = struct.unpack("<qq", self._shared[:16])
        if left <= 0 or device != chosen:
            return False
        self._shared[:16] = struct.pack("<qq", chosen, left - 1)
        return bool(left == 1)


@contextmanager
def recorder(place: str, images: Sequence[str], log: str, failing: Failing | None = None) -> Iterator[list[str]]:
    """Files to attach loop devices to, one for each image, while the context lasts; ``log`` is begun anew.

    The images are written too: at the end they are as the devices were left.
    """
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    mount("crash", place, "fuse", f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other")
    server = os.fork()
    if not server:
        try:
            _Server(device, images, log, failing or Failing()).serve()
        finally:
            os._exit(0)
    os.close(device)
    try:
        yield [f"{place}/{number}" for number in range(len(images))]
    finally:
        unmount(place)
        os.waitpid(server, 0)


def read_log(log: str) -> list[Record]:
    """All that was recorded, in order."""
    with open(log, "rb") as file:
        content = file.read()
    records, place = [], 0
    while place < len(content):
        kind, device, length, offset = _RECORD.unpack_from(content, place)
        place += _RECORD.size
        records.append(Record(kind, device, offset, content[place : place + length]))
        place += length
    return records


class _Server:
    def __init__(self, device: int, images: Sequence[str], log: str, failing: Failing) -> None:
        self._device = device
        self._failing = failing
        self._images = [os.open(image, os.O_RDWR) for image in images]
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def serve(self) -> None:
        """Answer until the file system is unmounted."""
        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # gone when the one who records is gone
        while True:
            try:
                request = os.read(self._device, _LARGEST_WRITE + 4096)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return
            _, operation, unique, node = _IN.unpack_from(request)[:4]
            if operation in (_FORGET, _BATCH_FORGET, _INTERRUPT):
                continue
            try:
                answer, code = self._answer(operation, node, request[_IN.size :]), 0
            except OSError as error:
                answer, code = b"", error.errno or errno.EIO
            os.write(self._device, _OUT.pack(_OUT.size + len(answer), -code, unique) + answer)

    def _answer(self, operation: int, node: int, body: bytes) -> bytes:
        if operation == _WRITE:
            return self._write(node, body)
        if operation == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return os.pread(self._images[node - 2], size, offset)
        if operation == _FSYNC:
            os.write(self._log, _RECORD.pack(FLUSH, node - 2, 0, 0))
            return b""
        if operation == _LOOKUP:
            number = int(body.rstrip(b"\0")) if body.rstrip(b"\0").isdigit() else -1
            if not 0 <= number < len(self._images):
                raise OSError(errno.ENOENT, "")
            return struct.pack("<QQQQII", number + 2, 0, _FOREVER, _FOREVER, 0, 0) + self._attributes(number + 2)
        if operation == _GETATTR:
            return struct.pack("<QII", _FOREVER, 0, 0) + self._attributes(node)
        if operation == _OPEN:
            return struct.pack("<QII", 0, 2, 0)  # what was read may be kept
        if operation == _INIT:
            big_writes = 1 << 5
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 17, big_writes, 16, 12, _LARGEST_WRITE, 1, 0, 0, 0)
        if operation in (_RELEASE, _FLUSH, _DESTROY):
            return b""
        if operation == _STATFS:
            return struct.pack("<QQQQQIIII24x", 1 << 20, 1 << 20, 1 << 20, 99, 99, 4096, 255, 4096, 0)
        raise OSError(errno.ENOSYS, "")

    def _write(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        data = body[40 : 40 + size]
        if self._failing.strikes(node - 2):
            raise OSError(errno.EIO, "")
        os.write(self._log, _RECORD.pack(WRITE, node - 2, size, offset) + data)
        os.pwrite(self._images[node - 2], data, offset)
        return struct.pack("<II", size, 0)

    def _attributes(self, node: int) -> bytes:
        size, mode = (0, 0o40755) if node == 1 else (os.fstat(self._images[node - 2]).st_size, 0o100600)
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
