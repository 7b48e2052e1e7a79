"""Side files, as distbackup knows them: ``holiday.mov.meta-inf`` tells hash, priority and maxcopies of ``holiday.mov``.

The hash is a hint that nothing here believes: it may be out of date, or wrong on purpose. Contents are read by us.

They are backed up like any file: distbackup leaves them out, but then a restored tree would have lost them.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

SUFFIX = b".meta-inf"
LARGEST = 1 << 20
"""A side file of more bytes is none."""

_HASH = re.compile(r"[0-9a-fA-F]{64}")


class SideFile(NamedTuple):
    """What a side file says; None where it is silent. ``maxcopies`` 0 lifts a limit set for the folder."""

    digest: bytes | None
    priority: int | None
    maxcopies: int | None


def parse_side_file(content: bytes) -> SideFile:
    """Read a side file's JSON object.

    Raises:
        ValueError: it is none; the message says what is wrong.
    """
    try:
        mapping = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON") from error
    if not isinstance(mapping, dict):
        raise ValueError("it is no JSON object")
    digest = mapping.get("hash") or None
    if digest is not None and not (isinstance(digest, str) and _HASH.fullmatch(digest)):
        raise ValueError("its hash is not 64 hexadecimal digits")
    priority = mapping.get("priority")
    if priority is not None and not (type(priority) is int and 0 <= priority < 2**31):
        raise ValueError("its priority is no whole number from 0 up")
    maxcopies = mapping.get("maxcopies")
    if maxcopies == "inf":
        maxcopies = 0
    elif maxcopies is not None and not (type(maxcopies) is int and 1 <= maxcopies < 2**31):
        raise ValueError("its maxcopies is neither a whole number from 1 up nor 'inf'")
    return SideFile(bytes.fromhex(digest) if digest else None, priority, maxcopies)
