"""The folder that is restored to, opened without following a link on the way."""

from __future__ import annotations

import contextlib
import os

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_destination(path: bytes) -> int:
    """An ``O_PATH`` descriptor of the folder at a path without links, which is made if it is missing, with those above.

    From name to name, so that nobody leads it elsewhere after the path was looked at. Raises OSError: NotADirectoryError
    where a link or a file stands on the way.
    """
    here = os.open(b"/" if path.startswith(b"/") else b".", _FOLDER)
    try:
        for name in path.split(b"/"):
            if name not in (b"", b"."):
                below = _open_below(here, name)
                os.close(here)
                here = below
    except BaseException:
        os.close(here)
        raise
    return here


def _open_below(folder: int, name: bytes) -> int:
    with contextlib.suppress(FileNotFoundError):
        return os.open(name, _FOLDER, dir_fd=folder)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o777, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)
