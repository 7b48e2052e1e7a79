"""Extended attributes, as far as they can be had: what cannot is told and left out, and never keeps a file from a backup."""

from __future__ import annotations

import errno
import os

_KEPT = (b"user.", b"security.", b"system.posix_acl_")
"""Not ``trusted.``: only who may do everything (CAP_SYS_ADMIN) sees those, and the daemon may not."""
_NOTHING_THERE = (errno.ENODATA, errno.ENOTSUP, errno.ENOENT, errno.EPERM, errno.EACCES)
_MOST_BYTES = 128 << 10
"""Of all names and values of one entry. A value has at most 64 KiB, but some file systems take thousands of them."""


def read_xattrs(path: bytes, follow: bool) -> tuple[tuple[tuple[bytes, bytes], ...], list[str]]:
    """Names and values by name, and what is left out with the reason. Only what a backup is meant to keep is read."""
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return (), []
        return (), [f"its extended attributes cannot be read ({error.strerror}), so it is kept without them"]
    if not names:
        return (), []
    found: list[tuple[bytes, bytes]] = []
    lost: list[str] = []
    room = _MOST_BYTES
    for name in sorted(map(os.fsencode, names)):
        if not name.startswith(_KEPT):
            continue
        try:
            value = os.getxattr(path, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in _NOTHING_THERE:
                lost.append(error.strerror or str(error))
            continue
        room -= len(name) + len(value)
        if room < 0:
            lost.append("they are larger than all that is kept of one file")
            break
        found.append((name, value))
    words = [f"some of its extended attributes cannot be kept ({', '.join(dict.fromkeys(lost))})"] if lost else []
    return tuple(found), words
