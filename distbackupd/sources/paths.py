"""Paths of any length: the kernel takes at most 4095 bytes at once, trees can be deeper."""

from __future__ import annotations

import os

_AT_ONCE = 4000


def open_folder(path: bytes) -> int:
    """A descriptor of the folder at an absolute path of any length. Raises OSError as ``os.open`` does."""
    return _open_deep(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_path(path: bytes, flags: int) -> int:
    """``os.open`` for an absolute path of any length."""
    if len(path) <= _AT_ONCE:
        return os.open(path, flags)
    return _open_deep(path, flags)


def _open_deep(path: bytes, flags: int) -> int:
    base: int | None = None
    try:
        while len(path) > _AT_ONCE:
            cut = path.rindex(b"/", 1, _AT_ONCE)
            below = os.open(path[:cut], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base)
            if base is not None:
                os.close(base)
            base, path = below, path[cut + 1 :]
        return os.open(path, flags, dir_fd=base)
    finally:
        if base is not None:
            os.close(base)
