"""What a power cut leaves of a device: all that was flushed, and of the rest nothing, all, or any part.

A moment ``n`` is the one after the first ``n`` records of a log. What a device was told before its last flush by then is
safe; each policy decides otherwise what arrived of the rest.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.crash.recording import FLUSH, WRITE, Record

NOTHING, ALL, RANDOM, TORN, LATE = "nothing", "all", "random", "torn", "late"
POLICIES = (NOTHING, ALL, RANDOM, TORN, LATE)
"""None of what was not flushed arrived; all; any blocks of 4 KiB; all but the last sectors of the last write; all but
some of the last writes, as a device that reorders leaves it."""

_BLOCK, _SECTOR = 4096, 512
_KEEP_SIZE_AND_PUNCH_HOLE = 3


class Patch(NamedTuple):
    """Bytes that lie at a place of a device."""

    offset: int
    data: bytes


Image = list[Patch]
"""All that is not zero in a device."""


def load(path: str) -> Image:
    """The content of a sparse file."""
    image: Image = []
    with open(path, "rb") as file:
        size, place = os.fstat(file.fileno()).st_size, 0
        while place < size:
            try:
                start = os.lseek(file.fileno(), place, os.SEEK_DATA)
            except OSError:
                break
            place = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            image.append(Patch(start, os.pread(file.fileno(), place - start, start)))
    return image


def store(path: str, size: int, *layers: Sequence[Patch]) -> None:
    """Make a sparse file hold these, later ones over earlier ones, and zeros elsewhere."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.truncate(descriptor, size)
        _punch(descriptor, size)
        for layer in layers:
            for patch in layer:
                os.pwrite(descriptor, patch.data, patch.offset)
    finally:
        os.close(descriptor)


def survivors(records: Sequence[Record], moment: int, device: int, policy: str, seed: str) -> list[Patch]:
    """What of the first ``moment`` records the device holds after a power cut. The same seed gives the same."""
    moment = min(moment, len(records))
    flushed = max((i for i in range(moment) if records[i].kind == FLUSH and records[i].device == device), default=-1)
    writes = [(i, records[i]) for i in range(moment) if records[i].kind == WRITE and records[i].device == device]
    safe = [Patch(record.offset, record.data) for i, record in writes if i < flushed]
    loose = [Patch(record.offset, record.data) for i, record in writes if i > flushed]
    dice = random.Random(f"{seed} {device}")
    return safe + _arrived(loose, policy, dice)


def digest(data: bytes) -> bytes:
    """For :func:`fingerprint`."""
    return hashlib.blake2b(data, digest_size=16).digest()


def fingerprint(patches: Sequence[Patch], known: Mapping[int, bytes]) -> bytes:
    """Equal for patches that make equal devices of equal ones. ``known``: digests of data that lives on, by id."""
    whole = hashlib.blake2b(digest_size=16)
    for patch in patches:
        whole.update(patch.offset.to_bytes(8, "big") + (known.get(id(patch.data)) or digest(patch.data)))
    return whole.digest()


def _arrived(loose: list[Patch], policy: str, dice: random.Random) -> list[Patch]:
    if policy == NOTHING or not loose:
        return []
    if policy == ALL:
        return loose
    if policy == TORN:
        torn = _parts(loose[-1], _SECTOR)
        return loose[:-1] + torn[: dice.randrange(len(torn))]
    if policy == LATE:
        return [patch for i, patch in enumerate(loose) if len(loose) - i > 4 or dice.random() < 0.5]
    return [part for patch in loose for part in _parts(patch, _BLOCK) if dice.random() < 0.5]


def _parts(patch: Patch, unit: int) -> list[Patch]:
    return [Patch(patch.offset + i, patch.data[i : i + unit]) for i in range(0, len(patch.data), unit)]


def _punch(descriptor: int, size: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).fallocate(
        descriptor, _KEEP_SIZE_AND_PUNCH_HOLE, ctypes.c_int64(0), ctypes.c_int64(size)
    ):
        raise OSError(ctypes.get_errno(), "fallocate")
