"""The folder that is restored to: opened without following a link on the way; and who else may write there."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from collections.abc import Iterator

from distbackupd.model.text import printable
from distbackupd.planning.other_writers import Level, Writer, other_writer

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


def said_of_other_writers(path: bytes) -> str | None:
    """A sentence about who else may change what is restored to an absolute path without links; None: nobody can."""
    found = other_writer(_levels(path), path, os.geteuid(), _has_others)
    if found is None:
        return None
    level, writer = found
    who = "everybody"
    if writer is Writer.OWNER:
        who = f"the user '{_user(level.uid)}'"
    elif writer is Writer.GROUP:
        who = f"the group '{_group(level.gid)}'"
    return (
        f"{who} may write in {printable(level.path)}, so what is restored can be exchanged there meanwhile and afterwards: "
        "better choose a folder that nobody else may write"
    )


def _levels(path: bytes) -> Iterator[Level]:
    above = b""
    for name in [b"", *(part for part in path.split(b"/") if part)]:
        above = above.rstrip(b"/") + b"/" + name
        try:
            state = os.lstat(above)
        except OSError:
            return  # it is going to be made
        yield Level(above, state.st_uid, state.st_gid, state.st_mode)


def _user(number: int) -> str:
    with contextlib.suppress(KeyError, OSError):
        return pwd.getpwuid(number).pw_name
    return str(number)


def _group(number: int) -> str:
    with contextlib.suppress(KeyError, OSError):
        return grp.getgrgid(number).gr_name
    return str(number)


def _has_others(number: int) -> bool:
    own = {0, os.geteuid()}
    try:
        named = {pwd.getpwnam(name).pw_uid for name in grp.getgrgid(number).gr_mem}
        return bool(named - own) or any(user.pw_gid == number and user.pw_uid not in own for user in pwd.getpwall())
    except (KeyError, OSError):
        return True


def _open_below(folder: int, name: bytes) -> int:
    with contextlib.suppress(FileNotFoundError):
        return os.open(name, _FOLDER, dir_fd=folder)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o777, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)
